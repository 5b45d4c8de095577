"""The page of a scored data set: what it says, what it does not let in, and that it is whole or not there."""

import base64
import csv
import hashlib
import io
import os
import re
from dataclasses import replace
from pathlib import Path

import banks
import caches
import numpy as np
import pytest
from commands import contents, refusal
from hypothesis import given
from hypothesis import strategies as st
from pages import Page
from places import ROOT, TINY

import fastuq
from fastuq import cli
from fastuq.cache import cache_features
from fastuq.datasets import ImageSet
from fastuq.errors import FastUQError, InputError, printable
from fastuq.report.page import charts, pictures, samples_table, write
from fastuq.report.page.heat_map import read_splits
from fastuq.report.page.markup import picture, text
from fastuq.report.page.summary import MEANS
from fastuq.report.page.write import save_report
from fastuq.scoring.decisions import Reason
from fastuq.scoring.metrics import aurc, ece
from fastuq.scoring.options import Options
from fastuq.scoring.scoring import score

MODEL = ["--model", str(TINY), "--num-iter", "5"]
EVIL = [
    "<script>alert(1)</script>.png",
    os.fsdecode(b"\xff") + "\"onload='alert(2)'\n\x1b[31m.png",
    "a&amp;b\u202e\u2028]]>--></style></script>.png",
    "$headline ${script} $$.png",
]
N = 50

pytestmark = pytest.mark.usefixtures("workplace")


