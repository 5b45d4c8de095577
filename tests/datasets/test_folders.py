"""Folders of pictures as people have them: what is passed over, what is a class, what a broken file costs."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fastuq.datasets import ImageSet, open_images, pictures
from fastuq.datasets.picture import read_picture
from fastuq.errors import InputError

RNG = np.random.default_rng(0)


def picture(path, size=(32, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (*size, 3), np.uint8)).save(path)


def write(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def photos(tmp_path):
    """Two classes with two pictures each."""
    root = tmp_path / "photos"
    for name in ("cat/1.png", "cat/2.PNG", "dog/1.bmp", "dog/old/2.webp"):
        picture(root / name)
    return root


def test_what_systems_leave_behind_is_passed_over_without_a_word(photos):
    for name in (
        "._IMG_0.jpg", ".hidden.png", "cat/._1.png", ".DS_Store", "cat/Thumbs.db", "desktop.ini",
        "__MACOSX/cat/._1.png", "__MACOSX/1.png", ".ipynb_checkpoints/1-checkpoint.png", "cat/.ipynb_checkpoints/1.png",
        ".git/x.png",
    ):  # fmt: skip
        write(photos / name)
    images = open_images(photos)
    assert list(images.files) == ["cat/1.png", "cat/2.PNG", "dog/1.bmp", "dog/old/2.webp"]
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert images.notes == ()
    assert images.images[:].shape == (4, 32, 32, 3)


def test_files_of_other_kinds_are_counted(photos):
    for number in range(10):
        write(photos / "cat" / f"{number}.HEIC")
    write(photos / "notes.txt")
    write(photos / "dog/old/readme.txt")
    assert open_images(photos).notes == ("12 files passed over: 10 .heic, 2 .txt",)
    write(photos / "LICENSE")
    (photos / "gone.png").symlink_to("nowhere")
    for suffix in "abc":
        write(photos / f"1.{suffix}\x1b")
    (note,) = open_images(photos).notes
    assert note.startswith("17 files passed over: 10 .heic, 2 .txt, 1 ")
    assert note.endswith(", ...")
    assert note.isprintable()


def test_a_folder_without_pictures_says_what_it_holds(tmp_path):
    for number in range(3):
        write(tmp_path / "cat" / f"{number}.heic")
    with pytest.raises(InputError, match=r"expected pictures .*found none \(3 files passed over: 3 \.heic\)"):
        open_images(tmp_path)


def test_a_flat_folder_has_no_labels(tmp_path):
    for name in ("b.png", "a.png", "empty/readme"):
        picture(tmp_path / name) if name.endswith("png") else write(tmp_path / name)
    images = open_images(tmp_path)
    assert (list(images.files), images.labels) == (["a.png", "b.png"], None)
    picture(tmp_path / "cat/c.png")
    with pytest.raises(InputError, match=r"found a\.png and cat/c\.png: pictures beside sub-folders"):
        open_images(tmp_path)


def test_classes_that_are_numbers_come_in_their_order(tmp_path):
    for number in (10, 9, 0, 100):
        picture(tmp_path / str(number) / "1.png")
    images = open_images(tmp_path)
    assert images.class_names == ("0", "9", "10", "100")
    matched = images.matched_to(tuple(f"class_{n}" for n in range(101)))
    assert matched.labels.tolist() == [0, 9, 10, 100]
    with pytest.raises(InputError, match="class '100' is unknown to the model, which has the 100 classes"):
        images.matched_to(tuple(f"class_{n}" for n in range(100)))
    assert images.matched_to(("9", "0", "10", "100")).labels.tolist() == [1, 0, 2, 3]


def test_classes_that_no_model_knows(photos):
    images = open_images(photos)
    other = images.matched_to(("apple", "pear"))
    assert (other.labels, other.class_names) == (None, None)
    assert other.notes == ("no labels: none of cat, dog is among the 2 classes apple, pear, ...",)
    assert (
        other.fingerprint() == open_images(photos).matched_to(("apple", "pear")).fingerprint() != images.fingerprint()
    )
    with pytest.raises(InputError, match="class 'dog' is unknown to the model"):
        images.matched_to(("cat", "horse"))
    with pytest.raises(InputError, match="none of cat, dog is among"):
        images.named(("apple", "pear"))
    assert images.named(("horse", "dog", "cat")).labels.tolist() == [2, 2, 1, 1]
    numbers = ImageSet(np.zeros((2, 4, 4, 3), np.uint8), [0, 2], None, "n")
    assert numbers.named(("a", "b", "c")).class_names == ("a", "b", "c")
    with pytest.raises(InputError, match="class numbers 0 to 1, found 0 to 2"):
        numbers.named(("a", "b"))


def test_names_in_no_encoding_and_names_in_two_cases(tmp_path):
    root = os.fsencode(tmp_path / "photos")
    os.makedirs(os.path.join(root, b"caf\xe9"))
    os.makedirs(os.path.join(root, b"Caf\xc3\xa9"))
    picture(tmp_path / "a.png")
    for name in (b"caf\xe9/\xff.png", b"caf\xe9/A.png", b"caf\xe9/a.png", b"caf\xe9/a.PNG", "Café/ü.png".encode()):
        os.link(tmp_path / "a.png", os.path.join(root, name))
    images = open_images(tmp_path / "photos")
    assert os.fsencode(images.files[0]) == "Café/ü.png".encode()
    assert len(set(images.files)) == 5
    assert sorted(images.labels.tolist()) == [0, 1, 1, 1, 1]
    assert images.images[:].shape == (5, 32, 32, 3)


def test_links_in_a_circle_end(photos):
    (photos / "cat/again").symlink_to("..")
    (photos / "cat/self").symlink_to(".")
    (photos / "cat/loop.png").symlink_to("loop.png")
    (photos / "round").symlink_to(".")
    (photos / "dog/old/up").symlink_to("../../dog")
    for number in range(30):  # each folder is reached in two ways: 2 ** 30 paths
        (photos / f"dog/{number}").mkdir()
        for link in "ab":
            (photos / f"dog/{number}/{link}").symlink_to(photos / f"dog/{number + 1}")
    picture(photos / "dog/29/deep.png")
    images = open_images(photos)
    assert len(images) == 5
    assert images.class_names == ("cat", "dog")
    (photos.parent / "linked").mkdir()
    (photos.parent / "linked/bird").symlink_to(photos / "dog/29")
    assert list(open_images(photos.parent / "linked").files) == ["bird/deep.png"]


def test_a_folder_that_may_not_be_read(photos, monkeypatch):
    """Not by permissions, which do not hold for an administrator."""
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("old"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    for on_error in ("stop", "skip"):
        with pytest.raises(InputError, match=r"cannot read the folder .*dog/old: Permission denied"):
            open_images(photos, on_error=on_error)


@pytest.fixture
def broken(photos):
    """Put two broken pictures among the four."""
    write(photos / "cat/1a.jpg", b"")
    whole = (photos / "dog/1.bmp").read_bytes()
    write(photos / "dog/old/cut.bmp", whole[: len(whole) // 2])
    return photos


def test_a_broken_file_is_found_by_the_one_pass(broken, monkeypatch):
    read = []
    monkeypatch.setattr(pictures, "read_picture", lambda path, *how: read.append(path.name) or read_picture(path, *how))
    images = open_images(broken)
    assert read == []
    for _ in range(2):
        with pytest.raises(InputError, match=r"1a\.jpg.*; 2 of 6 pictures cannot be read.*--on-error skip"):
            images.fingerprint()
    assert len(read) == 6
    assert np.array_equal(images.images[2:4], open_images(broken).images[2:4])


def test_a_broken_file_costs_that_file(broken, monkeypatch):
    read = []
    monkeypatch.setattr(pictures, "read_picture", lambda path, *how: read.append(path.name) or read_picture(path, *how))
    images = open_images(broken, on_error="skip")
    print = images.matched_to(("dog", "cat")).fingerprint()
    assert len(read) == 6  # no second look
    assert list(images.files) == ["cat/1.png", "cat/2.PNG", "dog/1.bmp", "dog/old/2.webp"]
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert [file for file, _ in images.skipped] == ["cat/1a.jpg", "dog/old/cut.bmp"]
    assert "an empty file" in images.skipped[0][1]
    assert np.array_equal(images.read(1, 3), images.images[1:3])
    os.remove(broken / "cat/1a.jpg")
    os.remove(broken / "dog/old/cut.bmp")
    clean = open_images(broken, on_error="skip")
    assert (clean.skipped, clean.matched_to(("dog", "cat")).fingerprint()) == ((), print)


def test_broken_files_of_a_part(broken):
    part = open_images(broken).subset(1, 6)
    with pytest.raises(InputError, match=r"1a\.jpg.*; 2 of 5 pictures cannot be read"):
        part.fingerprint()
    good = part.readable()
    assert list(good.files) == ["cat/2.PNG", "dog/1.bmp", "dog/old/2.webp"]
    assert np.array_equal(good.images[:], part.images[1:4])


def test_labels_of_all_files_lose_those_of_the_broken_ones(broken):
    images = open_images(broken, labels=[0, 0, 0, 0, 1, 1], on_error="skip")
    assert dict(zip(images.files, images.labels.tolist(), strict=True))["dog/1.bmp"] == 0
    with pytest.raises(InputError, match="labels do not match: expected 6"):
        open_images(broken, labels=[0, 1, 0, 1], on_error="skip")


def test_a_folder_of_broken_files_alone(tmp_path):
    write(tmp_path / "a.png", b"")
    with pytest.raises(InputError, match="none of 1 pictures can be read"):
        open_images(tmp_path, on_error="skip")
    with pytest.raises(InputError, match="on_error: expected one of stop, skip"):
        open_images(tmp_path, on_error="ignore")


def test_pictures_are_decoded_once_where_they_can_be_kept(broken, monkeypatch):
    read = []
    monkeypatch.setattr(pictures, "read_picture", lambda path, *how: read.append(path.name) or read_picture(path, *how))
    images = open_images(broken, on_error="skip").matched_to(("dog", "cat"))
    whole = images.read(0, 4)
    images.read(0, 4)[:] = 0  # a copy
    assert np.array_equal(images.read(1, 3), whole[1:3])
    assert len(read) == 6
    assert np.array_equal(whole, images.images[:])


def test_a_picture_that_changes_after_the_pass_is_seen(photos, monkeypatch):
    monkeypatch.setattr("fastuq.datasets.seeing.KEPT_BYTES", 4 * 32 * 32 * 3 - 1)
    images = open_images(photos)
    images.fingerprint()
    picture(photos / "dog/1.bmp")
    with pytest.raises(InputError, match="images 2 to 2 are others than"):
        images.read(2, 3)


def test_another_size_reads_the_files_anew(photos):
    images = open_images(photos)
    large = images.subset(1, 3).resized((40, 50))
    assert large.images[:].shape == (2, 40, 50, 3)
    assert list(large.files) == ["cat/2.PNG", "dog/1.bmp"]
    array = ImageSet(np.zeros((2, 4, 4, 3), np.uint8), None, None, "array")
    assert array.resized((8, 8)) is array


MILLION = """
import os, sys
from fastuq.datasets import folder, open_images

def peak():
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024

class Entry:
    is_symlink = lambda self: False
    is_dir = lambda self: self.name.startswith("class_")
    is_file = lambda self: not self.is_dir()
    def __init__(self, name):
        self.name = name

class Scan:
    def __init__(self, path):
        self.path = str(path)
    def __enter__(self):
        number = os.path.basename(self.path)
        if number.startswith("class_"):
            return (Entry(f"IMG_{n:07}.jpeg") for n in range(1000))
        return (Entry(f"class_{n}") for n in range(1000))
    def __exit__(self, *error):
        pass

folder.os.scandir = Scan
folder._Local.identity = lambda self, inner: inner
before = peak()
images = open_images(sys.argv[1]).matched_to(tuple(f"class_{n}" for n in range(1000)))
part = images.subset(500_000, 1_000_000)
assert len(images.files) == 1_000_000 and part.files[-1] == "class_999/IMG_0000999.jpeg", part.files[-1]
print(peak() - before)
"""


def test_a_million_files_take_little_memory(tmp_path):
    done = subprocess.run([sys.executable, "-c", MILLION, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 150, "MB"
