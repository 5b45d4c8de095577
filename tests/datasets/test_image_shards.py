"""Shards of a data set: together they are the data set, and each is known again without a look at its pixels."""

import os
import pickle

import caches
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastuq.datasets import ImageSet, open_images
from fastuq.datasets.shards import open_shards
from fastuq.errors import InputError

PIL = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'fastuq[images]'")


@pytest.fixture
def array(tmp_path):
    np.save(tmp_path / "images.npy", caches.images().images)
    return tmp_path / "images.npy"


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("apple", "whale"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):
            pixels = rng.integers(0, 256, (9, 8, 3), np.uint8)
            PIL.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@settings(max_examples=25)
@given(st.integers(1, 50), st.integers(1, 60), st.booleans())
def test_together_they_are_the_data_set(count, size, mirror):
    whole = caches.images(count).mirrored() if mirror else caches.images(count)
    shards = open_shards(caches.images(count), size=size, mirror=mirror)
    assert [(shard.index, shard.count) for shard in shards] == [(n + 1, len(shards)) for n in range(len(shards))]
    parts = [pickle.loads(pickle.dumps(shard)).open() for shard in shards]
    assert {len(part) for part in parts[:-1]} <= {size}
    np.testing.assert_array_equal(np.concatenate([part.read(0, len(part)) for part in parts]), whole.images[:])
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), whole.labels)


def test_pictures_keep_names_and_classes(photos):
    whole = open_images(photos)
    parts = [pickle.loads(pickle.dumps(shard)).open() for shard in open_shards(photos, size=3)]
    assert [name for part in parts for name in part.files] == list(whole.files)
    assert [part.class_names for part in parts] == [("apple", "whale")] * 4
    np.testing.assert_array_equal(np.concatenate([part.images[:] for part in parts]), whole.images[:])
    assert [part.fingerprint() for part in parts] == [
        whole.subset(n, min(n + 3, 10)).fingerprint() for n in (0, 3, 6, 9)
    ]


def test_what_is_sent_is_a_path_or_a_part(array, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(open_shards("images.npy", size=10)[2])
    assert len(sent) < 1000
    assert len(pickle.dumps(open_shards(caches.images().images, size=10)[2])) < 11 * 32 * 32 * 3
    names = pickle.dumps(open_shards("photos", size=1)[9])
    assert b"whale/4.png" in names
    assert b"apple" not in names.replace(b"\x05apple", b"", 1)  # the class, and no other file
    monkeypatch.chdir("/")  # another process has another folder
    np.testing.assert_array_equal(pickle.loads(sent).open().read(0, 10), caches.images().images[20:30])
    assert pickle.loads(names).open().images[:].shape == (1, 32, 32, 3)


def test_a_file_that_is_another_one_by_now_is_refused(array):
    sent = pickle.dumps(open_shards(array, size=10)[0])
    np.save(array, caches.images().images[:40])
    with pytest.raises(InputError, match=r"images\.npy: expected uint8 \(50, 32, 32, 3\).*found.*\(40, 32, 32, 3\)"):
        pickle.loads(sent)
    array.unlink()
    with pytest.raises(InputError, match=r"found.*No such file"):
        pickle.loads(sent)


def test_what_is_kept_of_pixels_goes_with_the_opened_shard(photos):
    (shard,) = open_shards(photos, size=10)
    opened = shard.open()
    opened.fingerprint()
    assert "_seen" in vars(opened)
    assert "_seen" not in vars(shard.images)
    assert "_seen" not in vars(pickle.loads(pickle.dumps(opened)))


def stamps(*args, **options):
    return [shard.stamp() for shard in open_shards(*args, size=5, **options)]


def test_a_stamp_is_the_same_until_something_changes(array, photos):
    for spec in (array, photos):
        first = stamps(spec)
        assert stamps(spec) == first
        assert len(set(first)) == len(first)
        assert [pickle.loads(pickle.dumps(shard)).stamp() for shard in open_shards(spec, size=5)] == first
        assert not set(first) & set(stamps(spec, mirror=True))
    first = stamps(photos)
    assert not set(first) & {*stamps(photos, image_size=(8, 8)), *stamps(photos, crop=0.5)}
    assert not set(first) & set(stamps(photos, on_error="skip"))
    os.utime(photos / "whale" / "0.png", ns=(1, 1))
    assert [one == two for one, two in zip(stamps(photos), first, strict=True)] == [True, False]
    (photos / "whale" / "0.png").rename(photos / "whale" / "00.png")
    assert stamps(photos)[1] != first[1]
    images = open_images(array)
    labelled = [ImageSet(images.images, np.full(50, label), None, "same") for label in (1, 2)]
    assert len({stamps(each)[0] for each in (images, *labelled)}) == 3
    before = stamps(array)
    os.utime(array, ns=(1, 1))
    assert not set(stamps(array)) & set(before)


def test_the_stamp_is_that_of_the_file_that_is_read(array):
    (opened,) = open_shards(array, size=50)
    before = opened.stamp()
    np.save(array.parent / "new.npy", 255 - caches.images().images)
    (array.parent / "new.npy").rename(array)
    assert opened.stamp() == before
    assert open_shards(array, size=50)[0].stamp() != before
    np.testing.assert_array_equal(opened.open().read(0, 50), caches.images().images)


def test_pixels_in_memory_have_no_stamp(tmp_path):
    assert stamps(caches.images()) == [""] * 10
    np.savez(tmp_path / "images.npz", images=caches.images().images)
    assert stamps(tmp_path / "images.npz") == [""] * 10


def test_a_stamp_needs_every_file(photos):
    shards = open_shards(photos, size=5)
    (photos / "whale" / "0.png").unlink()
    assert shards[0].stamp()
    assert not shards[1].stamp()  # so that the pixels are asked for, and say what is wrong


def test_broken_pictures_are_left_out_shard_by_shard(photos):
    (photos / "apple" / "1.png").write_bytes(b"no picture")
    parts = [shard.open() for shard in open_shards(photos, size=5, on_error="skip")]
    assert [len(part) for part in parts] == [4, 5]
    assert [name for name, _ in parts[0].skipped] == ["apple/1.png"]
    with pytest.raises(InputError, match=r"1\.png"):
        open_shards(photos, size=5)[0].open().fingerprint()


def test_labels_are_matched_before_the_cut(photos):
    shards = open_shards(photos, size=5, class_names=("whale", "tiger", "apple"))
    assert [shard.open().labels.tolist() for shard in shards] == [[2] * 5, [0] * 5]
    (note,) = open_shards(photos, size=5, class_names=("a", "b"))[1].notes
    assert "no labels" in note


def test_wrong_sizes(array):
    for size in (0, -1, 2.5, "5", None, True):
        with pytest.raises(InputError, match="shard size: expected a whole number from 1"):
            open_shards(array, size=size)
    with pytest.raises(InputError, match="expected one of stop, skip"):
        open_shards(array, on_error="never")
    many = ImageSet(np.broadcast_to(np.zeros((1, 1, 1, 3), np.uint8), (100_000, 1, 1, 3)), None, None, "many")
    with pytest.raises(InputError, match="expected at most 99999 shards, found 100000; make them larger"):
        open_shards(many, size=1)
