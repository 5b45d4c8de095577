"""File names: in little memory, kept by a cache beside the features, in the table of results."""

import csv
import os

import caches
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import tiny_model

from fastuq.cache import FeatureCache, cache_features
from fastuq.cache.file import CacheFile
from fastuq.cli import main
from fastuq.datasets import ImageSet
from fastuq.errors import CacheError, InputError
from fastuq.report.samples import write_sample_table
from fastuq.scoring.scoring import score
from fastuq.util import file_names
from fastuq.util.file_names import FileNames

NAMES = [f"cat/{n}.jpg" for n in range(17)] + [
    'näme, "quoted"\nand\x1b[31m.png',
    os.fsdecode(b"b/\xff.png"),
    "=1+1.png",
]


def named(count=20):
    images = caches.images(count)
    return ImageSet(images.images, images.labels, images.class_names, images.name, NAMES[:count])


names_of_files = st.lists(st.binary(min_size=1, max_size=9).filter(lambda b: 0 not in b).map(os.fsdecode), max_size=9)


@given(names_of_files, st.slices(9))
def test_names_are_a_sequence(names, part):
    kept = FileNames.of(names)
    assert list(kept) == names
    assert list(kept[part]) == names[part]
    assert list(FileNames(kept[part].to_bytes())) == names[part]
    assert [kept[n] for n in range(-len(names), len(names))] == names + names
    with pytest.raises(IndexError):
        kept[len(names)]


@given(names_of_files, st.integers(1, 4))
def test_names_in_order_are_what_sorted_gives(names, run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_names, "_RUN", run)
        assert list(FileNames.in_order(iter(names))) == sorted(names)


@pytest.mark.parametrize("names", [["a\0b"], [3], ["\ud800"]])
def test_what_is_no_name_is_refused(names):
    with pytest.raises(InputError, match="expected names of files"):
        FileNames.of(names)


def test_a_million_names_take_little_memory():
    names = FileNames.of(f"class_{n % 1000}/{n:08}.jpeg" for n in range(1_000_000))
    assert len(names.to_bytes()) + names._bounds.nbytes < 40 * 2**20
    assert names[765_432] == "class_432/00765432.jpeg"
    assert names[10:500_000]._text is names._text


def test_subsets_and_matched_sets_keep_them():
    images = named()
    assert list(images.subset(5, 9).files) == NAMES[5:9]
    assert list(images.matched_to(tuple(reversed(images.class_names))).files) == NAMES
    assert images.fingerprint() == caches.images(20).fingerprint()
    with pytest.raises(InputError, match="expected 20 file names, one per image, found 3"):
        ImageSet(images.images, None, None, "few", NAMES[:3])


def test_a_cache_keeps_them(tmp_path):
    cache_features(named(), tiny_model(), tmp_path / "c.h5", batch_size=8).close()
    with FeatureCache.open(tmp_path / "c.h5") as cache:
        assert list(cache.files) == NAMES
        assert np.array_equal(cache.read(0, 20), caches.features(20))
        assert list(score(tiny_model(), cache, num_iter=2).files) == NAMES


def test_a_cache_without_names_is_the_same_bytes_as_ever(tmp_path):
    path = caches.write(tmp_path / "c.h5", 20)
    assert b"files" not in path.read_bytes()
    with FeatureCache.open(path) as cache:
        assert cache.files is None
        assert score(tiny_model(), cache, num_iter=2).files is None


def test_the_images_at_hand_say_the_names(tmp_path):
    path = caches.write(tmp_path / "c.h5", 20)
    with cache_features(named(), tiny_model(), path) as cache:
        assert cache.reused
        assert list(cache.files) == NAMES
    with FeatureCache.open(path, images=named()) as cache:
        assert list(cache.files) == NAMES


def test_parts_and_shards_keep_their_names(tmp_path):
    parts = [caches.write_part(tmp_path / f"{n}.h5", n, 3, named()) for n in (1, 2, 3)]
    cache_features(named(), tiny_model(), tmp_path / "shards", shard_size=7).close()
    for path in (parts, tmp_path / "shards"):
        with FeatureCache.open(path) as cache:
            assert list(cache.files) == NAMES


def test_damaged_names_are_seen_and_put_back(tmp_path):
    path = tmp_path / "c.h5"
    cache_features(named(), tiny_model(), path).close()
    whole = path.read_bytes()
    place = whole.index(b"cat/3.jpg")
    path.write_bytes(whole[:place] + b"d" + whole[place + 1 :])
    with FeatureCache.open(path) as cache:
        assert len(cache.read(0, 20)) == 20
        with pytest.raises(CacheError, match=r"file names do not match their SHA-256.*fastuq cache repair"):
            _ = cache.files
    file = CacheFile(path)
    with pytest.raises(CacheError, match="file names"):
        file.pending()
    file.close()
    with cache_features(named(), tiny_model(), path) as cache:
        assert (cache.labels_restored, cache.computed) == (True, 0)
    assert path.read_bytes() == whole


def test_names_in_the_table_break_neither_rows_nor_terminals(tmp_path):
    cache_features(named(), tiny_model(), tmp_path / "c.h5").close()
    with FeatureCache.open(tmp_path / "c.h5") as cache:
        write_sample_table(tmp_path / "t.csv", score(tiny_model(), cache, num_iter=2), tiny_model().class_names)
    text = (tmp_path / "t.csv").read_bytes().decode()
    rows = list(csv.reader(text.splitlines()))
    assert rows[0][:3] == ["index", "file", "label"]
    assert [row[1] for row in rows[1:]] == [
        *NAMES[:17],
        r'näme, "quoted"\nand\x1b[31m.png',
        r"b/\udcff.png",
        "'=1+1.png",
    ]
    assert all(line.isprintable() for line in text.splitlines())


def test_a_folder_brings_them(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for name in ("wolf/b.png", "bear/a.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    assert main(["score", "photos", "--csv", "t.csv", "--num-iter", "2"]) == 0
    assert [row["file"] for row in csv.DictReader((tmp_path / "t.csv").read_text().splitlines())] == [
        "bear/a.png",
        "wolf/b.png",
    ]
