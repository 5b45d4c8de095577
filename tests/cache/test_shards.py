"""A folder of shards is one cache: the same features and decisions, whole or refused in one line."""

import json
import os
import shutil
from dataclasses import replace

import caches
import numpy as np
import pytest
from commands import refusal
from damage import drawn_bits, flipped, generator, outcome, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from places import TINY

import fastuq
from fastuq.cache import FeatureCache, build, cache_features, cache_files
from fastuq.cache.file import CacheFile
from fastuq.cache.manifest import MANIFEST, read_manifest, shard_name
from fastuq.cache.shards import cache_shard, cache_shards, write_manifest
from fastuq.datasets import ImageSet
from fastuq.datasets.shards import ImageShard, open_shards
from fastuq.errors import CacheError, InputError
from fastuq.model.backbone import Backbone
from fastuq.report.about import about
from fastuq.scoring.result import DETAILS

MODEL = ("--model", str(TINY))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    np.save(folder / "images.npy", caches.images().images)
    cache_features(folder / "images.npy", caches.tiny_model(), folder / "shards", shard_size=20, batch_size=8).close()
    return folder


@pytest.fixture
def place(made, tmp_path):
    """A copy of images and shards."""
    shutil.copytree(made / "shards", tmp_path / "shards")
    shutil.copy2(made / "images.npy", tmp_path / "images.npy")
    return tmp_path


def again(place, **options):
    """Cache the images of a place as `made` does; return how many samples were computed."""
    given = {"shard_size": 20, "batch_size": 8, **options}
    with cache_features(place / "images.npy", caches.tiny_model(), place / "shards", **given) as cache:
        np.testing.assert_array_equal(cache.read(0, 50), caches.features())
        return cache.computed


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=12)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 30))
def test_features_and_decisions_are_those_of_one_file(tmp_path_factory, count, size, batch_size):
    folder, model = tmp_path_factory.mktemp("sizes"), caches.tiny_model()
    caches.write(folder / "one.h5", count)
    caches.write(folder / "shards", count, batch_size, shard_size=size)
    with FeatureCache.open(folder / "one.h5") as one, FeatureCache.open(folder / "shards", model) as shards:
        np.testing.assert_array_equal(shards.read(0, count), one.read(0, count))
        np.testing.assert_array_equal(shards.labels, one.labels)
        for masks in ("shared", "per_sample"):
            single, several = (fastuq.score(model, cache, num_iter=3, masks=masks) for cache in (one, shards))
            for name in (*DETAILS, "keep", "reason", "prediction", "entropy", "labels"):
                np.testing.assert_array_equal(getattr(single, name), getattr(several, name))


@given(st.integers(0, 50), st.integers(0, 50))
def test_any_range_is_the_same_rows(made, one, other):
    start, stop = min(one, other), max(one, other)
    with FeatureCache.open(made / "shards") as cache:
        np.testing.assert_array_equal(cache.read(start, stop), caches.features()[start:stop])


def test_what_the_folder_says_of_itself(made):
    manifest = read_manifest(made / "shards")
    assert (manifest.images, manifest.samples) == ("file:images.npy", (20, 20, 10))
    parts = [fastuq.open_images(made / "images.npy").subset(*each) for each in ((0, 20), (20, 40), (40, 50))]
    assert list(manifest.fingerprints) == [part.fingerprint() for part in parts]
    with FeatureCache.open(made / "shards") as cache:
        assert cache.data_fingerprint == manifest.data_fingerprint
        assert cache.provenance["num_samples"] == len(cache) == 50
        assert cache.provenance["shard"] == {"index": 1, "count": 1, "start": 0, "stop": 50}
        assert cache.labels is None


def test_each_shard_is_a_whole_cache(made):
    for number, stop in ((1, 20), (2, 40), (3, 50)):
        with FeatureCache.open(made / "shards" / shard_name(number, 3)) as cache:
            np.testing.assert_array_equal(cache.read(0, len(cache)), caches.features()[20 * (number - 1) : stop])


def test_the_images_are_those_it_was_made_of(made, tmp_path):
    images = fastuq.open_images(made / "images.npy")
    FeatureCache.open(made / "shards", caches.tiny_model(), images).close()
    pixels = np.array(images.images)
    pixels[45, 0, 0, 0] ^= 1
    for wrong, message in (
        (pixels, "shard-00003-of-00003.h5: expected features"),
        (pixels[:49], r"\(49\), found.*\(50\)"),
    ):
        with pytest.raises(CacheError, match=message):
            FeatureCache.open(made / "shards", images=fastuq.open_images(wrong))


