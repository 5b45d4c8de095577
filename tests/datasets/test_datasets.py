"""ImageSet and open_images: what is read, and what bad input gets."""

import pickle

import numpy as np
import pytest
from PIL import Image

from fastuq.datasets import ImageSet, data_root, open_images, open_test_images
from fastuq.datasets.classes import CIFAR100_CLASSES
from fastuq.errors import InputError

RNG = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    return tmp_path


def write_cifar(root, count=7, split="test", changes=None):
    """Write CIFAR-100's python layout as Python 2 did: byte keys, pixels in planes."""
    folder = root / "cifar-100-python"
    folder.mkdir(exist_ok=True)
    content = {
        b"data": RNG.integers(0, 256, (count, 3072), np.uint8),
        b"fine_labels": [int(n) for n in RNG.integers(0, 100, count)],
        b"coarse_labels": [0] * count,
        b"filenames": [b"x.png"] * count,
        b"batch_label": b"testing batch 1 of 1",
    } | (changes or {})
    (folder / split).write_bytes(pickle.dumps(content, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": [n.encode() for n in CIFAR100_CLASSES]}, 2))
    return content


def write_cifar100c(root, name="fog", rows=50_000):
    folder = root / "CIFAR-100-C"
    folder.mkdir(exist_ok=True)
    np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (rows, 32, 32, 3)).flush()
    np.save(folder / "labels.npy", np.tile(np.arange(10_000) % 100, 5).astype(np.uint8))
    return folder


def test_bundled_images_are_the_first_twenty():
    images = open_images("bundled")
    assert images.images.shape == (20, 32, 32, 3)
    assert images.labels.tolist() == [49, 33, 72, 51, 71, 92, 15, 14, 23, 0, 71, 75, 81, 69, 40, 43, 92, 97, 70, 53]
    assert images.class_names == CIFAR100_CLASSES
    assert images.name == "bundled"
    assert images.fingerprint() == "8cca27322d8d70602db6576cccf657fb3ec019a0a50f0a5f1b09515659c6c23d"


def test_none_means_cifar100_where_it_is_there_else_bundled(root):
    assert open_images().name == "bundled"
    write_cifar(root)
    assert open_images().name == "cifar100/test"


def test_cifar100_pixels_become_rgb_rows(root):
    content = write_cifar(root)
    images = open_images("cifar100")
    assert images.images[3, 5, 9].tolist() == [content[b"data"][3, 1024 * c + 32 * 5 + 9] for c in range(3)]
    assert images.labels.tolist() == content[b"fine_labels"]
    assert images.class_names == CIFAR100_CLASSES


@pytest.mark.parametrize(
    "changes",
    [
        {b"data": np.zeros((7, 3071), np.uint8)},
        {b"data": np.zeros((7, 3072), np.float32)},
        {b"data": None},
        {b"fine_labels": [1] * 6},
        {b"fine_labels": [100] * 7},
        {b"fine_labels": "abc"},
    ],
)
def test_cifar100_that_does_not_fit_is_refused(root, changes):
    write_cifar(root, changes=changes)
    with pytest.raises(InputError, match="expected"):
        open_images("cifar100")


def test_missing_data_sets_say_where_to_get_them(root):
    with pytest.raises(InputError, match="fastuq download cifar100"):
        open_images("cifar100")
    with pytest.raises(InputError, match="fastuq corrupt"):
        open_images("cifar100c/fog/3")


def test_cifar100c_severity_is_a_slice_of_rows_and_extra_files_are_tolerated(root):
    folder = write_cifar100c(root)
    (folder / "README").write_text("another file")
    pixels = np.load(folder / "fog.npy", mmap_mode="r+")
    pixels[20_000:30_000] = 3
    pixels.flush()
    images = open_images("cifar100c/fog/3")
    assert not isinstance(images.images, np.ndarray)  # read piece by piece
    assert len(images) == 10_000
    assert images.images[:].min() == images.images[:].max() == 3
    assert images.labels[:3].tolist() == [0, 1, 2]
    assert len(open_images("cifar100c/fog")) == 50_000
    with pytest.raises(InputError, match="severity 6"):
        open_images("cifar100c/fog/6")
    with pytest.raises(InputError, match="it holds fog"):
        open_images("cifar100c/smog/1")


def test_cifar100c_of_another_shape_is_refused(root):
    write_cifar100c(root, rows=10_000)
    with pytest.raises(InputError, match="published layout"):
        open_images("cifar100c/fog/1")


def test_unknown_spec_lists_the_choices(root):
    for spec in ("cifar10", "cifar100/val", "cifar100c", "no/such/file.npy", "pyproject.toml"):
        with pytest.raises(InputError, match=r"cifar10|no such file"):
            open_images(spec)


def test_arrays_and_array_files(tmp_path):
    pixels = RNG.integers(0, 256, (5, 8, 9, 3), np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    np.savez(tmp_path / "b.npz", images=pixels, labels=np.arange(5), class_names=np.array(list("abcde")))
    np.savez_compressed(tmp_path / "c.npz", pixels)
    prints = set()
    for spec in (pixels, tmp_path / "a.npy", str(tmp_path / "c.npz")):
        images = open_images(spec)
        assert np.array_equal(images.images[:], pixels)
        assert images.labels is None
        prints.add(images.fingerprint())
    assert len(prints) == 1
    labelled = open_images(tmp_path / "b.npz")
    assert labelled.labels.tolist() == [0, 1, 2, 3, 4]
    assert labelled.class_names == tuple("abcde")
    assert labelled.fingerprint() not in prints


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((5, 8, 8, 4), np.uint8),
        np.zeros((5, 8, 8, 3), np.float32),
        np.zeros((5, 8, 8), np.float32),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.uint8(3),
    ],
)
def test_other_shapes_and_dtypes_are_refused(pixels):
    with pytest.raises(InputError, match="expected images as uint8"):
        open_images(pixels)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, -1], [0.0, 1.0, 2.0], [[0], [1]], [[0, 1], [1, 1], [1, 0]], "abc"])
