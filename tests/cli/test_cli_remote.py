"""From tar files on S3 to caches, tables and pages there, by commands: what comes out is what comes out here."""

import json

import pytest
from commands import refusal
from places import TINY
from stores import picture, write_tar

from fastuq import cli

MODEL = ["--model", str(TINY)]


@pytest.fixture
def tars(store, workplace):
    """Three tar files here, and the same ones on S3."""
    for number, part in enumerate(((0, 4), (4, 8), (8, 10))):
        members = {
            f"{n:03}.{kind}": picture(n) if kind == "png" else str(n) for n in range(*part) for kind in ("png", "cls")
        }
        store.put(f"in/t-{number}.tar", write_tar(workplace / f"t-{number}.tar", members))
    return f"{store.bucket}/in/t-*.tar"


def damaged(cache):
    """Return a feature cache with one feature changed."""
    place = json.loads(cache.split(b"\n")[1])["datasets"]["features"]["offset"]
    return cache[:place] + bytes([cache[place] ^ 1]) + cache[place + 1 :]


def test_from_s3_to_s3(store, tars, workplace, capsys):
    shards, report = f"{store.bucket}/work/shards", ["--json", "report.json"]
    make = ["cache-features", tars, *MODEL, "--shard-size", "5", "--output", shards, *report]
    assert cli.main(make) == 0
    assert cli.main(make) == 0
    assert json.loads((workplace / "report.json").read_text())["reused"] is True
    assert store.names("work/") == [
        *(f"work/shards/shard-0000{n}-of-00003.h5" for n in (1, 2, 3)), "work/shards/shards.json"
    ]  # fmt: skip
    results = ["--csv", "t.csv", "--report", "p.html", "--moments", "m.npz", "--json", "s.json"]
    there = [f"{store.bucket}/out/{each}" if "." in each else each for each in results]
    assert cli.main(["score", "t-{0..2}.tar", *MODEL, *results]) == 0
    assert cli.main(["score", "--cache", shards, *MODEL, *there]) == 0
    assert cli.main(["cache", "verify", shards, "--images", tars]) == 0
    assert store.get("out/t.csv") == (workplace / "t.csv").read_bytes()
    assert store.names("out/") == ["out/m.npz", "out/p.html", "out/s.json", "out/t.csv"]
    assert "t-2.tar/009.png" in (workplace / "t.csv").read_text()
    assert sorted(path.name for path in workplace.glob("out/*")) == [
        path.name for path in workplace.glob("out/features-file-t-*.h5")
    ]
    shard = "work/shards/shard-00002-of-00003.h5"
    whole = store.get(shard)
    for mend in (make, ["cache", "repair", shards, "--images", tars, *MODEL]):
        store.system.pipe_file(f"bucket/{shard}", damaged(whole))
        assert cli.main(["cache", "verify", shards]) == 1
        assert cli.main(mend) == 0
        assert cli.main(["cache", "verify", shards]) == 0


def test_what_is_refused_is_refused_in_one_line(store, tars, workplace, capsys):
    store.system.pipe_file("bucket/cut/t.tar", store.get("in/t-0.tar")[:-11_000])
    for argv, why in (
        (["score", f"{store.bucket}/cut/t.tar", *MODEL], "cut/t.tar: expected a tar file, found one that is cut"),
        (["score", tars, *MODEL, "--csv", "s3://nobody/t.csv"], "cannot write s3://nobody/t.csv: no such bucket"),
        (["score", "s3://nobody/photos", *MODEL], "cannot read s3://nobody/photos: no such bucket"),
        (["score", "--cache", f"{store.bucket}/none.h5", *MODEL], "s3://bucket/none.h5: no such file"),
        (["score", "--cache", f"{store.bucket}/in", *MODEL], "/in: expected a feature cache, found a folder"),
        (["score", "t-0.tar", "--model", f"{store.bucket}/model"], "expected a path of this machine, found an address"),
        (["import-features", "x.npy", *MODEL, "--output", f"{store.bucket}/f.h5"], "expected a path of this machine"),
    ):  # fmt: skip
        assert why in refusal(capsys, argv, workplace)
    with store.locked():
        line = refusal(capsys, ["score", tars, *MODEL, "--csv", f"{store.bucket}/new.csv"], workplace)
    assert "s3://bucket/new.csv" in line
    assert "check that the credentials are there and still valid" in line
    assert not [name for name in store.names() if "new.csv" in name or "partial" in name]
