"""The feature cache: what goes in comes out, whatever the order, the parts and the interruptions."""

import hashlib
import json
import shutil
from concurrent.futures import Future
from dataclasses import replace

import caches
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import TINY

import fastuq
from fastuq.cache import FeatureCache, build, cache_features, default_cache_path
from fastuq.datasets import ImageSet, open_images
from fastuq.errors import CacheError, InputError, ModelError
from fastuq.model.backbone import Backbone
from fastuq.model.model import load_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return caches.write(tmp_path_factory.mktemp("whole") / "whole.h5")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    return [caches.write_part(folder / f"{index}.h5", index, 3) for index in (1, 2, 3)]


def test_cache_holds_what_the_backbone_makes(whole):
    model, images = caches.tiny_model(), caches.images()
    with FeatureCache.open(whole, model=model, images=images) as cache:
        assert len(cache) == cache.num_samples == 50
        assert cache.num_features == model.head.num_features
        assert (cache.scale, cache.zero_point) == (model.feature_scale, model.feature_zero_point)
        assert cache.class_names == model.class_names
        assert cache.model_sha256 == model.sha256
        assert cache.data_fingerprint == images.fingerprint()
        np.testing.assert_array_equal(cache.labels, images.labels)
        np.testing.assert_array_equal(cache.read(0, 50), caches.features())
        assert cache.provenance["runtime"] == Backbone(model.backbone_path).runtime
        assert cache.provenance["format_version"] == 1
        assert cache.provenance["fastuq_version"] == fastuq.__version__


def test_second_run_computes_nothing(whole, monkeypatch):
    monkeypatch.setattr(build, "_fill", None)
    before = whole.read_bytes()
    with cache_features(caches.images(), caches.tiny_model(), whole) as cache:
        assert cache.reused
        assert cache.computed == 0
    assert whole.read_bytes() == before


@given(st.integers(0, 50), st.integers(0, 50))
def test_any_range_is_the_same_rows(whole, parts, one, other):
    start, stop = min(one, other), max(one, other)
    for paths in (whole, parts, parts[::-1]):
        with FeatureCache.open(paths) as cache:
            rows = cache.read(start, stop)
        assert rows.dtype == np.int8
        assert rows.flags.c_contiguous
        np.testing.assert_array_equal(rows, caches.features()[start:stop])


def test_numpy_integers_do_not_overflow(whole):
    with FeatureCache.open(whole) as cache:
        np.testing.assert_array_equal(cache.read(np.int8(40), np.uint8(48)), caches.features()[40:48])


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 2), (0, 51), (51, 51)])
def test_ranges_outside_are_refused(whole, start, stop):
    with FeatureCache.open(whole) as cache, pytest.raises(InputError, match="holds 0 to 50"):
        cache.read(start, stop)


@settings(max_examples=15)
@given(st.integers(1, 20), st.integers(1, 25), st.integers(1, 3))
def test_sizes_and_threads_do_not_change_features(tmp_path_factory, count, batch_size, threads):
    path = caches.write(tmp_path_factory.mktemp("sizes") / "x.h5", count, batch_size, threads=threads)
    with FeatureCache.open(path, images=caches.images(count)) as cache:
        np.testing.assert_array_equal(cache.read(0, count), caches.features(count))
        np.testing.assert_array_equal(cache.labels, caches.images(count).labels)


def test_file_does_not_depend_on_threads(whole, tmp_path):
    assert caches.write(tmp_path / "one.h5", threads=1).read_bytes() == whole.read_bytes()


def test_score_reads_a_cache_as_it_reads_the_array(whole, parts):
    model = caches.tiny_model()
    expected = fastuq.score(model, caches.features(), labels=caches.images().labels)
    for paths in (whole, parts):
        with FeatureCache.open(paths) as cache:
            result = fastuq.score(model, cache)
        np.testing.assert_array_equal(result.mean, expected.mean)
        np.testing.assert_array_equal(result.labels, expected.labels)
        assert result.data_fingerprint == caches.images().fingerprint()


def test_images_without_labels(tmp_path):
    images = caches.images(labelled=False)
    with cache_features(images, caches.tiny_model(), tmp_path / "plain.h5") as cache:
        assert cache.labels is None
    with FeatureCache.open(tmp_path / "plain.h5", images=images) as cache:
        assert cache.labels is None


