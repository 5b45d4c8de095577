"""Files of every format version are still read, also by the readers that docs/cache-format.md prints."""

import hashlib
import json
import re

import caches
import numpy as np
import pytest
from places import GOLDEN

from fastuq.cache import FeatureCache
from fastuq.errors import CacheError
from fastuq.report.moments_file import load_moments

CACHE = GOLDEN / "feature_cache_1.h5"
FEATURES_SHA256 = "e9995ec0edad4e6dc735c1acbe591d8065f6147a8a16984b45a0d1ae8f5acf52"
FIRST_ROW = [-21, -80, -19, -50, -45, -70, -39, -50]
LABELS = [50, 12, 95, 91, 46, 20, 51, 51, 83, 13, 69, 71, 74, 77, 48, 70, 32, 15, 97, 39]
MEAN_SHA256 = "51e615d8259fb7b09739ac9b5b6e1324b6da7c2811c936a1f0994e25300e6ad5"


def seal(path):
    return json.loads(path.read_bytes().split(b"\n")[1])


def keys(value):
    return {key: keys(each) for key, each in value.items()} if isinstance(value, dict) else None


def documented():
    """Return the functions that the code blocks of the document define."""
    text = (GOLDEN.parents[1] / "docs" / "cache-format.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    return names


def test_cache_of_version_1():
    with FeatureCache.open(CACHE) as cache:
        rows = cache.read(0, 20)
        assert hashlib.sha256(rows.tobytes()).hexdigest() == FEATURES_SHA256
        assert rows[0, :8].tolist() == FIRST_ROW
        assert cache.labels.tolist() == LABELS
        assert (cache.scale, cache.zero_point) == (0.004561273846775293, -128)
        assert cache.class_names[:2] == ("apple", "aquarium_fish")
        assert cache.provenance["batch_size"] == 8


def test_moments_of_version_1():
    found = load_moments(GOLDEN / "moments_1.h5")
    assert hashlib.sha256(found["mean"].tobytes()).hexdigest() == MEAN_SHA256
    assert found["labels"].tolist() == LABELS
    assert found["options"]["num_iter"] == 50


def test_the_writer_still_writes_version_1(tmp_path):
    """Other keys or another layout would need another version."""
    made, golden = seal(caches.write(tmp_path / "new.h5", 20)), seal(CACHE)
    assert keys(made) == keys(golden)
    shapes = {name: (one["shape"], one["dtype"]) for name, one in golden["datasets"].items()}
    assert {name: (one["shape"], one["dtype"]) for name, one in made["datasets"].items()} == shapes
    assert made["about"]["data_fingerprint"] == golden["about"]["data_fingerprint"]


def test_documented_readers():
    readers = documented()
    rows, labels, about = readers["read_features"](CACHE)
    assert hashlib.sha256(rows.tobytes()).hexdigest() == FEATURES_SHA256
    assert labels.tolist() == LABELS
    assert about["scale"] == 0.004561273846775293
    rows, labels, scale, zero_point = readers["read_features_hdf5"](CACHE)
    assert hashlib.sha256(rows.tobytes()).hexdigest() == FEATURES_SHA256
    assert labels.tolist() == LABELS
    assert (scale, zero_point) == (0.004561273846775293, -128)


def test_documented_reader_verifies(tmp_path):
    data = bytearray(CACHE.read_bytes())
    data[-1] ^= 1
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(data)
    with pytest.raises(AssertionError):
        documented()["read_features"](damaged)
    with FeatureCache.open(damaged) as cache:
        np.testing.assert_array_equal(cache.read(0, 16)[0, :8], FIRST_ROW)
        with pytest.raises(CacheError, match="batch 2"):
            cache.read(0, 17)