def page_of(result, model, features, images=None, **more):
    save_report("page.html", result, model, features, images, **more)
    return Page(Path("page.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def images():
    return caches.images(N)


@pytest.fixture(scope="module")
def cache(model, images, tmp_path_factory):
    with cache_features(images, model, tmp_path_factory.mktemp("cache") / "c.h5") as cache:
        yield cache


@pytest.fixture(scope="module")
def options():
    """Under which some of the tiny model's predictions are kept and some ignored."""
    return Options(num_iter=20, threshold=0.93, conf_factor=0.1, masks="per_sample", seed=3)


@pytest.fixture(scope="module")
def result(model, cache, options):
    found = score(model, cache, options, details=False)
    assert 0 < found.keep.sum() < N
    return found


@pytest.fixture
def page(result, model, cache, images, workplace):
    return page_of(result, model, cache, images)


def test_the_figures_are_those_of_the_summary(page, result):
    summary = result.summary()
    (headline,) = page.texts("h1")
    assert headline == f"{summary['kept']} of {N} predictions to trust"
    said = " ".join(page.texts("dd"))
    for key in ("accuracy_plain", "accuracy_kept", "misclassified_ignored"):
        assert f"{summary[key]:.1%}" in said, key
    for value in (*vars(result.options).values(), result.model_sha256, result.data_fingerprint):
        assert str(value).replace("_", "-") in page.section("origin").texts("dl")[0]
    captions = " ".join(page.texts("figcaption"))
    right = result.top == result.labels
    assert f"is {aurc(result.max_mean, right):.4f}" in captions
    assert f"is {ece(result.confidence, right):.2%}. " in captions
    assert summary["ece"] == ece(result.confidence, right)


def test_every_reason_has_its_images(page, result):
    cells = page.table(page.source.index('<div class="scroll reasons">')).texts("td")
    found = {cells[n + 1]: (cells[n], int(cells[n + 2]), cells[n + 4]) for n in range(0, len(cells), 5)}
    assert len(found) == 5
    for reason in list(Reason)[:5]:  # the others are of scores and banks
        chosen = result.reason == reason
        ((word, count, right),) = [row for said, row in found.items() if said.startswith(reason.text)]
        assert (word == "keep") == result.keep[chosen].all() == result.keep[chosen].any()
        assert count == chosen.sum()
        assert right == f"{(result.prediction == result.labels)[chosen].mean():.1%}"


def test_every_reason_says_what_it_means():
    assert set(MEANS) == set(Reason)


def test_nothing_leaves_the_page(page):
    """No script but its own, no address but its own places and its own pictures."""
    policy = page.all("meta")[1]["attrs"]["content"]
    (script,) = page.texts("script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert f"script-src 'sha256-{digest}';" in policy
    for element in page.elements:
        for name, value in element["attrs"].items():
            assert not name.startswith("on"), element
            if name in {"src", "href", "action", "srcset", "data", "formaction", "background", "poster", "xlink:href"}:
                assert value.startswith("#") or value.startswith("data:image/png;base64,"), element
        assert element["tag"] not in {"link", "iframe", "object", "embed", "base", "audio", "video", "source"}
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp", page.source)


def test_the_places_that_links_lead_to_are_there(page):
    there = {element["attrs"]["id"] for element in page.elements if "id" in element["attrs"]}
    assert {link["attrs"]["href"][1:] for link in page.all("a")} <= there


def test_pictures_are_the_right_ones(page, result, images):
    unsure = np.argsort(result.max_mean, kind="stable")[:12]
    wrong = np.flatnonzero(result.prediction != result.labels)
    wrong = wrong[np.argsort(-result.predicted_mean[wrong], kind="stable")][:12]
    for name, numbers in (("look", unsure), ("wrong", wrong)):
        part = page.section(name)
        assert part.texts("h3") == [f"image {n}" for n in numbers]
        assert [img["attrs"]["src"] for img in part.all("img")] == [picture(images.images[n]) for n in numbers]
        assert part.texts("span", "badge") == ["keep" if result.keep[n] else "ignore" for n in numbers]


def test_bars_are_the_means_of_the_very_iterations(page, result, model, cache, options):
    """Masks of their own for each sample: the iterations that are run again must be those of its number."""
    whole = score(model, cache, options)
    unsure = np.argsort(result.max_mean, kind="stable")[:12]
    part = page.section("look")
    says = [svg["attrs"]["aria-label"] for svg in part.all("svg")]
    expected = []
    for n in unsure:
        largest = np.argsort(-whole.mean[n], kind="stable")[:4].tolist()
        shown = list(dict.fromkeys([*largest, int(whole.prediction[n]), int(whole.labels[n])]))
        expected += [
            f"{model.class_names[c]}: mean {whole.mean[n, c]:.3f}, interval {whole.lower[n, c]:.3f} to "
            f"{whole.upper[n, c]:.3f}"
            for c in shown
        ]
    assert says == expected


def test_the_table_is_that_of_the_csv(page, result, model):
    from fastuq.report.samples import write_sample_table

    write_sample_table("t.csv", result, model.class_names)
    with open("t.csv", newline="", encoding="utf-8") as file:
        rows = {row["index"]: row for row in csv.DictReader(file)}
    shown = page.rows()
    assert [int(row["image"]) for row in shown] == np.argsort(result.max_mean, kind="stable").tolist()
    for row in shown:
        expected = rows[row["image"]]
        for name in ("decision", "reason"):
            assert row[name] == expected[name]
        assert row["predicted"] == expected["prediction_name"]
        assert row["true class"] == expected["label_name"]
        assert float(row["entropy"]) == pytest.approx(float(expected["entropy"]), abs=1e-3)
        assert row["right"] == ("right" if expected["prediction"] == expected["label"] else "wrong")


def test_a_score_that_comes_later_is_shown(result, model, cache, monkeypatch):
    energy = np.linspace(0, 5, N, dtype=np.float32)
    more = (*samples_table.COLUMNS, ("free_energy", lambda r, names: energy, ".6g"))
    monkeypatch.setattr(samples_table, "COLUMNS", more)
    page = page_of(result, model, cache)
    assert {row["image"]: float(row["free energy"]) for row in page.rows()} == {
        str(n): pytest.approx(energy[n], abs=1e-3) for n in range(N)
    }
    assert "Kept and ignored, by free energy" in page.texts("h3")


def test_histograms_count_every_image(page, result):
    for section in page.source.split("<figure>")[3:]:
        says = [title for title in re.findall(r"<title>(.*?)</title>", section) if " to " in title]
        for word, count in (("kept", result.keep.sum()), ("ignored", (~result.keep).sum())):
            assert sum(int(re.search(r": ([\d,]+) (\w+)", title)[1]) for title in says if title.endswith(word)) == count


def test_rows_are_bounded_and_what_is_left_out_is_said(result, model, cache, monkeypatch):
    monkeypatch.setattr(samples_table, "ROWS", 7)
    monkeypatch.setattr(write, "ROWS", 7)
    page = page_of(result, model, cache)
    assert [int(row["image"]) for row in page.rows()] == np.argsort(result.max_mean, kind="stable")[:7].tolist()
    assert "The 7 least sure of 50 images; the other 43 are left out" in " ".join(page.texts("p"))


def test_a_cache_alone_gives_no_pictures_and_says_so(result, model, cache):
    page = page_of(result, model, cache)
    assert page.all("img") == []
    assert "without the images there are no pictures" in " ".join(page.texts("p", "remark"))
    assert len(page.section("look").texts("h3")) == 12


def test_what_was_left_out_is_said(result, model, cache, images):
    lost = tuple((f"{n}.png", f"{n}<b>.png: no picture") for n in range(60))
    page = page_of(result, model, cache, replace(images, notes=("passed over: 3 files",), skipped=lost))
    assert "passed over: 3 files" in page.texts("p", "remark")
    (said,) = page.texts("details", "remark")
    assert said.startswith("60 files could not be read and are left out0<b>.png: no picture1<b>")
    assert said.endswith("49<b>.png: no pictureand 10 more, all of which --json names")


def test_without_labels_nothing_is_said_of_right_and_wrong(model):
    images = caches.images(9, labelled=False)
    with cache_features(images, model, "c.h5") as cache:
        page = page_of(score(model, cache, num_iter=5), model, cache, images)
    assert "no labels" in page.texts("p", "lead")[0]
    assert all(name.startswith("Kept and ignored") for name in page.section("plots").texts("h3"))
    assert not {"true class", "right"} & set(page.rows()[0])
    assert "wrong" not in {element["attrs"].get("id") for element in page.elements}
    assert page.all("span", "wrong") == []


@pytest.mark.parametrize("threshold", [-1.0, 2.0])
@pytest.mark.parametrize("count", [1, 2, 13])
def test_all_kept_or_none(model, threshold, count):
    features = caches.features(N)[:count]
    result = score(model, features, labels=np.zeros(count, int), num_iter=5, threshold=threshold)
    page = page_of(result, model, features)
    assert page.texts("h1") == [f"{int(result.keep.sum())} of {count} predictions to trust"]
    assert len(page.rows()) == count
    assert "nan" not in page.source.lower()


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 1.7, -3.0])
def test_axes_of_one_value_stay_where_it_can_be(value):
    """Entropy is never below 0, a probability never above 1."""
    source = charts.histogram("score", "", np.full(3, value), np.ones(3, bool))
    ticks = [float(mark) for mark in re.findall(r'<text class="mid"[^>]*>([^<]+)<', source)]
    assert ticks
    assert min(ticks) >= min(value - 0.5, 0) if value < 0 else min(ticks) >= 0
    assert max(ticks) <= max(value + 0.5, 1) if value > 1 else max(ticks) <= 1


def test_outputs_that_are_no_probabilities(result, model, cache):
    scores = result.max_mean * 1e6
    scores[3] = np.inf
    page = page_of(replace(result, entropy=scores, max_mean=result.max_mean * 200, confidence=None), model, cache)
    assert "Is the confidence true?" not in page.texts("h3")
    assert "1 images without a finite value are left out" in " ".join(page.texts("figcaption"))


def test_names_are_texts_and_nothing_else(model, cache, result):
    files = [f"{EVIL[n % len(EVIL)]}{n}" for n in range(N)]
    names = tuple(f"{EVIL[n % len(EVIL)]}{n}" for n in range(100))
    renamed = replace(model, class_names=names)
    pixels = caches.images(N)
    images = ImageSet(pixels.images, pixels.labels, names, EVIL[0], files)
    page = page_of(replace(result, files=images.files), renamed, cache, images, name=EVIL[2])
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert {row["file"] for row in page.rows()} == {printable(name) for name in files}
    assert {row["predicted"] for row in page.rows()} <= {printable(name) for name in names}
    assert page.section("look").texts("h3")[0] == printable(files[int(np.argsort(result.max_mean, kind="stable")[0])])
    assert page.texts("p", "name") == [printable(EVIL[2])]
    assert not any(name.startswith("on") for element in page.elements for name in element["attrs"])
    assert all(c.isprintable() or c == "\n" for c in page.source)


@given(st.text(st.characters(), max_size=20))
def test_text_is_shown_and_does_nothing(value):
    inside = Page(f'<p title="{text(value)}">{text(value)}</p>')
    (only,) = inside.elements
    assert only["text"] == only["attrs"]["title"] == printable(value)


def test_the_same_arguments_give_the_same_bytes(page, result, model, cache, images, options):
    again = replace(score(model, cache, options), seconds={"head": 99.0})
    save_report("again.html", again, model, cache, images)
    assert Path("again.html").read_bytes() == Path("page.html").read_bytes()


def test_the_page_is_whole_or_not_there(result, model, cache, images, monkeypatch):
    Path("page.html").write_text("an older page")
    before = contents(Path())

    def fails(*_):
        raise InputError("an image is another one by now")

    with monkeypatch.context() as changed:
        changed.setattr(pictures, "thumbnail", fails)
        with pytest.raises(InputError, match="another one"):
            save_report("page.html", result, model, cache, images)
    assert contents(Path()) == before
    Path("folder").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        save_report("folder", result, model, cache, images)


def test_what_does_not_belong_together_is_refused(result, model, cache, images):
    others = caches.images(N, seed=1)
    features = cache.read(0, N)
    for arguments, words in [
        ((result, replace(model, sha256="0" * 64), cache, images), "expected model"),
        ((result, model, features, images), "expected the features that were scored"),
        ((result, model, cache, others), "expected the images that were scored"),
        ((result, model, cache, images.subset(0, 9)), "expected the images that were scored"),
        ((score(model, features, num_iter=5), model, features[1:]), "expected the features that were scored"),
        ((score(model, features, num_iter=5), model, features, images.subset(0, 9)), "expected the images"),
    ]:
        with pytest.raises(InputError, match=words):
            save_report("page.html", *arguments)
    assert not Path("page.html").exists()


def test_a_picture_is_a_png_of_its_pixels():
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'fastuq[images]'")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    kind, _, data = picture(pixels).partition(",")
    assert kind == "data:image/png;base64"
    with image.open(io.BytesIO(base64.b64decode(data))) as found:
        assert (np.asarray(found) == pixels).all()


@pytest.mark.parametrize("shape", [(32, 32), (128, 128), (129, 300), (2, 1000), (1000, 2), (224, 224), (1, 1)])
def test_thumbnails_are_small_and_alike(shape):
    pixels = np.zeros((*shape, 3), np.uint8) + np.array([200, 10, 90], np.uint8)
    found = pictures.thumbnail(pixels)
    assert found.dtype == np.uint8
    assert max(found.shape[:2]) <= 128
    assert (found == [200, 10, 90]).all()


def splits(model, **changes):
    """Return our table of CIFAR-100-C, as text, as if it were of this model."""
    with open(ROOT / "docs" / "reproduction" / "cifar100c-model.csv", newline="", encoding="utf-8") as file:
        rows = [{**row, "model_sha256": model.sha256, **changes} for row in csv.DictReader(file)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def test_the_heat_maps_are_the_table(result, model, cache):
    Path("c.csv").write_text(splits(model, n="20000"))
    rows = read_splits("c.csv", model.sha256)
    page = page_of(result, model, cache, cifar100c=rows).section("heat")
    assert page.texts("caption") == ["Right, of all, %", "Kept, %", "Right, of the kept, %"]
    cells, names = page.texts("td"), sorted({row["corruption"] for row in rows})
    assert len(cells) == 3 * 19 * 5
    for row in rows:
        place = names.index(row["corruption"]) * 5 + int(row["severity"]) - 1
        assert float(cells[place]) == pytest.approx(100 * float(row["accuracy_plain"]), abs=0.051)
        assert float(cells[95 + place]) == pytest.approx(int(row["kept"]) / 200, abs=0.051)
        assert float(cells[190 + place]) == pytest.approx(100 * float(row["accuracy_kept"]), abs=0.051)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_sha256": "f" * 64}, "expected splits scored with model"),
        ({"severity": "6"}, "severity 6"),
        ({"n": "0"}, "a split of 0 images"),
        ({"kept": "nan"}, "found another file"),
        ({"accuracy_plain": "7"}, "accuracy_plain 7"),
        ({"accuracy_plain": ""}, None),
        ({"kept": "9" * 4000}, "found another file"),
        ({"corruption": "<b>fog</b>"}, None),
    ],
)
def test_tables_of_cifar100c_are_not_trusted(result, model, cache, change, words):
    Path("c.csv").write_text(splits(model, **change))
    if words:
        with pytest.raises(InputError, match=words):
            read_splits("c.csv", model.sha256)
    else:
        assert page_of(result, model, cache, cifar100c=read_splits("c.csv", model.sha256)).all("b") == []