def test_labels_count_the_classes_of_the_model(tmp_path):
    pixels = caches.images().images[:2]
    images = ImageSet(pixels, np.array([1, 0]), ("apple", "whale"), "folder:two")
    with cache_features(images, caches.tiny_model(), tmp_path / "two.h5") as cache:
        assert [cache.class_names[label] for label in cache.labels] == ["whale", "apple"]
    FeatureCache.open(tmp_path / "two.h5", images=images).close()
    renamed = ImageSet(pixels, np.array([1, 0]), ("apple", "worm"), "folder:two")
    with pytest.raises(CacheError, match="a label"):
        FeatureCache.open(tmp_path / "two.h5", images=renamed)


def test_labels_of_more_classes_than_the_model_are_refused(tmp_path):
    images = ImageSet(caches.images().images, np.full(50, 100), None, "array")
    with pytest.raises(InputError, match="expected labels 0 to 99"):
        cache_features(images, caches.tiny_model(), tmp_path / "x.h5")
    assert not list(tmp_path.iterdir())


def test_images_of_another_shape_are_refused(tmp_path):
    images = ImageSet(np.zeros((2, 16, 16, 3), np.uint8), None, None, "small")
    with pytest.raises(InputError, match=r"expected images \(32, 32, 3\).*found \(16, 16, 3\)"):
        cache_features(images, caches.tiny_model(), tmp_path / "x.h5")


def test_backbone_of_another_model_is_refused(tmp_path):
    model = replace(caches.tiny_model(), feature_scale=1.0)
    with pytest.raises(ModelError, match=r"scale 1\.0 and zero point -128, found 32, 0\.00456"):
        cache_features(caches.images(), model, tmp_path / "x.h5")


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"shard_size": 0}, {"shard_size": 2.5}, {"shard_size": "8"}])
def test_impossible_options_are_refused(tmp_path, options):
    with pytest.raises(InputError, match="expected"):
        caches.write(tmp_path / "x.h5", **options)
    assert not list(tmp_path.iterdir())


def test_closed_cache_is_refused(whole):
    cache = FeatureCache.open(whole)
    cache.close()
    with pytest.raises(CacheError, match="closed"):
        cache.read(0, 1)


class TestStale:
    """A cache of something else is refused, with what was expected, what was found and the way out."""

    def test_other_model(self, whole):
        other = replace(caches.tiny_model(), sha256="f" * 64)
        with pytest.raises(CacheError, match="expected features of model ffffffffffff, found those of"):
            FeatureCache.open(whole, model=other)
        with pytest.raises(CacheError, match="delete this one"):
            cache_features(caches.images(), other, whole)

    @pytest.mark.parametrize("what", ["pixel", "label", "order", "fewer", "unlabelled"])
    def test_other_images(self, whole, what):
        images = caches.images()
        pixels, labels = images.images.copy(), images.labels.copy()
        if what == "pixel":
            pixels[49, 31, 31, 2] ^= 1
        elif what == "label":
            labels[49] = (labels[49] + 1) % 100
        elif what == "order":
            pixels, labels = pixels[::-1], labels[::-1]
        elif what == "fewer":
            pixels, labels = pixels[:49], labels[:49]
        other = replace(images, images=pixels, labels=None if what == "unlabelled" else labels)
        with pytest.raises(CacheError, match="fingerprint"):
            FeatureCache.open(whole, images=other)
        with pytest.raises(CacheError, match="data fingerprint"):
            cache_features(other, caches.tiny_model(), whole)

    def test_other_runtime(self, whole, monkeypatch):
        monkeypatch.setattr(build, "runtime", lambda: {"litert": "9.9", "delegate": "xnnpack"})
        with pytest.raises(CacheError, match=r"runtime litert 9\.9.*LiteRT was updated"):
            cache_features(caches.images(), caches.tiny_model(), whole)

    def test_other_preprocessing(self, whole, monkeypatch):
        made = build._header

        def scaled(*given):
            header, *rest = made(*given)
            return replace(header, preprocessing={**header.preprocessing, "color": "BGR"}), *rest

        monkeypatch.setattr(build, "_header", scaled)
        with pytest.raises(CacheError, match=r"preprocessing color BGR.*found color RGB"):
            cache_features(caches.images(), caches.tiny_model(), whole)

    def test_model_folder_overwritten_after_it_was_loaded(self, tmp_path):
        folder = tmp_path / "model"
        shutil.copytree(TINY, folder)
        model = load_model(folder)
        data = bytearray(model.backbone_path.read_bytes())
        data[-100] ^= 1
        model.backbone_path.write_bytes(data)
        with pytest.raises(ModelError, match=r"backbone\.tflite"):
            cache_features(caches.images(), model, tmp_path / "x.h5")
        with pytest.raises(CacheError, match="incomplete: 0 of 1"):
            FeatureCache.open(tmp_path / "x.h5")

    def test_part_of_a_cache(self, parts):
        with pytest.raises(CacheError, match=r"expected shard 1/1 .*found 2/3"):
            caches.write(parts[1])

    def test_later_format_version(self, whole, tmp_path):
        later = tmp_path / "later.h5"
        later.write_bytes(whole.read_bytes().replace(b"cache 1\n", b"cache 2\n", 1))
        with pytest.raises(CacheError, match="expected format version 1 of a feature cache, found 2"):
            FeatureCache.open(later)


