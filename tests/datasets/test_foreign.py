"""Published images of other kinds, in small files of the published layout: opened by name, in the model's size."""

import gzip

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fastuq.datasets import open_images
from fastuq.datasets.foreign import FOREIGN
from fastuq.datasets.published import ARCHIVES
from fastuq.errors import InputError

RNG = np.random.default_rng(0)
DIGITS = RNG.integers(0, 256, (5, 28, 28), np.uint8)
HOUSES = RNG.integers(0, 256, (4, 32, 32, 3), np.uint8)
PICTURES = {
    "textures": ["dotted/1.jpg", "dotted/2.jpg", "lined/1.jpg"],
    "places365": ["1.jpg"],
    "tiny-imagenet": ["v.JPEG"],
}


def idx(images, magic=0x803):
    return gzip.compress(np.array([magic, *images.shape], ">u4").tobytes() + images.tobytes(), mtime=0)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    for name in ("mnist", "svhn"):
        (tmp_path / name).mkdir()
    (tmp_path / ARCHIVES["mnist"].file).write_bytes(idx(DIGITS))
    labels = np.array([[1], [10], [3], [4]], np.uint8)
    savemat(tmp_path / ARCHIVES["svhn"].file, {"X": HOUSES.transpose(1, 2, 3, 0), "y": labels})
    for name, files in PICTURES.items():
        for file in files:
            path = tmp_path / ARCHIVES[name].folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return tmp_path


def test_arrays(root):
    houses = open_images("svhn")
    np.testing.assert_array_equal(houses.images[:], HOUSES)
    digits = open_images("mnist", image_size=(28, 28))
    np.testing.assert_array_equal(digits.images[:], DIGITS[..., None].repeat(3, axis=3))
    assert (digits.name, digits.labels, len(digits.fingerprint())) == ("mnist", None, 64)


@pytest.mark.parametrize("size", [(32, 32), (48, 64)])
@pytest.mark.parametrize("name", FOREIGN)
def test_all_come_in_the_size_of_the_model(root, name, size):
    images = open_images(name, image_size=size)
    assert images.images.shape[1:] == (*size, 3)
    assert images.name == name
    assert images.read(0, len(images)).shape == images.images.shape
    assert (images.class_names == ("dotted", "lined")) == (name == "textures")


def test_resized_as_pictures_are(root):
    Image.fromarray(HOUSES[0]).save(root / "one.png")
    picture, array = open_images(root / "one.png", image_size=(20, 24)), open_images("svhn", image_size=(20, 24))
    np.testing.assert_array_equal(array.images[:1], picture.images[:1])
    assert array.images[1:3].shape == (2, 20, 24, 3)


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_there_names_the_command(tmp_path, monkeypatch, name):
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    with pytest.raises(InputError, match=rf"{name} is not there: expected .*fastuq download {name}.*FASTUQ_DATA"):
        open_images(name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b"short", mtime=0),
        idx(DIGITS)[:-20],
        idx(DIGITS, magic=0x801),
        idx(DIGITS[:0]),
        gzip.compress(np.array([0x803, 5, 28, 28], ">u4").tobytes() + bytes(100), mtime=0),
        gzip.compress(np.array([0x803, 2**31, 2**31, 2**31], ">u4").tobytes(), mtime=0),
        gzip.compress(np.array([0x803, 2**32 - 1, 2**31, 2**3], ">u4").tobytes(), mtime=0),
    ],
)
def test_damaged_files_are_one_line(root, content):
    for name in ("mnist", "svhn"):
        (root / ARCHIVES[name].file).write_bytes(content)
        with pytest.raises(InputError, match=f"expected the images of {name}, found a damaged file") as caught:
            open_images(name)
        assert "\n" not in str(caught.value)


def test_matlab_files_of_something_else(root):
    for content in ({"y": HOUSES}, {"X": HOUSES[0, 0]}, {"X": np.array(["text"], object)}):
        savemat(root / ARCHIVES["svhn"].file, content)
        with pytest.raises(InputError, match="svhn"):
            open_images("svhn")


def test_an_altered_file_is_refused(root):
    (root / "svhn" / "MD5SUMS").write_text(f"{'0' * 32}  test_32x32.mat\n")
    with pytest.raises(InputError, match=r"expected MD5 0000.*fastuq download svhn"):
        open_images("svhn")