def test_labels_that_do_not_match_are_refused(labels):
    with pytest.raises(InputError, match="labels do not match"):
        open_images(np.zeros((3, 4, 4, 3), np.uint8), labels=labels)


def test_one_hot_rows_of_another_number_of_classes_are_refused():
    names, pixels = ("a", "b", "c"), np.zeros((2, 4, 4, 3), np.uint8)
    assert ImageSet(pixels, np.eye(3)[[2, 0]], names, "three").labels.tolist() == [2, 0]
    with pytest.raises(InputError, match=r"expected 2 whole numbers.*found float64 \(2, 2\)"):
        ImageSet(pixels, np.eye(2), names, "two")


def test_labels_beyond_the_class_names_are_refused():
    with pytest.raises(InputError, match="class numbers 0 to 99, found 0 to 100"):
        open_images("bundled", labels=[0] * 19 + [100])


def test_one_changed_pixel_or_label_changes_the_fingerprint():
    images = open_images("bundled")
    pixels = np.array(images.images)
    pixels[7, 3, 3, 1] ^= 1
    labels = images.labels.copy()
    labels[0] += 1
    prints = {images.fingerprint()}
    for other in (open_images(pixels, labels=images.labels), open_images(images.images, labels=labels)):
        prints.add(other.fingerprint())
    prints.add(open_images(images.images).fingerprint())
    prints.add(open_images(images.images.reshape(20, 16, 64, 3), labels=images.labels).fingerprint())
    assert len(prints) == 5


def test_fingerprint_does_not_depend_on_the_chunk(monkeypatch):
    whole = open_images("bundled").fingerprint()
    monkeypatch.setattr("fastuq.datasets.seeing.CHUNK_BYTES", 10_000)
    assert open_images("bundled").fingerprint() == whole