@pytest.mark.parametrize("data", [b"", b"corruption,severity\nfog,1\n", b"\xff\xfe", b"a,b\n1\n", b"x" * 2**23, b'"'])
def test_other_files_are_no_tables_of_cifar100c(model, data):
    Path("c.csv").write_bytes(data)
    with pytest.raises(FastUQError, match="expected a table of"):
        read_splits("c.csv", model.sha256)


def test_the_program_of_the_documentation_runs():
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "report.md").read_text(), re.DOTALL)
    exec(compile(program, "report.md", "exec"), {})
    assert len(Page(Path("page.html").read_text(encoding="utf-8")).section("look").all("img")) == 12


def test_the_commands(capsys, model):
    np.savez("in.npz", images=caches.images(9).images, labels=np.arange(9))
    assert cli.main(["score", "in.npz", "--report", "a.html", *MODEL]) == 0
    assert "a.html" in capsys.readouterr().out
    assert cli.main(["report", "in.npz", "--output", "b.html", "--json", "s.json", *MODEL]) == 0
    assert Path("a.html").read_bytes() == Path("b.html").read_bytes()
    assert Path("s.json").exists()
    (made,) = Path("out").iterdir()
    assert cli.main(["report", "in.npz", "--cache", str(made), "--output", "c.html", *MODEL]) == 0
    assert Path("c.html").read_bytes() == Path("b.html").read_bytes()
    assert cli.main(["report", "--cache", str(made), *MODEL]) == 0
    assert Page(Path("report.html").read_text(encoding="utf-8")).all("img") == []
    capsys.readouterr()
    assert cli.main(["report", "in.npz", "--output", "-", *MODEL]) == 0
    assert capsys.readouterr().out == Path("b.html").read_text(encoding="utf-8")


