"""Promises from calibration to what is scored: the file, the commands, and all that makes a promise not apply."""

import base64
import csv
import html
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import banks
import caches
import numpy as np
import pytest
from commands import refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from models import save_again, tiny_model
from places import TINY

import fastuq
from fastuq import cli
from fastuq.cache import FeatureCache, cache_features
from fastuq.datasets import ImageSet
from fastuq.errors import InputError
from fastuq.scoring.calibration.overlap import digests_of
from fastuq.scoring.calibration.promise import _plain, _stamp
from fastuq.scoring.calibration.risk import split
from fastuq.scoring.calibration.temperature import probabilities
from fastuq.scoring.metrics import brier, ece, nll
from fastuq.scoring.scores import fit_reference

MODEL = ["--model", str(TINY)]
pytestmark = pytest.mark.usefixtures("workplace")


@cache
def files():
    """Return the caches of three data sets as bytes: 400 labelled images, 150 others, and 150 without labels.

    Labels are the model's own predictions, but for a tenth of them, most where its largest output is small.
    """
    import tempfile

    found = {}
    for name, count, seed in (("held", 400, 1), ("new", 150, 2), ("bare", 150, 3)):
        pixels, rows = caches.images(count, seed=seed).images, caches.features(count, seed=seed)
        result = fastuq.score(tiny_model(), rows)
        rng = np.random.default_rng(seed)
        labels = result.plain_prediction.copy()
        wrong = rng.choice(count, count // 10, replace=False, p=_weights(result.plain.max(axis=1)))
        labels[wrong] = (labels[wrong] + 1) % 100
        images = ImageSet(pixels, None if name == "bare" else labels, tiny_model().class_names, name)
        with tempfile.TemporaryDirectory() as folder:
            cache_features(images, tiny_model(), Path(folder, "c.h5")).close()
            found[name] = Path(folder, "c.h5").read_bytes()
    return found


def _weights(largest):
    weights = np.argsort(np.argsort(-largest)) ** 3.0 + 1
    return weights / weights.sum()


@pytest.fixture(autouse=True)
def held_out(workplace):
    for name, data in files().items():
        Path(f"{name}.h5").write_bytes(data)


def calibrated(**options):
    with FeatureCache.open("held.h5") as held:
        return fastuq.calibrate(tiny_model(), held, **{"risk": 0.15, "sets": 0.8, **options})


def kept(promise, name="new", model=None, **options):
    with FeatureCache.open(f"{name}.h5") as features:
        return fastuq.keep_by_promise(promise, model or tiny_model(), features, **options)


def test_a_promise_is_what_its_parts_are():
    promise = calibrated(num_iter=9, seed=4)
    with FeatureCache.open("held.h5") as held:
        result = fastuq.score(
            tiny_model(), held, rule="score", score="max", threshold=promise.options.threshold, num_iter=9, seed=4
        )
    assert (promise.samples, promise.tested, promise.risk, promise.delta) == (400, 320, 0.15, 0.05)
    assert 0 < promise.errors < 0.15 * promise.kept
    assert result.score is not None
    assert np.array_equal(promise.scores, np.sort(result.score))
    assert promise.missing == tuple(
        name for n, name in enumerate(tiny_model().class_names) if n not in result.labels.tolist()
    )
    assert promise.options == result.options
    assert promise.before is not None
    assert promise.before["nll"] == pytest.approx(result.summary()["nll"], rel=1e-5)
    assert promise.after["nll"] < promise.before["nll"]
    assert promise.words.startswith("of those kept at most 15% are wrong, at 95% confidence, for images like those of")


def test_it_is_applied_as_it_was_made():
    promise = calibrated()
    found = kept(promise)
    result = found.result
    assert result.options == promise.options
    assert np.array_equal(result.keep, result.score >= promise.options.threshold)
    assert 0 < result.keep.sum() < 150
    with FeatureCache.open("new.h5") as new:
        mean = fastuq.score(tiny_model(), new).mean
    assert np.array_equal(result.sets, promise.sets.of(mean))
    assert not found.alarm.sounds
    assert found.words == f"promised: {promise.words}"
    p, right, summary = probabilities(mean, promise.temperature), result.top == result.labels, result.summary()
    assert summary["nll"] == pytest.approx(nll(p, result.labels), rel=1e-5)
    assert summary["brier"] == pytest.approx(brier(p, result.labels), rel=1e-5)
    assert summary["ece"] == pytest.approx(ece(p.max(axis=1), right), rel=1e-5)
    assert kept(promise, "bare").result.summary()["ece"] is None


def test_the_file_says_the_same():
    for options in ({"sets": None}, {"sets": 0.8, "kind": "raps", "risk": None, "coverage": 0.5, "score": "mean_max"}):
        promise = calibrated(**options)
        promise.save("p.json")
        found = fastuq.load_promise("p.json")
        assert _plain(found) == _plain(promise)
        assert found.sets == promise.sets
        assert np.array_equal(kept(found).result.keep, kept(promise).result.keep)


def test_a_risk_is_never_said_smaller_than_it_is():
    promise = calibrated()
    for risk, words in ((0.12341, "12.35%"), (0.05, "5%"), (0.07, "7%"), (0.00001, "0.01%")):
        assert f"at most {words} are wrong" in replace(promise, risk=risk).words


def stamped(about):
    Path("p.json").write_text(json.dumps({**about, "sha256": _stamp(about)}))
    return "p.json"


@pytest.mark.parametrize(
    "change",
    [
        {"format": "fastuq promise 2"},
        {"options": {"rule": "interval"}},
        {"options": {"rule": "score", "coverage": 0.5}},
        {"options": {"rule": "score", "threshold": "x"}},
        {"options": {"no": 1}},
        {"options": None},
        {"risk": 0},
        {"risk": True},
        {"delta": "0.05"},
        {"kept": 3.5},
        {"errors": 321},
        {"tested": 10**30},
        {"samples": -1},
        {"temperature": 0},
        {"before": {"ece": 1}},
        {"sets": {"kind": "lac"}},
        {"sets": []},
        {"missing": "apple"},
        {"missing": [3]},
        {"images": None},
        {"scores": []},
        {"scores": [2, 1]},
        {"scores": [10**400]},
        {"scores": {"a": 1}},
        {"digests": "!"},
        {"digests": "AAAA"},
        {"digests": ""},
        {"digests": base64.b64encode(bytes(8 * 401)).decode()},
        {"digests": 3},
        {"more": 1},
        {"model_sha256": 5},
    ],
)
def test_a_file_that_says_something_impossible_is_refused(change):
    about = {**_plain(calibrated(num_iter=2)), **change}
    with pytest.raises(
        InputError, match=r"^promise p.json: expected a file of `fastuq calibrate`, found .*make it again"
    ):
        fastuq.load_promise(stamped(about))


def test_a_file_that_leaves_something_out_is_refused():
    about = _plain(small())
    for name in about.keys() - {"fastuq_version"}:
        with pytest.raises(InputError, match=r"^promise p.json: expected a file of `fastuq calibrate`, found"):
            fastuq.load_promise(stamped({key: value for key, value in about.items() if key != name}))


@settings(max_examples=40)
@given(st.data())
def test_a_file_that_was_changed_is_refused(data):
    text = json.dumps({**_plain(small()), "sha256": _stamp(_plain(small()))}).encode()
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + bytes([data.draw(st.integers(0, 255))]) + text[place + 1 :]
    Path("q.json").write_bytes(changed)
    if json_of(changed) == json_of(text):
        return
    with pytest.raises(InputError, match=r"^promise q.json: expected a file of"):
        fastuq.load_promise("q.json")


@cache
def small():
    return calibrated(num_iter=2)


def json_of(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


def test_what_is_no_file_is_refused():
    Path("folder").mkdir()
    for path, words in (("no.json", "No such file"), ("folder", "Is a directory"), ("held.h5", "found")):
        with pytest.raises(InputError, match=f"^promise {path}: .*{words}"):
            fastuq.load_promise(path)


def test_it_does_not_apply_to_another_model_or_reference(tmp_path):
    promise = calibrated()
    other = save_again(tiny_model(), tmp_path / "other", network="another")
    with pytest.raises(InputError, match=r"promise: made for model .*, found model"):
        kept(promise, model=other)
    reference = fit_reference(tiny_model(), caches.features(200), labels=np.arange(200) % 100)
    with pytest.raises(InputError, match=r"promise: made with reference none, found \w+, which changes the scores"):
        kept(promise, reference=reference)
    promise = calibrated(score="react", reference=reference)
    assert kept(promise, reference=reference).result.keep.any()
    for given_one in (None, replace(reference, data_fingerprint="0" * 64)):
        with pytest.raises(InputError, match=r"promise: made with reference \w+, found (none|000000000000), which"):
            kept(promise, reference=given_one)


def test_it_does_not_apply_to_the_data_of_the_calibration():
    promise = calibrated()
    with pytest.raises(InputError, match=r"calibrated on the very images that are scored \(held\)"):
        kept(promise, "held")
    held, new = caches.images(400, seed=1).images, caches.images(150, seed=2).images
    for shared, refused in ((1, False), (2, True), (150, True)):
        pixels = np.concatenate([held[:shared], new[shared:]])
        images = ImageSet(pixels, None, tiny_model().class_names, "mixed")
        cache_features(images, tiny_model(), f"mixed{shared}.h5").close()
        if refused:
            with pytest.raises(InputError, match=f"{shared} of the 150 images were in its calibration"):
                kept(promise, f"mixed{shared}")
        else:
            assert kept(promise, f"mixed{shared}")


def test_of_a_large_calibration_the_share_is_estimated():
    """Digests are those of some of its samples, so that few of the doubles are found."""
    pixels = np.concatenate([caches.images(400, seed=1).images[:10], caches.images(150, seed=2).images])
    cache_features(ImageSet(pixels, None, tiny_model().class_names, "mixed"), tiny_model(), "mixed.h5").close()
    with FeatureCache.open("held.h5") as held:
        first = digests_of([held])[:1]
    promise = replace(calibrated(), digests=np.concatenate([first, np.arange(39, dtype=np.uint64)[:, None]]))
    with pytest.raises(InputError, match="about 10 of the 160 images were in its calibration"):
        kept(promise, "mixed")
    assert kept(replace(promise, samples=40), "mixed")


def test_features_without_a_cache_are_refused():
    with pytest.raises(InputError, match="promise: expected a FeatureCache, found ndarray"):
        fastuq.calibrate(tiny_model(), caches.features())
    with pytest.raises(InputError, match="promise: expected a FeatureCache, found ndarray"):
        fastuq.keep_by_promise(small(), tiny_model(), caches.features())


def test_the_promise_is_withdrawn_where_the_scores_are_others():
    promise = calibrated()
    found = kept(replace(promise, scores=promise.scores + 0.3))
    assert found.alarm.sounds
    assert found.words.startswith("nothing is promised: the scores do not look like those of the calibration (held;")
    assert found.about()["withdrawn"] is True
    assert found.result.sets is None
    stands = kept(promise).result
    assert np.array_equal(found.result.keep, stands.keep)
    assert set(stands.reason[stands.keep]) == {fastuq.Reason.TRUSTED}
    assert set(found.result.reason[stands.keep]) == {fastuq.Reason.PROMISE_WITHDRAWN}
    assert (found.result.reason == stands.reason)[~stands.keep].all()


def test_page_and_table_say_what_the_promise_came_to(capsys):
    promise = replace(small(), images="<b>held</b>")
    command = ["score", "--cache", "new.h5", *MODEL, "--promise", "p.json", "--report", "page.html", "--csv", "t.csv"]
    for said, stands in ((promise, True), (replace(promise, scores=promise.scores + 0.3), False)):
        said.save("p.json")
        assert cli.main(command) == 0
        screen, page = capsys.readouterr().out, Path("page.html").read_text()
        top = page[: page.index('<main id="main">')]
        assert html.escape(kept(said).words) in top
        assert "<b>" not in page
        assert f"(ECE, smaller is better) is {kept(said).result.summary()['ece']:.2%}. " in page
        assert f"ECE {kept(said).result.summary()['ece']:.2%}" in screen
        reasons = Path("t.csv").read_text()
        assert ("trusted" in reasons, "promise withdrawn" in reasons) == (stands, not stands)
        assert ("predictions to trust" in top, "kept, with no promise" in top) == (stands, not stands)
        assert ("Trust " in screen, "with no promise" in screen) == (stands, not stands)


def test_a_bank_and_its_gate_are_part_of_the_promise():
    of, bank = banks.parts(), banks.bank()
    made_with = {"bank": bank, "gate": 0.3}
    with banks.cached(of.model, Path("a.h5"), *banks.embeddings(400, 4)) as first:
        result = fastuq.score(of.model, first, **made_with)
        known, right = result.reason != fastuq.Reason.FOREIGN, result.plain_prediction == first.labels
        assert 0 < (~known & ~right).sum() < (~known).sum()
        promise = fastuq.calibrate(of.model, first, score="bank", coverage=1.0, **made_with)
        assert (promise.kept, promise.errors) == (known.sum(), (known & ~right).sum())
        promise = fastuq.calibrate(of.model, first, score="bank", risk=0.3, **made_with)
        keep = known & (fastuq.scores(of.model, first, ["bank"], bank=bank)["bank"] >= promise.options.threshold)
        proving = ~split(400)
        assert (promise.kept, promise.errors) == ((keep & proving).sum(), (keep & proving & ~right).sum())
    found = fastuq.keep_by_promise(promise, of.model, of.other, **made_with).result
    assert not found.keep[found.reason == fastuq.Reason.FOREIGN].any()
    for other in ({}, {"bank": bank}, {"bank": bank.without_rows(bank.samples[:1]), "gate": 0.3}):
        with pytest.raises(InputError, match=r"promise: made with (bank|gate) .*, found"):
            fastuq.keep_by_promise(promise, of.model, of.other, **other)
    with pytest.raises(InputError, match="other samples than those that the bank was fitted on"):
        fastuq.calibrate(of.model, of.held_out, score="bank", **made_with)


def test_what_is_no_calibration_is_refused():
    model = tiny_model()
    with FeatureCache.open("bare.h5") as bare, pytest.raises(InputError, match="expected samples with labels"):
        fastuq.calibrate(model, bare)
    with FeatureCache.open("held.h5") as held:
        with pytest.raises(InputError, match="found both"):
            fastuq.calibrate(model, held, risk=0.1, coverage=0.5)
        info = {**model.info["made"], "training_fingerprint": held.data_fingerprint}
        trained = replace(model, info={**model.info, "made": info})
        with pytest.raises(InputError, match="found those that the model was trained on"):
            fastuq.calibrate(trained, held)


@pytest.mark.parametrize("name", ["cifar100/train", "cifar100/train[0:400]", "cifar100/train, mirrored", "file:x.npz"])
def test_parts_of_the_training_data_are_known_by_their_name_where_it_is_ours(name):
    model = tiny_model()
    info = {**model.info["made"], "training_images": "cifar100/train", "training_fingerprint": "0" * 64}
    trained = replace(model, info={**model.info, "made": info})
    given = caches.images(400, seed=1)
    images = ImageSet(given.images, given.labels, given.class_names, name)
    with cache_features(images, model, "named.h5") as held:
        if name == "file:x.npz":
            assert fastuq.calibrate(trained, held, coverage=0.5)
        else:
            with pytest.raises(InputError, match="found those that the model was trained on"):
                fastuq.calibrate(trained, held)
    Path("named.h5").unlink()


def test_the_commands_make_and_keep_a_promise(capsys):
    argv = ["calibrate", "--cache", "held.h5", *MODEL, "--risk", "0.15", "--sets", "0.8", "--num-iter", "9"]
    assert cli.main([*argv, "--output", "p.json"]) == 0
    said = capsys.readouterr().out
    assert "promised   of those kept at most 15% are wrong, at 95% confidence" in said
    assert "LAC, which hold the true class 80.0% of the time" in said
    assert "nothing is promised of" in said, "classes are missing"
    assert cli.main([*argv, "--output", "p.json", "--json", "-"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["risk"] == 0.15
    assert "scores" not in about
    promise = fastuq.load_promise("p.json")
    command = ["score", "--cache", "new.h5", *MODEL, "--promise", "p.json"]
    assert cli.main([*command, "--csv", "t.csv", "--num-iter", "9"]) == 0
    said = capsys.readouterr().out
    assert f"max from {promise.options.threshold}" in said
    assert f"  promised: {promise.words}" in said
    assert "as probabilities: ECE" in said
    with open("t.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = kept(promise).result
    for n, row in enumerate(rows):
        assert row["decision"] == (
            "keep" if float(row["score"]) >= promise.options.threshold * (1 - 1e-5) else "ignore"
        )
        assert row["set"].split() == [str(number) for number in np.flatnonzero(found.sets[n])]
    assert cli.main([*command, "--json", "-"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["kept"] == found.keep.sum()
    assert summary["promise"]["withdrawn"] is False
    assert 0 <= summary["ece"] <= 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["score", "--cache", "new.h5", *MODEL, "--promise", "p.json", "--seed", "5"],
            "--seed 5: the promise was made",
        ),
        (
            ["score", "--cache", "new.h5", *MODEL, "--promise", "p.json", "--score", "gen"],
            "--score gen: the promise was",
        ),
        (["score", "--cache", "new.h5", *MODEL, "--promise", "no.json"], "promise no.json: cannot be read"),
        (["score", "--cache", "new.h5", *MODEL, "--promise", "p.json", "--json", "p.json"], "found an input"),
        (["score", "--cache", "held.h5", *MODEL, "--promise", "p.json"], "the very images that are scored"),
        (["calibrate", "--cache", "bare.h5", *MODEL], "expected samples with labels, found none"),
        (["calibrate", "--cache", "held.h5", *MODEL, "--set-kind", "lac"], "kind: expected sets"),
        (["calibrate", "--cache", "held.h5", *MODEL, "--score", "no"], "score: expected one of max"),
        (["calibrate", "--cache", "held.h5", *MODEL, "--score", "react"], "expected a reference"),
        (["calibrate", "--cache", "held.h5", *MODEL, "--risk", "0.01"], "at least 374 samples are needed"),
        (
            ["calibrate", "--cache", "held.h5", *MODEL, "--risk", "0.001"],
            "samples are needed to promise a risk of 0.001",
        ),
        (["calibrate", "--cache", "held.h5", *MODEL, "--sets", "0.999", "--risk", "0.2"], "need at least 1249 samples"),
        (["calibrate", "--cache", "held.h5", *MODEL, "--output", "held.h5"], "found an input"),
        (["calibrate", "--cache", "held.h5", *MODEL, "--output", "a", "--json", "a"], "goes there too"),
    ],
)
def test_commands_that_cannot_are_refused_in_one_line(capsys, workplace, argv, words):
    small().save("p.json")
    if "0.01" in argv:
        Path("held.h5").write_bytes(Path("new.h5").read_bytes())
    assert words in refusal(capsys, argv, workplace)
