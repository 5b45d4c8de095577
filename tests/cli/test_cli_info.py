"""`fastuq info`: every kind of file, whole and damaged."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import caches
import numpy as np
import pytest
from commands import refusal
from damage import damage
from hypothesis import given, settings
from hypothesis import strategies as st
from places import TINY

import fastuq
from fastuq import cli
from fastuq.datasets import ImageSet
from fastuq.report.about import about

MODEL = ["--model", str(TINY)]
KINDS = {
    "model": "model",
    "cache.h5": "feature cache",
    "parts": "folder of feature caches",
    "shards": "feature cache in shards",
    "head.npz": "head",
    "moments.h5": "moments file",
    "moments.npz": "moments, NumPy",
    "moments.csv": "moments, CSV",
    "table.csv": "table of samples, CSV",
    "figures.json": "figures of a command, JSON",
    "page.html": "report page",
    "splits.csv": "table of splits, CSV",
    "splits.json": "figures of a command, JSON",
    "promise.json": "promise",
    "promised.json": "figures of a command, JSON",
}
if find_spec("pyarrow"):
    KINDS["moments.parquet"] = "moments, Parquet"


def labelled(path):
    """Return the path of a cache whose labels are what the model predicts, but for one."""
    labels = fastuq.score(caches.tiny_model(), caches.features(), num_iter=5).plain_prediction
    labels[0] = (labels[0] + 1) % 100
    images = ImageSet(caches.images().images, labels, caches.tiny_model().class_names, "labelled")
    fastuq.cache_features(images, caches.tiny_model(), path).close()
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(TINY, folder / "model")
    caches.write(folder / "cache.h5")
    (folder / "parts").mkdir()
    for n in (1, 2, 3):
        caches.write_part(folder / "parts" / f"{n}.h5", n, 3)
    caches.write(folder / "shards", shard_size=20)
    fastuq.save_head(folder / "head.npz", caches.tiny_model().head)
    result = fastuq.score(caches.tiny_model(), caches.features()[:9], num_iter=5)
    for name in KINDS:
        if name.startswith("moments"):
            fastuq.save_moments(folder / name, result)
    written = ["--csv", str(folder / "table.csv"), "--json", str(folder / "figures.json")]
    written += ["--report", str(folder / "page.html")]
    assert cli.main(["score", "--cache", str(folder / "cache.h5"), *MODEL, *written, "--num-iter", "5"]) == 0
    promised = ["--output", str(folder / "promise.json"), "--json", str(folder / "promised.json")]
    held_out = ["--cache", str(labelled(folder / "labelled.h5")), *MODEL]
    assert cli.main(["calibrate", *held_out, "--coverage", "0.9", "--num-iter", "5", *promised]) == 0
    figures = json.loads((folder / "figures.json").read_text())
    row = {"corruption": "fog", "severity": 3, **figures}
    (folder / "splits.json").write_text(json.dumps({"rows": [row, row], "seconds_total": 1.5}))
    (folder / "splits.csv").write_text("corruption,severity,accuracy_plain\nfog,3,0.5\nfog,4,0.4\n")
    return folder


def said_of(path, capsys, status=0):
    capsys.readouterr()
    assert cli.main(["info", str(path), "--json", "-"]) == status
    said = json.loads(capsys.readouterr().out)
    assert cli.main(["info", str(path)]) == status
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert lines[1].split(maxsplit=1) == ["kind", said["kind"]]
    return said


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_known_by_its_content(made, name, capsys, tmp_path):
    said = said_of(made / name, capsys)
    assert (said["kind"], said["whole"], said["file"]) == (KINDS[name], True, str(made / name))
    shutil.copytree(made / name, tmp_path / "x") if (made / name).is_dir() else shutil.copy(made / name, tmp_path / "x")
    assert about(tmp_path / "x")["kind"] == KINDS[name]


def test_what_is_said(made, capsys):
    model = caches.tiny_model()
    said = said_of(made / "model", capsys)
    assert (said["network"], said["sha256"], said["takes"]) == (model.network, model.sha256, [32, 32, 3])
    assert said["num_features"] == model.head.num_features
    assert said["class_names"] == list(model.class_names)
    said = said_of(made / "cache.h5", capsys)
    assert (said["model_sha256"], said["num_samples"], said["images"]) == (model.sha256, 50, "random")
    said = said_of(made / "parts", capsys)
    assert [part["shard"]["index"] for part in said["parts"]] == [1, 2, 3]
    said = said_of(made / "shards", capsys)
    assert (said["shards"], said["num_samples"], said["images"]) == (3, 50, "random")
    for name in ("moments.h5", "moments.npz"):
        said = said_of(made / name, capsys)
        assert said["made"]["model_sha256"] == model.sha256
        assert said["made"]["options"]["num_iter"] == 5
        assert said["arrays"]["mean"].endswith("[9, 100]")
    table = said_of(made / "table.csv", capsys)
    figures = said_of(made / "figures.json", capsys)["figures"]
    assert table["rows"] == 50
    assert (table["kept"], table["ignored"]) == (figures["kept"], figures["ignored"])
    assert said_of(made / "splits.json", capsys)["figures"]["rows"] == "2 splits"


def test_cache_info_says_the_same(made, capsys):
    said = said_of(made / "cache.h5", capsys)
    assert cli.main(["cache", "info", str(made / "cache.h5"), "--json", "-"]) == 0
    (there,) = json.loads(capsys.readouterr().out)
    assert {key: said[key] for key in there} == there


def test_what_is_not_whole_says_why(made, capsys, tmp_path):
    (tmp_path / "parts").mkdir()
    for n in (1, 3):
        shutil.copy(made / "parts" / f"{n}.h5", tmp_path / "parts")
    assert "expected the 3 shards" in said_of(tmp_path / "parts", capsys, 1)["problem"]
    shutil.copytree(made / "model", tmp_path / "model")
    (tmp_path / "model" / "head.npz").write_bytes(b"x")
    assert "head.npz is not the file that was saved" in said_of(tmp_path / "model", capsys, 1)["problem"]
    cut = (made / "table.csv").read_bytes()[:-1]  # all cells, and no end of line
    (tmp_path / "t.csv").write_bytes(cut)
    said = said_of(tmp_path / "t.csv", capsys, 1)
    assert said["rows"] == 50
    assert "its last line has no end" in said["problem"]
    (tmp_path / "t.csv").write_bytes(cut + b"\nmore\n")
    assert "row 51: expected" in said_of(tmp_path / "t.csv", capsys, 1)["problem"]
    for name in ("figures.json", "splits.json", "moments.npz", "head.npz"):
        (tmp_path / name).write_bytes((made / name).read_bytes()[:-20])
        assert "it is damaged" in said_of(tmp_path / name, capsys, 1)["problem"]
    for name in ("moments.h5", "cache.h5"):
        (tmp_path / name).write_bytes((made / name).read_bytes()[:-1])
        assert "expected" in said_of(tmp_path / name, capsys, 1)["problem"]
    damage(shutil.copy(made / "moments.h5", tmp_path / "moments.h5"), (made / "moments.h5").stat().st_size // 2)
    assert "does not match its SHA-256" in said_of(tmp_path / "moments.h5", capsys, 1)["problem"]
    whole = bytearray((made / "moments.npz").read_bytes())
    whole[len(whole) // 2] ^= 1
    (tmp_path / "m.npz").write_bytes(whole)
    assert "damaged" in said_of(tmp_path / "m.npz", capsys, 1)["problem"]


def test_a_promise_that_was_changed_is_known_as_one(made, capsys, tmp_path):
    said = said_of(made / "promise.json", capsys)
    assert (said["samples"], said["model_sha256"]) == (50, caches.tiny_model().sha256)
    text = (made / "promise.json").read_text()
    for changed in (text.replace('"delta": 0.05', '"delta": 0.04'), text[:-20]):
        assert changed != text
        (tmp_path / "p.json").write_text(changed)
        said = said_of(tmp_path / "p.json", capsys, 1)
        assert said["kind"] == "promise"
        assert "expected a file of `fastuq calibrate`, found" in said["problem"]


@pytest.mark.skipif(not find_spec("pyarrow"), reason="pyarrow is not installed")
def test_damaged_values_in_parquet_are_found(made, tmp_path):
    import pyarrow.parquet as pq

    whole = (made / "moments.parquet").read_bytes()
    assert about(made / "moments.parquet")["samples"] == 9
    columns = pq.read_metadata(made / "moments.parquet").row_group(0)
    for number in range(columns.num_columns):
        chunk = columns.column(number)
        damaged = bytearray(whole)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        damaged[start + chunk.total_compressed_size - 1] ^= 1
        (tmp_path / "m.parquet").write_bytes(damaged)
        said = about(tmp_path / "m.parquet")
        assert not said["whole"], chunk.path_in_schema
        assert "damaged" in said["problem"]


def test_what_fastuq_did_not_make_is_one_line(workplace, capsys):
    np.save("x.npy", np.zeros(3))
    np.savez("x.npz", a=np.zeros(3))
    Path("x.json").write_text('{"a": 1}')
    Path("deep.json").write_text("[" * 100_000)
    Path("x.csv").write_text("a,b\n1,2\n")
    Path("empty").write_text("")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    Path("page.html").write_text("<!DOCTYPE html><html></html>")
    for path in Path().iterdir():
        line = refusal(capsys, ["info", str(path)])
        assert str(path) in line
    assert "No such file" in refusal(capsys, ["info", "none"])
    assert "expected a new file, found an input" in refusal(capsys, ["info", "x.json", "--json", "x.json"])


def test_a_page(made, tmp_path, capsys):
    assert "predictions to trust" in said_of(made / "page.html", capsys)["title"]
    (tmp_path / "p.html").write_bytes((made / "page.html").read_bytes()[:-20])
    assert "expected its last line to be </html>" in said_of(tmp_path / "p.html", capsys, 1)["problem"]


@settings(max_examples=150)
@given(data=st.data(), name=st.sampled_from([name for name in KINDS if "." in name]))
def test_no_damage_is_a_traceback(made, tmp_path_factory, data, name):
    content = bytearray((made / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 3000)))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    path.write_bytes(content)
    try:
        said = about(path)
    except fastuq.InputError:
        return
    assert said["whole"] in (True, False)
    json.dumps(said, allow_nan=False)