def test_commands_that_are_refused(capsys, model):
    np.save("in.npy", caches.images(9).images)
    np.save("other.npy", caches.images(9, seed=1).images)
    with cache_features(ImageSet(np.load("in.npy"), None, None, "in"), model, "c.h5"):
        pass
    Path("c.csv").write_text(splits(model, model_sha256="f" * 64))
    for argv, words in [
        (["report", "other.npy", "--cache", "c.h5"], "expected features of images file:other.npy"),
        (["report", "in.npy", "--output", "in.npy"], "--output in.npy: expected a new file, found an input"),
        (["report", "in.npy", "--output", "x.html", "--json", "x.html"], "goes there too"),
        (["report", "in.npy", "--cifar100c", "c.csv"], "expected splits scored with model"),
        (["report", "in.npy", "--cifar100c", "none.csv"], "No such file"),
        (["report", "--cache", "c.h5", "--cifar100c", "c.csv", "--output", "c.csv"], "found an input"),
        (["score", "in.npy", "--csv", "t.csv", "--report", "t.csv"], "goes there too"),
    ]:
        assert words in refusal(capsys, [*argv, *MODEL], Path()), argv


def test_each_image_of_its_own_iterations(model, cache):
    """With `auto` bars are of as many iterations as the decision took, and the page says how settled decisions are."""
    options = Options(num_iter="auto", max_iter=300, threshold=0.93, conf_factor=0.1)
    found, whole = (score(model, cache, options, details=details) for details in (False, True))
    page = page_of(found, model, cache)
    assert f"Settled in {found.iterations.mean():,.0f} iterations on average" in page.source
    assert f"{found.flips.mean(dtype=np.float64):.2%} of the decisions" in page.source
    assert _first_bar(page) == _said_of(whole, model, int(np.argsort(found.max_mean, kind="stable")[0]))


