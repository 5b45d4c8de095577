"""Damaged, foreign and hostile cache files: the right features or one clear line, never anything else."""

import hashlib
import json
import os
import resource
import subprocess
import sys

import caches
import h5py
import numpy as np
import pytest
from damage import drawn_bits, flipped, generator
from hypothesis import given
from hypothesis import strategies as st

from fastuq.cache import FeatureCache
from fastuq.errors import CacheError
from fastuq.report.moments_file import load_moments, save_moments
from fastuq.scoring.scoring import score

FLIPS, CUTS = 1500, 100


@pytest.fixture
def victim(tmp_path):
    return tmp_path / "victim.h5"


def read_everything(path):
    with FeatureCache.open(path) as cache:
        return cache.read(0, len(cache)), cache.labels


def refused(path, data):
    """Tell whether the content `data` is refused; fail if it is read as anything but the truth."""
    path.write_bytes(data)
    try:
        rows, labels = read_everything(path)
    except CacheError as error:
        message = str(error)
    else:
        np.testing.assert_array_equal(rows, caches.features())
        np.testing.assert_array_equal(labels, caches.images().labels)
        return False
    assert str(path) in message
    assert "\n" not in message
    return True


def test_flipped_bits_are_found(victim):
    data = caches.whole_file(50, 8)
    bits = drawn_bits(generator(0), data, FLIPS)
    missed = [bit for bit in bits if not refused(victim, flipped(data, bit))]
    assert missed == []


@pytest.mark.torture
def test_every_flipped_bit_is_found(victim):
    data = caches.whole_file(50, 8)
    missed = [bit for bit in range(8 * len(data)) if not refused(victim, flipped(data, bit))]
    assert missed == []


def test_truncated_and_longer_files_are_refused(victim):
    data = caches.whole_file(50, 8)
    lengths = np.random.default_rng(1).integers(0, len(data), CUTS).tolist()
    assert all(refused(victim, data[:length]) for length in [0, 1, len(data) - 1, *lengths])
    assert refused(victim, data + b"\0")


def test_truncation_under_an_open_cache_is_an_error(victim):
    victim.write_bytes(caches.whole_file(50, 8))
    with FeatureCache.open(victim) as cache:
        os.truncate(victim, 7000)
        with pytest.raises(CacheError, match="truncated"):
            cache.read(0, 50)


@given(st.integers(0, 2**32))
def test_overwritten_stretches_are_found(tmp_path_factory, seed):
    rng, data = np.random.default_rng(seed), bytearray(caches.whole_file(50, 8))
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 600))
    new = bytes(length) if seed % 2 else rng.bytes(length)
    before = bytes(data)
    data[start : start + length] = new[: len(data) - start]
    path = tmp_path_factory.getbasetemp() / "stretch.h5"
    assert refused(path, data) == (bytes(data) != before)


def test_a_batch_of_another_place_or_file_is_found(victim, tmp_path):
    """Data and checksum together, in the right layout, but not where they belong."""
    data = bytearray(caches.whole_file(50, 8))
    places = json.loads(data.split(b"\n")[1])["datasets"]
    rows, entries = places["features"]["offset"], places["checksums"]["offset"]
    other = caches.write(tmp_path / "other.h5", count=51).read_bytes()
    others = json.loads(other.split(b"\n")[1])["datasets"]
    for source, row, entry in ((bytes(data), rows + 256, entries + 8), (other, others["features"]["offset"], None)):
        entry = others["checksums"]["offset"] if entry is None else entry
        moved = bytearray(data)
        moved[rows : rows + 256], moved[entries : entries + 8] = source[row : row + 256], source[entry : entry + 8]
        victim.write_bytes(moved)
        with pytest.raises(CacheError, match=r"batch 0 .*damaged"):
            read_everything(victim)


@pytest.mark.parametrize("content", [b"", b"fastuq", b"fastuq feature cache 1\n", b"\x89HDF\r\n\x1a\n", b"\n" * 9999])
def test_foreign_content_is_refused(victim, content):
    assert refused(victim, content)


@given(st.binary(max_size=2000), st.booleans())
def test_garbage_is_refused(tmp_path_factory, content, titled):
    path = tmp_path_factory.getbasetemp() / "garbage.h5"
    assert refused(path, b"fastuq feature cache 1\n" + content if titled else content)


def test_paths_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    for path in (tmp_path, tmp_path / "pipe.h5", tmp_path / "missing.h5", tmp_path / "x" / "y.h5", "/dev/zero"):
        with pytest.raises(CacheError, match="check"):
            FeatureCache.open(path)


class TestHostileHdf5:
    """What the HDF5 library would follow, inflate or allocate is never looked at."""

    @pytest.mark.parametrize("kind", ["external link", "external storage", "huge", "filtered", "virtual", "soft link"])
    def test_refused(self, victim, tmp_path, kind):
        secret = tmp_path / "secret.bin"
        secret.write_bytes(bytes(1000))
        with h5py.File(victim, "w") as file:
            if kind == "external link":
                file["features"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/features")
            elif kind == "external storage":
                file.create_dataset("features", (10, 32), "i1", external=[(str(secret), 0, 320)])
            elif kind == "huge":
                file.create_dataset("features", (2**40, 1280), "i1", chunks=(1, 1280))
            elif kind == "filtered":
                file.create_dataset("features", data=np.zeros((1000, 32), "i1"), compression="gzip")
            elif kind == "virtual":
                layout = h5py.VirtualLayout((10, 32), "i1")
                layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "features", (10, 32))
                file.create_virtual_dataset("features", layout)
            else:
                file["features"] = h5py.SoftLink("/features")
        with pytest.raises(CacheError, match="foreign or damaged"):
            FeatureCache.open(victim)


