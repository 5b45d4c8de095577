"""Classes of pictures and of a model: which are the same, by name, by number, or not at all."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from models import tiny_model
from PIL import Image

import fastuq
from fastuq.datasets import open_images
from fastuq.errors import InputError
from fastuq.util.labels import read_class_names

PIXELS = np.zeros((2, 32, 32, 3), np.uint8)


@pytest.fixture
def photos(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / "photos" / name).mkdir(parents=True)
            Image.fromarray(PIXELS[0]).save(tmp_path / "photos" / name / "a.png")
        return tmp_path / "photos"

    return make


def test_numbers_are_taken_as_class_numbers_and_a_note_says_so(photos):
    images = open_images(photos("12", "3")).matched_to(tiny_model().class_names)
    assert images.labels.tolist() == [3, 12]
    assert images.notes == ("labels are class numbers, counted from 0: 3 (bear), 12 (bridge)",)
    assert images.matched_to(tiny_model().class_names).notes == images.notes


def test_labels_that_are_given_count_the_classes_of_the_model(photos):
    images = open_images(photos("holiday", "work"), labels=[49, 33])
    assert images.class_names is None
    assert images.matched_to(tiny_model().class_names).labels.tolist() == [49, 33]


def test_names_are_compared_in_one_form_of_unicode(photos):
    names = tuple(unicodedata.normalize("NFC", name) for name in ("Käfer", "Apfel", "Bär"))
    images = open_images(photos(*(unicodedata.normalize("NFD", name) for name in ("Bär", "Käfer"))))
    assert images.class_names[0] not in names
    assert sorted(images.matched_to(names).labels.tolist()) == [0, 2]


@pytest.mark.parametrize("text", ["cat\ndog\ncat\n", "B\u00e4r\ndog\nBa\u0308r\n"])
def test_a_name_of_two_classes_matches_none(photos, tmp_path, text):
    (tmp_path / "names.txt").write_text(text)
    names = read_class_names(tmp_path / "names.txt")
    folder = photos("dog")
    assert open_images(folder).matched_to(names).labels.tolist() == [1]
    photos(names[0])
    with pytest.raises(InputError, match=r"'(cat|Bär)': is there twice among the names"):
        open_images(folder).matched_to(names)


@pytest.mark.parametrize("size", [32, (32.5, 32), (32,), "ab", (0, 32), (True, 32), None])
def test_sizes_that_are_none(photos, size):
    folder = photos("cat")
    for opened in (lambda: open_images(folder, image_size=size), lambda: open_images(folder).resized(size)):
        with pytest.raises(InputError, match="image_size: expected"):
            opened()
    assert open_images(folder, image_size=np.array([8, 9])).images.shape == (1, 8, 9, 3)


@pytest.mark.parametrize("width", [5, 101])
def test_one_hot_labels_of_another_width_than_the_model(tmp_path, width):
    model = tiny_model()
    images = open_images(PIXELS, labels=np.eye(width)[[0, 3]])
    for given in (images, images.subset(0, 1), images.mirrored()):
        with pytest.raises(InputError, match=f"one-hot labels of 100 classes, as the model has, found {width}"):
            fastuq.cache_features(given, model, tmp_path / "f.h5")
    assert replace(images, labels=None).matched_to(model.class_names).labels is None
    right = open_images(images.images, labels=np.eye(100)[[0, 3]])
    assert right.matched_to(model.class_names).labels.tolist() == [0, 3]
    assert open_images(PIXELS, labels=[[0], [3]]).matched_to(model.class_names).labels.tolist() == [0, 3]


def test_labels_that_replace_one_hot_ones_are_numbers_again(tmp_path):
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=np.eye(5)[[0, 3]])
    assert open_images(tmp_path / "a.npz").one_hot == 5
    assert open_images(tmp_path / "a.npz", labels=[0, 3]).one_hot is None
    assert open_images(tmp_path / "a.npz", labels=np.eye(7)[[0, 3]]).one_hot == 7


def test_pictures_of_which_the_model_sees_another_part(photos, tmp_path):
    folder = photos("apple")
    whole, middle = tiny_model(), replace(tiny_model(), crop=0.5)
    for model, crop in ((middle, None), (middle, 0.25), (whole, 0.5)):
        with pytest.raises(InputError, match=rf"open_images\(\.\.\., crop={model.crop}\)"):
            fastuq.cache_features(open_images(folder, crop=crop), model, tmp_path / "f.h5")
    assert not (tmp_path / "f.h5").exists()
    for number, model in enumerate((whole, middle)):
        other = (middle, whole)[number]
        path = tmp_path / f"{number}.h5"
        with fastuq.cache_features(open_images(folder, crop=model.crop), model, path) as cache:
            assert len(fastuq.score(model, cache, num_iter=10)) == 1
            with pytest.raises(fastuq.CacheError, match=f"expected pictures with crop {other.crop}"):
                fastuq.score(other, cache, num_iter=10)
        fastuq.FeatureCache.open(path, model).close()
        with pytest.raises(fastuq.CacheError, match=f"expected pictures with crop {other.crop}"):
            fastuq.FeatureCache.open(path, other)
    fastuq.cache_features(folder, middle, tmp_path / "1.h5").close()  # opened as the model says
    with fastuq.cache_features(open_images(PIXELS), middle, tmp_path / "a.h5") as cache:
        assert len(fastuq.score(middle, cache, num_iter=10)) == 2


def test_a_cache_is_opened_by_the_names_of_the_model(photos, tmp_path):
    model = tiny_model()
    named = replace(model, class_names=tuple(f"Ding {n}" for n in range(100)))
    images = open_images(photos("Ding 7", "Ding 8"))
    path = tmp_path / "f.h5"
    fastuq.cache_features(images, named, path).close()
    with fastuq.FeatureCache.open(path, images=images) as cache:  # those that it was made with
        assert cache.labels.tolist() == [7, 8]
    again = replace(model, class_names=tuple(f"thing {n}" for n in range(100)))
    same = replace(images, class_names=("thing 7", "thing 8"))
    with fastuq.FeatureCache.open(path, again, same) as cache:
        assert cache.labels.tolist() == [7, 8]