class TestAgain:
    def test_whole_shards_are_kept_without_a_look_at_their_pixels(self, place, monkeypatch):
        before = contents(place / "shards")
        monkeypatch.setattr(ImageShard, "open", None)
        monkeypatch.setattr(build, "_fill", None)
        assert again(place) == 0
        assert contents(place / "shards") == before

    def test_what_was_cut_off_goes_on(self, place, monkeypatch):
        before = contents(place / "shards")
        shutil.rmtree(place / "shards")

        class Stopping(Backbone):
            calls = 0

            def __call__(self, images):
                Stopping.calls += 1
                if Stopping.calls == 6:
                    raise KeyboardInterrupt
                return super().__call__(images)

        with monkeypatch.context() as patch:
            patch.setattr("fastuq.model.backbone.Backbone", Stopping)
            with pytest.raises(KeyboardInterrupt):
                again(place)
        with pytest.raises(CacheError, match=r"beside 2 shards, found none: the run.*did not end.*goes on from there"):
            FeatureCache.open(place / "shards")
        assert not about(place / "shards")["whole"]
        assert again(place) == 14  # 3 batches of the first shard, 2 of the second were there
        assert contents(place / "shards") == before

    def test_a_file_that_was_touched_alone_is_read_and_kept(self, place, monkeypatch):
        os.utime(place / "images.npy", ns=(1, 1))
        monkeypatch.setattr(build, "_fill", None)
        assert again(place) == 0
        monkeypatch.setattr(ImageShard, "open", None)  # once: they have the new time from then on
        assert again(place) == 0
        os.utime(place / "images.npy", ns=(2, 2))
        with pytest.raises(TypeError):
            again(place)

    def test_other_pixels_are_refused(self, place):
        pixels = np.load(place / "images.npy")
        pixels[25] ^= 1
        np.save(place / "images.npy", pixels)
        before = contents(place / "shards")
        with pytest.raises(CacheError, match=r"shard-00002-of-00003\.h5: expected data fingerprint"):
            again(place)
        changed = [name for name, data in contents(place / "shards").items() if data != before[name]]
        assert changed == [shard_name(1, 3)]  # its pixels are the same, and it has the new time of the file
        (place / "shards" / shard_name(2, 3)).unlink()
        cache_features(place / "images.npy", caches.tiny_model(), place / "shards", shard_size=20).close()
        with FeatureCache.open(place / "shards", images=fastuq.open_images(pixels)) as cache:
            assert cache.data_fingerprint != json.loads(before[MANIFEST])["data_fingerprint"]

    def test_another_model_or_runtime_is_refused(self, place, monkeypatch):
        monkeypatch.setattr(build, "runtime", lambda: {"litert": "9.9", "delegate": "xnnpack"})
        monkeypatch.setattr("fastuq.cache.shards.runtime", build.runtime)
        with pytest.raises(CacheError, match=r"expected runtime litert 9\.9"):
            again(place)

    @pytest.mark.parametrize("size", [10, 50])
    def test_another_size_is_refused(self, place, size):
        before = contents(place / "shards")
        with pytest.raises(CacheError, match=r"found shard-00001-of-00003\.h5, of a run with 3; give the shard size"):
            again(place, shard_size=size)
        assert contents(place / "shards") == before

    def test_a_folder_of_something_else_is_refused(self, place):
        before = sorted(place.iterdir())
        for folder in (place, place / "images.npy"):
            with pytest.raises(CacheError, match=r"expected a (new )?folder for shards"):
                cache_features(place / "images.npy", caches.tiny_model(), folder, shard_size=20)
        assert sorted(place.iterdir()) == before

    def test_labels_that_are_damaged_are_put_back(self, tmp_path):
        path = caches.write(tmp_path / "shards", shard_size=20) / shard_name(2, 3)
        good = path.read_bytes()
        start = json.loads(good.split(b"\n")[1])["datasets"]["labels"]["offset"]
        path.write_bytes(flipped(good, 8 * start))
        with pytest.raises(CacheError, match=f"{path.name}: the labels do not match"):
            _ = FeatureCache.open(tmp_path / "shards").labels
        with cache_features(caches.images(), caches.tiny_model(), tmp_path / "shards", shard_size=20) as cache:
            assert (cache.computed, cache.labels_restored, cache.reused) == (0, True, False)
        assert path.read_bytes() == good


