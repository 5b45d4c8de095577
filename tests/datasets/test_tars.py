"""Pictures in tar files as WebDataset lays them out, and what their damage costs."""

import gzip
import io
import json
import pickle
import re
import tarfile

import numpy as np
import pytest
from places import TINY
from stores import picture, write_tar

from fastuq import cli
from fastuq.datasets import open_images
from fastuq.datasets.shards import open_shards
from fastuq.datasets.tars import MAX_TARS, tar_paths
from fastuq.errors import InputError

PAIRS = {f"{n:03}.{kind}": picture(n) if kind == "png" else str(n % 3) for n in range(5) for kind in ("png", "cls")}


@pytest.fixture
def pairs(tmp_path):
    """Five pictures with their class numbers."""
    return write_tar(tmp_path / "data.tar", PAIRS)


def refused(path):
    with pytest.raises(InputError) as found:
        open_images(str(path))
    assert "\n" not in str(found.value)
    assert path.name in str(found.value)
    return str(found.value)


def test_a_tar_of_a_folder_is_that_folder(tmp_path):
    for name in ("cat/1.png", "cat/old/2.PNG", "dog/3.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(len(name)))
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(tmp_path / "photos", ".")
    folder, tarred = open_images(tmp_path / "photos"), open_images(str(tmp_path / "photos.tar"))
    assert tarred.fingerprint() == folder.fingerprint()
    assert tarred.class_names == folder.class_names == ("cat", "dog")
    assert list(tarred.files) == [f"photos.tar/{name}" for name in folder.files]
    assert np.array_equal(tarred.read(1, 3), folder.read(1, 3))
    assert tarred.resized((8, 9)).images[:].shape == (3, 8, 9, 3)


def test_labels_are_those_of_the_key(tmp_path, pairs):
    images = open_images(str(pairs))
    assert (images.labels.tolist(), images.class_names) == ([0, 1, 2, 0, 1], None)
    named = {f"a/{n}.jpg": picture(n) for n in range(3)} | {
        f"a/{n}.json": f'{{"label": "{name}", "url": "x"}}' for n, name in enumerate(("dog", "cat", "dog"))
    }
    images = open_images(str(write_tar(tmp_path / "named.tar", named)))
    assert (images.labels.tolist(), images.class_names) == ([1, 0, 1], ("cat", "dog"))
    assert list(images.files) == ["named.tar/a/0.jpg", "named.tar/a/1.jpg", "named.tar/a/2.jpg"]
    both = {"0.png": picture(0), "0.json": '{"label": 5}', "0.cls": " 7\n"}
    assert open_images(str(write_tar(tmp_path / "both.tar", both))).labels.tolist() == [7]
    long = {"0.png": picture(0), "0.cls": "12345678901"}
    assert open_images(str(write_tar(tmp_path / "long.tar", long))).class_names == ("12345678901",)
    alone = open_images(str(write_tar(tmp_path / "alone.tar", {"0.png": picture(0), "0.json": '{"url": 1}'})))
    assert alone.labels is None


def test_names_are_those_below_the_place_where_it_is_unpacked(tmp_path):
    members = {"/a/1.png": picture(1), "b/2.png": picture(2), "//b/./3.png": picture(3), "././a//4.png": picture(4)}
    images = open_images(str(write_tar(tmp_path / "t.tar", members)))
    assert list(images.files) == ["t.tar/a/1.png", "t.tar/b/2.png", "t.tar/b/3.png", "t.tar/a/4.png"]
    assert (images.class_names, images.labels.tolist()) == (("a", "b"), [0, 1, 1, 0])
    loose = open_images(str(write_tar(tmp_path / "t.tar", {"/1.png": picture(1), "2.png": picture(2)})))
    assert (list(loose.files), loose.labels) == (["t.tar/1.png", "t.tar/2.png"], None)
    with pytest.raises(InputError, match=r"found a/1.png and a/1.png: expected one picture of each key"):
        open_images(str(write_tar(tmp_path / "t.tar", {"/a/1.png": picture(1), "a/1.png": picture(2)})))


def test_what_is_no_picture_is_passed_over_and_counted(tmp_path):
    others = {"._0.png": b"x", "__MACOSX/0.png": b"x", ".hidden/0.png": b"x"}
    counted = {"0.seg.png": picture(9), "0.txt": "text", "readme": "x"}
    path = write_tar(tmp_path / "data.tar", {"0.png": picture(0)} | others | counted)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    images = open_images(str(path))
    assert list(images.files) == ["data.tar/0.png"]
    (note,) = images.notes
    assert note.startswith("4 files passed over: 1 ")


def test_a_tar_that_is_cut_anywhere_is_refused(tmp_path, pairs):
    whole = pairs.read_bytes()
    with tarfile.open(pairs) as tar:
        end = max(-(-(m.offset_data + m.size) // 512) * 512 for m in tar.getmembers())
    cut = tmp_path / "cut.tar"
    for length in [*range(0, end + 1, 512), 100, 700, end - 512, end + 511]:
        cut.write_bytes(whole[:length])
        assert "expected a tar file, found" in refused(cut), length
    cut.write_bytes(whole[: end + 512])
    assert len(open_images(str(cut))) == 5


def test_more_behind_the_end_is_refused(tmp_path, pairs):
    one, joined = pairs.read_bytes(), tmp_path / "joined.tar"
    write_tar(tmp_path / "other.tar", {"7.png": picture(7), "7.cls": "1"})
    for rest in ((tmp_path / "other.tar").read_bytes(), b"x", bytes(9999) + b"x"):
        joined.write_bytes(one + rest)
        assert "found more, as where tar files were joined" in refused(joined)
    joined.write_bytes(one + bytes(2**15))
    assert len(open_images(str(joined))) == 5
    with tarfile.open(pairs) as tar:
        second = tar.getmembers()[2].offset
    joined.write_bytes(one[:second] + bytes(2**17))
    assert "bytes of zeros end it" in refused(joined)


def test_what_is_damaged_or_no_tar_is_refused(tmp_path, pairs):
    whole = bytearray(pairs.read_bytes())
    pairs.write_bytes(gzip.compress(bytes(whole)))
    assert "gunzip" in refused(pairs)
    with tarfile.open(fileobj=io.BytesIO(bytes(whole))) as tar:
        second = tar.getmembers()[1].offset
    whole[second + 10] ^= 1
    pairs.write_bytes(whole)
    assert "a damaged header" in refused(pairs)
    pairs.write_bytes(b"")
    assert "expected a tar file" in refused(pairs)
    assert "no such file" in refused(tmp_path / "none.tar")


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"0.png": b"x", "0.jpg": b"x"}, "found 0.png and 0.jpg: expected one picture of each key"),
        ({"0.png": b"x", "0.cls": "3", "./0.cls": "4"}, "found 0.cls and 0.cls: expected one .cls of each key"),
        ({"0.png": b"x", "0.json": "{}", "0.JSON": "{}"}, "found 0.json and 0.JSON: expected one .json of each key"),
        ({"0.png": b"x", "0.cls": "4", "1.png": b"x", "1.cls": "-1"}, "1.png: expected a class number.* found -1"),
        ({"0.png": b"x", "0.json": '{"label": -1}'}, "0.png: expected a class number.* found -1"),
        ({"0.png": b"x", "0.cls": "3.0"}, "0.png: expected a class number.* found 3.0"),
        ({"0.png": b"x", "1.cls": "3"}, "of the same key beside 1.cls, found none"),
        ({"0.png": b"x", "0.cls": "3", "1.png": b"x"}, "data.tar/1.png: expected a label"),
        ({"0.png": b"x", "0.json": "{"}, "0.json: expected a label, found"),
        ({"0.png": b"x", "0.json": '{"label": [1]}'}, "a label that is no number or name"),
        ({"0.png": b"x", "0.cls": b"\xff"}, "0.cls: expected a label, found"),
        ({"0.png": b"x", "a/1.png": b"x"}, "data.tar/0.png: lies beside folders with pictures"),
        ({"0.txt": b"x"}, r"expected pictures \(.*\), found none \(1 file passed over: 1 .txt\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, members, why):
    with pytest.raises(InputError, match=why):
        open_images(str(write_tar(tmp_path / "data.tar", members)))


def test_a_picture_that_cannot_be_read_costs_itself_alone(tmp_path):
    path = str(write_tar(tmp_path / "data.tar", {"0.png": picture(0), "1.png": b"no picture", "2.png": b""}))
    with pytest.raises(InputError, match=r"1.png: expected a picture .* 2 of 3 pictures cannot be read"):
        open_images(path).fingerprint()
    images = open_images(path, on_error="skip")
    assert [name for name, _ in images.skipped] == ["data.tar/1.png", "data.tar/2.png"]
    assert np.array_equal(images.read(0, 1), open_images(path).images[:1])


def test_several_files_come_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = open_images(str(write_tar(tmp_path / "all.tar", PAIRS)))
    names = list(PAIRS)
    for number, part in enumerate((names[:4], names[4:8], names[8:])):
        write_tar(tmp_path / f"s-{number:02}.tar", {name: PAIRS[name] for name in part})
    for spec in ("s-{00..02}.tar", "s-*.tar", f"{tmp_path}/s-{{00..01}}*.tar"):
        assert len(open_images(spec)) == (4 if "01" in spec else 5)
    images = open_images("s-*.tar")
    assert images.fingerprint() == whole.fingerprint()
    assert images.files[4] == "s-02.tar/004.png"
    part = pickle.loads(pickle.dumps(images.subset(1, 4)))
    assert part.fingerprint() == whole.subset(1, 4).fingerprint()
    assert len(pickle.dumps(images.subset(4, 5))) < len(pickle.dumps(images))
    shards = open_shards("s-*.tar")
    assert [shard.open().fingerprint() for shard in shards] == [
        whole.subset(*ends).fingerprint() for ends in ((0, 2), (2, 4), (4, 5))
    ]


def test_a_changed_file_has_another_stamp(tmp_path, pairs):
    before, shards = open_images(str(pairs)).images.stamp(), tmp_path / "shard-1.tar"
    write_tar(shards, PAIRS)
    write_tar(tmp_path / "shard-2.tar", PAIRS)
    stamps = [shard.stamp() for shard in open_shards(f"{tmp_path}/shard-*.tar")]
    assert open_images(str(pairs)).images.stamp() == before != ""
    write_tar(pairs, PAIRS | {"9.png": picture(9), "9.cls": "1"})
    write_tar(shards, PAIRS | {"9.png": picture(9), "9.cls": "1"})
    assert open_images(str(pairs)).images.stamp() != before
    again = [shard.stamp() for shard in open_shards(f"{tmp_path}/shard-*.tar")]
    assert (again[0] != stamps[0], again[1] == stamps[1]) == (True, True)
    images = open_images(str(pairs))
    pairs.unlink()
    assert images.images.stamp() == ""


def test_patterns_that_lead_nowhere_are_refused(tmp_path):
    assert tar_paths("photos") is None
    assert tar_paths("s-{8..10}.tar") == ["s-8.tar", "s-9.tar", "s-10.tar"]
    for spec in (f"{tmp_path}/none-*.tar", f"s-{{0..{MAX_TARS}}}.tar", "s-{3..1}.tar", "s-{1..1}{1..1}.tar{0..0}.tar"):
        if spec.startswith("s-{1"):
            assert tar_paths(spec) == ["s-11.tar0.tar"]
            continue
        with pytest.raises(InputError, match=r"no such tar file|mend the range"):
            tar_paths(spec)


def test_a_range_with_a_gap_is_refused_before_anything_is_read(tmp_path):
    for number in (0, 2):
        write_tar(tmp_path / f"s-{number}.tar", PAIRS)
    with pytest.raises(InputError, match=r"s-1\.tar: no such file \(1 of 3 missing\); mend the range"):
        open_shards(f"{tmp_path}/s-{{0..2}}.tar")


CLASSES = ("apple", "pear", "whale")
KINDS = {
    "none": {"0.png": picture(0)},
    "folders": {"apple/0.png": picture(0)},
    "folders unknown to the model": {"house/0.png": picture(0)},
    "folders that are numbers": {"1/0.png": picture(0)},
    "class numbers": {"0.png": picture(0), "0.cls": "2"},
    "class names": {"apple/0.png": picture(0), "apple/0.cls": "pear"},
    "class names unknown to the model": {"0.png": picture(0), "0.json": '{"label": "house"}'},
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_tar_files_have_labels_of_one_kind(tmp_path, kind):
    write_tar(tmp_path / "t-0.tar", KINDS[kind])
    for other, members in KINDS.items():
        write_tar(tmp_path / "t-1.tar", members)
        first, second = open_shards(f"{tmp_path}/t-*.tar", class_names=CLASSES)
        assert len(first.notes) == ("unknown" in kind or "that are" in kind)
        assert (first.open().labels is None) == (kind == "none" or "unknown" in kind)
        if other == kind:
            second.open()
            continue
        why = re.escape(
            f"t-1.tar: expected labels of the kind that the first of the tar files has ({kind}), found {other}"
        )
        with pytest.raises(InputError, match=why):
            second.open()


def test_a_shard_says_what_it_passed_over(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, more in enumerate(({"a.txt": "x"}, {"b.txt": "x"}, {"c.txt": "x", "d.txt": "x"})):
        write_tar(tmp_path / f"t-{number}.tar", {"cottage/0.png": picture(number)} | more)
    command = ["cache-features", "t-*.tar", "--model", str(TINY), "--output", "f", "--shard-size", "9"]
    assert cli.main([*command, "--json", "done.json"]) == 0
    notes = json.loads((tmp_path / "done.json").read_text())["notes"]
    assert [note.partition(" is among")[0] for note in notes] == [
        "no labels: none of cottage",
        "1 file passed over: 1 .txt (2 of 3 shards)",
        "2 files passed over: 2 .txt (1 of 3 shards)",
    ]
    assert [line[8:] for line in capsys.readouterr().err.splitlines()[-3:]] == notes