def test_what_decided_is_what_is_shown(tmp_path):
    """With a bank and a promise: bars, curve, words, sets and figures are of the outputs that the bank joins."""
    of, bank = banks.parts(), banks.bank()
    held_out = banks.cached(of.model, tmp_path / "held-out.h5", *banks.embeddings(400, 4))
    promise = fastuq.calibrate(of.model, held_out, bank=bank, risk=0.3, sets=0.9)
    new = banks.cached(of.model, tmp_path / "new.h5", *banks.embeddings(60, 5))
    found, whole = (
        fastuq.keep_by_promise(promise, of.model, new, bank=bank, details=details).result for details in (False, True)
    )
    page, summary = page_of(found, of.model, new, bank=bank), found.summary()
    assert _first_bar(page) == _said_of(whole, of.model, int(np.argsort(found.score, kind="stable")[0]))
    assert "whose score (bank) is smallest" in page.source
    assert any(f"is {summary['aurc']:.4f}" in caption for caption in page.texts("figcaption"))
    assert found.promise["words"] in page.texts("p")
    said = " ".join(page.texts("dd"))
    for figure in (f"{summary['ece']:.1%}", f"NLL {summary['nll']:.3f}, Brier score {summary['brier']:.3f}"):
        assert figure in said
    sizes = found.sets.sum(axis=1)
    assert f"{sizes.mean():.2f}" in said
    named = {", ".join(of.model.class_names[c] for c in np.flatnonzero(row)) for row in found.sets}
    assert named - {""} <= set(page.section("table").texts("td"))
    with pytest.raises(InputError, match="the bank and the views that it was scored with"):
        page_of(found, of.model, new)


def _first_bar(page):
    return page.section("look").all("svg")[0]["attrs"]["aria-label"]


def _said_of(result, model, n):
    c = int(np.argsort(-result.mean[n], kind="stable")[0])
    low, high = result.lower[n, c], result.upper[n, c]
    return f"{model.class_names[c]}: mean {result.mean[n, c]:.3f}, interval {low:.3f} to {high:.3f}"