def test_images_are_read_as_the_fingerprint_saw_them(monkeypatch):
    images = open_images("bundled")
    pixels = np.array(images.images)
    monkeypatch.setattr("fastuq.datasets.seeing.CHUNK_BYTES", 10_000)
    same = open_images(pixels)
    assert np.array_equal(same.read(3, 20), pixels[3:20])
    same.read(3, 20)[:] = 0  # a copy
    part = same.subset(5, 9)
    assert np.array_equal(part.read(1, 3), pixels[6:8])
    pixels[7, 31, 31, 2] ^= 1
    assert np.array_equal(same.read(0, 7), pixels[:7])
    for start, stop in ((7, 8), (0, 20), (5, 8)):
        with pytest.raises(InputError, match=f"images {start} to {stop - 1} are others than"):
            same.read(start, stop)
    with pytest.raises(InputError, match="images 2 to 2 are others than"):
        part.read(2, 3)


def make_folder(folder, names, size=(40, 20)):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)


def test_folder_with_classes_is_lazy_sorted_and_resized(tmp_path):
    make_folder(tmp_path / "set", ["wolf/b.png", "wolf/a.JPG", "bear/z.jpeg"])
    (tmp_path / "set" / "wolf" / "notes.txt").write_text("not an image")
    (tmp_path / "set" / "empty").mkdir()
    images = open_images(tmp_path / "set", image_size=(16, 24))
    assert images.name == "folder:set"
    assert images.class_names == ("bear", "wolf")
    assert images.labels.tolist() == [0, 1, 1]
    assert images.images.shape == (3, 16, 24, 3)
    assert images.images[1:3].shape == (2, 16, 24, 3)
    (tmp_path / "set" / "bear" / "z.jpeg").write_bytes(b"gone bad")
    assert images.images[1:].dtype == np.uint8
    with pytest.raises(InputError, match=r"z\.jpeg: expected a picture"):
        images.images[:1]


def test_folder_without_classes_has_no_labels_and_keeps_pixels_of_the_right_size(tmp_path):
    pixels = RNG.integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    images = open_images(tmp_path)
    assert images.labels is None
    assert np.array_equal(np.asarray(images.images)[0], pixels)