def foreign(**options):
    """Return what puts a shard of other images in the place of the second."""

    def put(place):
        rng = np.random.default_rng(9)
        labels = rng.integers(0, 100, 20) if options.get("labelled") else None
        other = ImageSet(rng.integers(0, 256, (20, 32, 32, 3), np.uint8), labels, None, "other")
        path = place / "shards" / shard_name(2, 3)
        path.unlink()
        cache_features(other, caches.tiny_model(), path).close()

    return put


def changed(**keys):
    """Return what writes other entries to the manifest, its SHA-256 made anew."""

    def change(place):
        from fastuq.cache import manifest

        path = place / "shards" / MANIFEST
        said = {**json.loads(path.read_text()), **keys}
        said.pop("sha256")
        path.write_text(json.dumps({**said, "sha256": manifest._stamp(said)}))

    return change


WRONG = {
    "missing": (
        lambda place: (place / "shards" / shard_name(2, 3)).unlink(),
        "expected 3 shards, found 2: shard-00002",
    ),
    "first missing": (
        lambda place: (place / "shards" / shard_name(1, 3)).unlink(),
        "shard-00001-of-00003.h5 is missing",
    ),
    "doubled": (
        lambda place: shutil.copy(place / "shards" / shard_name(1, 3), place / "shards" / shard_name(2, 3)),
        "shard-00002-of-00003.h5: expected shard 2 of file:images.npy",
    ),
    "exchanged": (
        lambda place: shutil.copy(place / "shards" / shard_name(3, 3), place / "shards" / shard_name(1, 3)),
        "shard-00001-of-00003.h5: expected shard 1 of file:images.npy",
    ),
    "of another data set": (foreign(), "shard-00002-of-00003.h5: expected shard 2 of file:images.npy.*found other"),
    "labelled": (
        foreign(labelled=True),
        "shard-00002-of-00003.h5: expected a shard of the same cache.*another labelled",
    ),
    "no manifest": (lambda place: (place / "shards" / MANIFEST).unlink(), "the run that made them did not end"),
    "cut manifest": (lambda place: os.truncate(place / "shards" / MANIFEST, 300), "damaged or foreign file"),
    "another manifest": (lambda place: (place / "shards" / MANIFEST).write_text("[]"), "damaged or foreign file"),
    "another version": (changed(format="fastuq feature shards 2"), "its format is 'fastuq feature shards 2', not"),
    "of another model": (changed(model_sha256="0" * 64), "expected features of model 000000000000"),
    "other counts": (changed(samples=[20, 20, 11]), "number of samples or fingerprint are not those of its shards"),
    "fewer counts": (changed(samples=[20, 20]), "samples of 2 shards and fingerprints of 3"),
    "no shards": (changed(samples=[], fingerprints=[]), "samples of 0 shards"),
    "odd counts": (changed(samples=[20, 20, True]), "no list of numbers above 0"),
    "paths for names": (changed(fingerprints=["../../x.h5"] * 3), "no list of SHA-256"),
    "a folder for a manifest": (
        lambda place: [(place / "shards" / MANIFEST).unlink(), (place / "shards" / MANIFEST).mkdir()],
        "cannot be read",
    ),
    "incomplete": (
        lambda place: again_from_nothing(place / "shards" / shard_name(3, 3)),
        "shard-00003-of-00003.h5: incomplete: 0 of 2 batches",
    ),
}


def again_from_nothing(path):
    """Mark every batch of a file as not written."""
    data = bytearray(path.read_bytes())
    extent = json.loads(data.split(b"\n")[1])["datasets"]["checksums"]
    size = 8 * extent["shape"][0]
    data[extent["offset"] : extent["offset"] + size] = bytes(size)
    path.write_bytes(data)