class TestParts:
    """One cache in several files, as there was before folders of shards."""

    def test_missing_or_double(self, parts):
        for paths in (parts[:2], [parts[0], parts[0], parts[2]], [parts[1]]):
            with pytest.raises(CacheError, match="give every shard once"):
                FeatureCache.open(paths)

    def test_none(self):
        with pytest.raises(InputError, match="at least one file"):
            FeatureCache.open([])

    def test_of_different_caches(self, parts, tmp_path):
        other = caches.write_part(tmp_path / "other.h5", 2, 3, caches.images(seed=1))
        with pytest.raises(CacheError, match="another data fingerprint"):
            FeatureCache.open([parts[0], other, parts[2]])

    def test_batch_sizes_may_differ(self, parts, tmp_path):
        other = caches.write_part(tmp_path / "other.h5", 2, 3, batch_size=5)
        with FeatureCache.open([parts[0], other, parts[2]]) as cache:
            np.testing.assert_array_equal(cache.read(10, 40), caches.features()[10:40])


class TestIncomplete:
    """A run that was stopped after two batches."""

    @pytest.fixture
    def stopped(self, tmp_path, monkeypatch):
        class Stopping(Backbone):
            calls = 0

            def __call__(self, images):
                Stopping.calls += 1
                if Stopping.calls == 3:
                    raise KeyboardInterrupt
                return super().__call__(images)

        path = tmp_path / "stopped.h5"
        with monkeypatch.context() as patch:
            patch.setattr("fastuq.model.backbone.Backbone", Stopping)
            with pytest.raises(KeyboardInterrupt):
                caches.write(path)
        return path

    def test_it_says_how_far_it_got(self, stopped):
        with pytest.raises(CacheError, match=r"incomplete: 2 of 7 batches of 8 samples.*goes on from there"):
            FeatureCache.open(stopped)

    def test_whole_batches_can_be_read(self, stopped):
        with FeatureCache.open(stopped, incomplete=True) as cache:
            np.testing.assert_array_equal(cache.read(3, 16), caches.features()[3:16])
            with pytest.raises(CacheError, match=r"batch 2 \(samples 16 to 23\) is not written yet"):
                cache.read(15, 17)

    def test_the_same_command_finishes_it(self, stopped):
        with cache_features(caches.images(), caches.tiny_model(), stopped) as cache:
            assert not cache.reused
            assert cache.computed == 34
        assert stopped.read_bytes() == caches.whole_file(50, 8)

    def test_damaged_batches_are_computed_again(self, stopped):
        data = bytearray(caches.whole_file(50, 8))
        data[-1] ^= 1
        stopped.write_bytes(data)
        with pytest.raises(CacheError, match=r"batch 6 \(samples 48 to 49\) is damaged.*fastuq cache repair"):
            FeatureCache.open(stopped).read(48, 49)
        with cache_features(caches.images(), caches.tiny_model(), stopped) as cache:
            assert cache.computed == 2
        assert stopped.read_bytes() == caches.whole_file(50, 8)