@pytest.mark.parametrize("shape", [(3, 40, 50), (4, 40, 50), (40, 50, 2), (40, 50, 4), (3, 40, 40)])
def test_arrays_that_may_be_one_image_or_several_are_refused(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    np.savez(tmp_path / "a.npz", images=np.zeros(shape, np.uint8))
    for source in (np.zeros(shape, np.uint8), tmp_path / "a.npy", tmp_path / "a.npz"):
        with pytest.raises(InputError, match=r"channels first .* or \d+ grey ones; give one image as \(H, W, 3\)"):
            open_images(source)
    assert len(open_images(np.zeros((*shape, 1), np.uint8))) == shape[0]


def test_one_grey_image(tmp_path):
    grey = RNG.integers(0, 256, (40, 50, 1), np.uint8)
    np.save(tmp_path / "a.npy", grey)
    for source in (grey, tmp_path / "a.npy", grey[None], grey[None, :, :, 0]):
        assert np.array_equal(open_images(source).images[:], np.repeat(grey, 3, 2)[None])
    with pytest.raises(InputError, match=r"one grey image is \(H, W, 1\)"):
        open_images(grey[:, :, 0])


def test_grey_pictures_of_16_bits_keep_their_levels(tmp_path):
    grey = RNG.integers(0, 256, (32, 32)).astype(np.uint8)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    found = np.asarray(open_images(tmp_path).images)[0]
    assert np.array_equal(found, np.stack([grey] * 3, axis=-1))


def test_folders_that_make_no_set_are_refused(tmp_path):
    with pytest.raises(InputError, match="found none"):
        open_images(tmp_path)
    make_folder(tmp_path, ["a.png", "wolf/b.png"])
    with pytest.raises(InputError, match="beside sub-folders"):
        open_images(tmp_path)


def test_labels_are_matched_to_a_models_classes_by_name(tmp_path):
    make_folder(tmp_path, ["wolf/b.png", "bear/a.png"])
    images = open_images(tmp_path).matched_to(CIFAR100_CLASSES)
    assert images.labels.tolist() == [3, 97]
    assert images.class_names == CIFAR100_CLASSES
    with pytest.raises(InputError, match="'bear' is unknown to the model"):
        open_images(tmp_path).matched_to(("cat", "wolf"))


def test_subset_of_a_lazy_set(tmp_path):
    make_folder(tmp_path, [f"{n}.png" for n in range(6)], size=(4, 4))
    images = open_images(tmp_path, image_size=(4, 4))
    part = images.subset(2, 5)
    assert len(part) == 3
    assert np.array_equal(part.images[1:3], images.images[3:5])
    assert np.array_equal(part.subset(1, 3).images[:], images.images[3:5])
    assert part.fingerprint() == open_images(tmp_path, image_size=(4, 4)).subset(2, 5).fingerprint()
    assert part.fingerprint() != images.subset(1, 4).fingerprint()
    for start, stop in ((2, 2), (-1, 3), (0, 7)):
        with pytest.raises(InputError, match="asked for"):
            images.subset(start, stop)


def test_subset_of_all_is_the_set_itself():
    images = open_images("bundled")
    assert images.subset(0, 20) is images
    assert images.subset(0, 3).labels.tolist() == [49, 33, 72]


def test_data_root_prefers_the_environment_then_here_then_the_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTUQ_DATA", "/somewhere")
    assert str(data_root()) == "/somewhere"
    monkeypatch.delenv("FASTUQ_DATA")
    monkeypatch.chdir(tmp_path)
    assert (data_root() / "images").is_dir()
    (tmp_path / "data").mkdir()
    assert data_root().resolve() == tmp_path / "data"


def test_image_set_is_what_the_rest_sees():
    images = ImageSet(np.zeros((2, 4, 4, 3), np.uint8), np.array([1, 0], np.uint8), ("a", "b"), "mine")
    assert images.labels.dtype == np.int64
    assert len(images) == 2


def test_cifar100c_of_fewer_images_or_one_severity(root):
    folder = root / "CIFAR-100-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(np.arange(4, dtype=np.uint8), 5))
    np.save(folder / "fog.npy", np.repeat(np.arange(20, dtype=np.uint8), 3072).reshape(20, 32, 32, 3))
    np.save(folder / "fog-2.npy", np.zeros((4, 32, 32, 3), np.uint8))
    assert open_images("cifar100c/fog/2").images[:][:, 0, 0, 0].tolist() == [4, 5, 6, 7]
    assert open_images("cifar100c/fog-2").labels.tolist() == [0, 1, 2, 3]
    np.save(folder / "labels.npy", np.zeros(19, np.uint8))
    with pytest.raises(InputError, match="class numbers five times"):
        open_images("cifar100c/fog/2")


def test_test_images_follow_the_training_images(root):
    own = open_images(np.zeros((4, 32, 32, 3), np.uint8))
    assert open_test_images(None, own) is None
    assert open_test_images("none", own) is None
    write_cifar(root)
    write_cifar(root, split="train")
    training = open_images("cifar100/train")
    assert open_test_images(None, training).name == "cifar100/test"
    assert open_test_images("bundled", training).name == "bundled"
    with pytest.raises(InputError, match="expected images"):
        open_test_images("bundled", open_images(np.zeros((4, 16, 16, 3), np.uint8)))
    names = ImageSet(np.zeros((4, 32, 32, 3), np.uint8), [0, 1, 0, 1], ("cat", "dog"), "own")
    with pytest.raises(InputError, match="none of apple, "):
        open_test_images("bundled", names)