@pytest.mark.parametrize(("harm", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_one_line(place, capsys, harm, message):
    harm(place)
    with pytest.raises(CacheError, match=message), FeatureCache.open(place / "shards") as cache:
        cache.read(0, 50)
    said = refusal(capsys, ["score", "--cache", str(place / "shards"), *MODEL], place)
    assert str(place / "shards") in said
    described = about(place / "shards")
    assert not described["whole"]
    assert described["problem"]


@pytest.mark.parametrize("name", ["missing", "of another data set", "incomplete", "no manifest", "cut manifest"])
def test_the_same_command_mends_it(place, name):
    before = contents(place / "shards")
    WRONG[name][0](place)
    if name == "of another data set":
        (place / "shards" / shard_name(2, 3)).unlink()
    assert again(place) == {"missing": 20, "of another data set": 20, "incomplete": 10}.get(name, 0)
    assert contents(place / "shards") == before


def test_flipped_bits_of_the_manifest_are_seen(place):
    path, rng = place / "shards" / MANIFEST, generator(0)
    data, whole = path.read_bytes(), read_manifest(place / "shards")
    for bit in drawn_bits(rng, data, 300):
        path.write_bytes(flipped(data, bit))
        found = outcome(lambda: read_manifest(place / "shards"))
        assert refused(found) or found == whole  # a blank between two keys


def test_few_files_are_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_files, "MOST_OPEN", 3)
    caches.write(tmp_path / "shards", shard_size=2)
    counts, there = [], len(os.listdir("/proc/self/fd"))
    opened = []

    class Counted(CacheFile):
        def __init__(self, path):
            super().__init__(path)
            opened.append(path)
            counts.append(len(os.listdir("/proc/self/fd")) - there)

    monkeypatch.setattr(cache_files, "CacheFile", Counted)
    with FeatureCache.open(tmp_path / "shards") as cache:
        assert len(opened) == 1
        np.testing.assert_array_equal(cache.read(0, 50), caches.features())
        opened.clear()  # labels and names need each file once: from another machine it is fetched for them
        np.testing.assert_array_equal(cache.labels, caches.images().labels)
        assert cache.files is None
        assert len(opened) == 24
        assert 3 <= max(counts) <= 6
    with pytest.raises(CacheError, match="closed"):
        cache.read(0, 1)
    assert len(os.listdir("/proc/self/fd")) == there


def test_records_in_any_order_make_the_manifest(place):
    shards = open_shards(place / "images.npy", size=20)
    before = contents(place / "shards")
    records = [cache_shard(shard, caches.tiny_model(), place / "shards") for shard in reversed(shards)]
    write_manifest(place / "shards", shards[0].source, caches.tiny_model(), records)
    assert contents(place / "shards") == before
    for wrong in (records[1:], [*records, records[0]], []):
        with pytest.raises(CacheError, match="once"):
            write_manifest(place / "shards", "x", caches.tiny_model(), wrong)
    records[0].common["runtime"] = {"litert": "9.9"}
    with pytest.raises(CacheError, match=r"shard-00003-of-00003\.h5: expected the runtime of the first shard.*9\.9"):
        write_manifest(place / "shards", "x", caches.tiny_model(), records)
    assert contents(place / "shards") == before


def test_shards_with_other_class_names_are_no_cache(place):
    other = replace(caches.tiny_model(), class_names=tuple(f"class {n}" for n in range(100)))
    shards = open_shards(place / "images.npy", size=20)
    (place / "shards" / shard_name(3, 3)).unlink()
    before = (place / "shards" / MANIFEST).read_bytes()
    with pytest.raises(CacheError, match=r"shard-00003-of-00003\.h5: expected the class names"):
        cache_shards(shards, other, place / "shards")
    assert (place / "shards" / MANIFEST).read_bytes() == before
    with pytest.raises(CacheError, match=r"shard-00003-of-00003\.h5: .*another class names"):
        FeatureCache.open(place / "shards").read(40, 50)


def test_broken_pictures_are_left_out(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'fastuq[images]'")
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(caches.images(9).images):
        image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "4.png").write_bytes(b"no picture")
    shards = open_shards(tmp_path / "photos", size=3, on_error="skip")
    for skipped in (["4.png"], []):  # the second time, no picture is looked at
        records = cache_shards(shards, caches.tiny_model(), tmp_path / "shards")
        assert [name for record in records for name, _ in record.skipped] == skipped
    with FeatureCache.open(tmp_path / "shards") as cache:
        assert list(cache.files) == [f"{n}.png" for n in range(9) if n != 4]
        np.testing.assert_array_equal(cache.read(0, 8), np.delete(caches.features(9), 4, axis=0))
    images = fastuq.open_images(tmp_path / "photos", on_error="skip")
    FeatureCache.open(tmp_path / "shards", images=images).close()


def test_a_folder_needs_a_name():
    with pytest.raises(InputError, match="expected the folder of the shards"):
        cache_features(caches.images(), caches.tiny_model(), shard_size=5)