class TestImagesThatChange:
    """The header says which pixels the features are of; whatever changes when, no others reach the backbone."""

    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "images.npy"
        np.save(path, caches.images().images)
        return path

    @staticmethod
    def change(file, image=30):
        """Change a pixel of an image in the file, or change it back."""
        pixels = np.load(file, mmap_mode="r+")
        pixels[image, 5, 5, 1] ^= 64
        pixels.flush()

    def test_changed_after_the_fingerprint_and_back_after_the_backbone(self, file, tmp_path):
        images = ImageSet(open_images(file).images, caches.images().labels, caches.images().class_names, "random")
        assert images.fingerprint() == caches.images().fingerprint()
        self.change(file)
        with pytest.raises(InputError, match=r"random: images 24 to 31 are others than when the fingerprint was taken"):
            cache_features(images, caches.tiny_model(), tmp_path / "x.h5", batch_size=8)
        self.change(file)
        with FeatureCache.open(tmp_path / "x.h5", images=caches.images(), incomplete=True) as cache:
            np.testing.assert_array_equal(cache.read(0, 24), caches.features()[:24])
        assert caches.write(tmp_path / "x.h5").read_bytes() == caches.whole_file(50, 8)

    @pytest.mark.parametrize("mapped", [True, False])
    def test_changed_while_the_backbone_reads_them(self, file, tmp_path, monkeypatch, mapped):
        source = np.load(file, mmap_mode="r+") if mapped else np.load(file)

        class Changing(Backbone):
            def __call__(self, images):
                was = source.copy()
                source[:] = 0
                features = super().__call__(images)
                source[:] = was
                return features

        images = replace(caches.images(), images=source)
        images.fingerprint()
        monkeypatch.setattr("fastuq.model.backbone.Backbone", Changing)
        monkeypatch.setattr(build, "ThreadPoolExecutor", OneThread)
        cache_features(images, caches.tiny_model(), tmp_path / "x.h5", batch_size=8).close()
        assert (tmp_path / "x.h5").read_bytes() == caches.whole_file(50, 8)

    def test_another_reading_every_time(self, tmp_path):
        class Restless:
            shape, dtype, reads = caches.images().images.shape, np.dtype(np.uint8), 0

            def __len__(self):
                return self.shape[0]

            def __getitem__(self, key):
                Restless.reads += 1
                return caches.images().images[key] ^ (Restless.reads > 3)

        with pytest.raises(InputError, match="something writes to them"):
            cache_features(
                replace(caches.images(), images=Restless()), caches.tiny_model(), tmp_path / "x.h5", batch_size=8
            )

    def test_labels_cannot(self):
        with pytest.raises(ValueError, match="read-only"):
            caches.images().labels[0] = 1


class OneThread:
    """An executor that works at once, in the thread of its caller: nothing is read ahead."""

    def __init__(self, workers):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, work, *args):
        done = Future()
        done.set_result(work(*args))
        return done


class TestFormat:
    """Other programs read the file as docs/cache-format.md says."""

    def test_as_plain_hdf5(self, whole):
        with h5py.File(whole) as file:
            assert set(file) == {"features", "labels", "checksums"}
            np.testing.assert_array_equal(file["features"][:], caches.features())
            np.testing.assert_array_equal(file["labels"][:], caches.images().labels)
            assert file["features"].attrs["scale"] == caches.tiny_model().feature_scale
            assert file["features"].attrs["zero_point"] == caches.tiny_model().feature_zero_point
            assert file["features"].chunks is None

    def test_seal(self, whole):
        with whole.open("rb") as file:
            title, text, digest = (file.readline() for _ in range(3))
        assert title == b"fastuq feature cache 1\n"
        assert digest.decode().strip() == hashlib.sha256(title + text).hexdigest()
        place = json.loads(text)["datasets"]["features"]
        rows = np.memmap(whole, place["dtype"], "r", place["offset"], tuple(place["shape"]))
        np.testing.assert_array_equal(rows, caches.features())

    def test_default_path_names_images_and_model(self):
        model, images = caches.tiny_model(), caches.images()
        path = default_cache_path(replace(images, name="cifar100c/fog/3"), model)
        assert str(path) == f"out/features-cifar100c-fog-3-{images.fingerprint()[:8]}-{model.sha256[:8]}.h5"