def sealed(change):
    """Return a cache whose seal was changed and carries the right SHA-256, as a hostile writer would make it."""
    data = caches.whole_file(50, 8)
    title, text, _ = data.split(b"\n")[:3]
    fields = json.loads(text)
    block = fields["user_block"]
    change(fields)
    changed = title + b"\n" + json.dumps(fields).encode() + b"\n"
    changed += hashlib.sha256(changed).hexdigest().encode() + b"\n"
    return changed.ljust(block, b"\0") + data[block:]


WRONG = [
    None,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**400,
    1.5,
    float("inf"),
    float("nan"),
    True,
    "x",
    "",
    [],
    [1, 2],
    {},
    {"a": 1},
]
PLACES = [
    ("user_block",),
    ("size",),
    ("hdf5_sha256",),
    ("datasets",),
    ("about",),
    *(("datasets", name) for name in ("features", "labels", "checksums")),
    *(("datasets", "features", key) for key in ("offset", "shape", "dtype")),
    *(("datasets", "checksums", key) for key in ("offset", "shape", "dtype")),
    *(("about", key) for key in ("class_names", "scale", "zero_point", "num_samples", "labelled", "labels_sha256")),
    *(("about", key) for key in ("preprocessing", "runtime", "batch_size", "shard", "model_sha256", "images")),
    *(("about", "shard", key) for key in ("index", "count", "start", "stop")),
]


@pytest.mark.parametrize("place", PLACES, ids="/".join)
def test_hostile_seals_are_refused(victim, place):
    for wrong in [*WRONG, ...]:

        def change(fields, wrong=wrong):
            for key in place[:-1]:
                fields = fields[key]
            if wrong is ...:
                del fields[place[-1]]
            else:
                fields[place[-1]] = wrong

        # A new seal also voids every CRC-32, so even a harmless change is refused.
        assert refused(victim, sealed(change))


def test_deep_json_is_refused(victim):
    text = b"fastuq feature cache 1\n" + b"[" * 200_000 + b"\n"
    victim.write_bytes(text + hashlib.sha256(text).hexdigest().encode() + b"\n")
    with pytest.raises(CacheError, match="does not describe"):
        FeatureCache.open(victim)


HUGE = """
import resource, sys
import fastuq.cache, fastuq.cache.build, numpy
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
from fastuq.errors import CacheError
from fastuq.cache import FeatureCache
for path in sys.argv[1:]:
    try:
        FeatureCache.open(path).labels
    except CacheError as error:
        print("refused")
"""


def test_huge_declared_sizes_take_no_memory(tmp_path):
    """Sparse files that really are as long as they declare, under a limit of 2 GiB of address space."""
    paths = []
    for rows, width, batch in ((2**40, 1, 1), (2**34, 64, 2**34), (2**29, 1, 2**20)):

        def change(fields, rows=rows, width=width, batch=batch):
            entries = -(-rows // batch)
            fields["datasets"]["labels"] = {"offset": 2**13, "shape": [rows], "dtype": "<i8"}
            fields["datasets"]["checksums"] = {"offset": 2**13 + 8 * rows, "shape": [entries, 2], "dtype": "<u4"}
            start = 2**13 + 8 * rows + 8 * entries
            fields["datasets"]["features"] = {"offset": start, "shape": [rows, width], "dtype": "|i1"}
            fields["size"] = start + rows * width
            fields["about"].update(num_samples=rows, batch_size=batch)
            fields["about"]["shard"] = {"index": 1, "count": 1, "start": 0, "stop": rows}
            data = caches.whole_file(50, 8)
            fields["hdf5_sha256"] = hashlib.sha256(data[fields["user_block"] : 2**13]).hexdigest()

        path = tmp_path / f"{rows}.h5"
        path.write_bytes(sealed(change)[: 2**13])
        sizes = json.loads(path.read_bytes().split(b"\n")[1])["size"]
        try:
            os.truncate(path, sizes)
        except OSError:  # longer than files of this file system can be
            os.truncate(path, 2**40)
        paths.append(path)
    found = subprocess.run([sys.executable, "-c", HUGE, *paths], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["refused"] * 3, found.stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 2**31


@pytest.fixture(scope="module")
def result():
    return score(caches.tiny_model(), caches.features(), labels=caches.images().labels, mutual_information=True)


class TestMoments:
    def test_round_trip(self, result, victim):
        save_moments(victim, result)
        found = load_moments(victim)
        names = ("mean", "std", "lower", "upper", "ternary", "plain", "keep", "reason", "prediction", "entropy")
        for name in (*names, "mutual_information", "labels"):
            np.testing.assert_array_equal(found[name], getattr(result, name))
            assert found[name].dtype == getattr(result, name).dtype
        assert found["options"]["num_iter"] == result.options.num_iter
        assert found["model_sha256"] == result.model_sha256
        with h5py.File(victim) as file:
            np.testing.assert_array_equal(file["mean"][:], result.mean)
            np.testing.assert_array_equal(file["keep"][:], result.keep)

    def test_flipped_bits_are_found(self, result, victim):
        save_moments(victim, result)
        data = victim.read_bytes()
        for bit in drawn_bits(generator(2), data, 300):
            victim.write_bytes(flipped(data, bit))
            with pytest.raises(CacheError, match=str(victim)):
                load_moments(victim)

    def test_a_cache_is_no_moments_file(self, victim):
        victim.write_bytes(caches.whole_file(50, 8))
        with pytest.raises(CacheError, match="expected a fastuq moments"):
            load_moments(victim)
