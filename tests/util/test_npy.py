"""Arrays in .npy files: read by pieces, right in any layout, and an error when the file is cut meanwhile."""

import ast
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import caches
import numpy as np
import pytest
from places import TINY

import fastuq
from fastuq.cache import cache_features
from fastuq.datasets import open_images
from fastuq.errors import InputError
from fastuq.util.npy import NpyArray

SLICES = [
    slice(None), slice(3, 7), slice(7, 3), slice(-4, None), slice(None, None, 3), slice(None, None, -1),
    slice(9, 1, -3), slice(5, 500), slice(500, 600), slice(0, 0), slice(-500, 2),
]  # fmt: skip


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((12, 5, 4, 3), "|u1"), ((12,), "<i8"), ((12, 3), ">u2"), ((12, 1), "<M8[s]"), ((12, 2), "i1,<f4"), ((1,), "?")],
)
def test_slices_are_those_of_the_array(tmp_path, order, shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    array = np.frombuffer(np.random.default_rng(0).integers(0, 2, size, np.uint8), dtype).reshape(shape)
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    found = NpyArray(tmp_path / "a.npy")
    assert (found.shape, found.dtype, len(found)) == (shape, np.dtype(dtype), shape[0])
    for key in SLICES:
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array[key])
    for rows in ([], [0], [0, 0, -1 + shape[0]]):
        np.testing.assert_array_equal(found[np.array(rows, int)], array[np.array(rows, int)])
    np.testing.assert_array_equal(np.asarray(found), array)


def test_threads_read_at_once(tmp_path):
    array = np.random.default_rng(1).integers(0, 256, (64, 8, 8, 3), np.uint8)
    np.save(tmp_path / "a.npy", array)
    found = NpyArray(tmp_path / "a.npy")
    with ThreadPoolExecutor(8) as pool:
        for start, rows in enumerate(pool.map(lambda start: found[start : start + 5], [*range(59)] * 20)):
            np.testing.assert_array_equal(rows, array[start % 59 : start % 59 + 5])


def test_what_is_no_array_is_refused(tmp_path):
    np.save(tmp_path / "whole.npy", np.zeros((4, 8, 8, 3), np.uint8))
    whole = (tmp_path / "whole.npy").read_bytes()
    np.save(tmp_path / "empty.npy", np.zeros((0, 8, 8, 3), np.uint8))
    (tmp_path / "cut.npy").write_bytes(whole[:-1])
    (tmp_path / "header.npy").write_bytes(whole[:40])
    (tmp_path / "nothing.npy").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(InputError, match=r"expected an array of at least one row, found an array \(0, 8, 8, 3\)"):
        open_images(tmp_path / "empty.npy")
    for name in ("cut", "header", "nothing", "pipe"):
        with pytest.raises(InputError, match="truncated or foreign"):
            open_images(tmp_path / f"{name}.npy")
    with pytest.raises(InputError, match="no such file"):
        open_images(tmp_path / "gone.npy")
    (tmp_path / "longer.npy").write_bytes(whole + b"more")
    assert len(open_images(tmp_path / "longer.npy")) == 4


CUT = """
import os, sys
import numpy as np
from pathlib import Path
from fastuq.datasets import open_images
from fastuq.errors import InputError
from fastuq.cache import cache_features
from fastuq.model.model import load_model

images = open_images({spec!r})
images.images[:1], images.fingerprint()
os.truncate({file!r}, 150)
try:
    {action}
except InputError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.parametrize("spec", ["in.npy", "cifar100c/fog/3"])
@pytest.mark.parametrize(
    "action",
    [
        "images.images[10:20]",
        "images.subset(5, 9).fingerprint()",
        "cache_features(images, load_model({tiny!r}), 'c.h5', batch_size=4)",
    ],
)
def test_a_file_cut_while_it_is_read_is_an_error(tmp_path, spec, action):
    (tmp_path / "CIFAR-100-C").mkdir()
    pixels = np.zeros((100, 32, 32, 3), np.uint8)
    np.save(tmp_path / "in.npy", pixels)
    np.save(tmp_path / "CIFAR-100-C" / "fog.npy", pixels)
    np.save(tmp_path / "CIFAR-100-C" / "labels.npy", np.tile(np.arange(20), 5))
    file = spec if spec == "in.npy" else "CIFAR-100-C/fog.npy"
    code = CUT.format(spec=spec, file=file, action=action.format(tiny=str(TINY)))
    environment = {**os.environ, "FASTUQ_DATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "became shorter while it was read" in done.stdout


def test_a_file_that_is_replaced_meanwhile_is_read_as_it_was(tmp_path):
    before, after = (np.full((60, 32, 32, 3), value, np.uint8) for value in (1, 2))
    np.save(tmp_path / "in.npy", before)
    images = open_images(tmp_path / "in.npy")
    np.save(tmp_path / "new.npy", after)
    os.replace(tmp_path / "new.npy", tmp_path / "in.npy")
    np.testing.assert_array_equal(images.images[:], before)
    with cache_features(images, caches.tiny_model(), tmp_path / "c.h5") as cache:
        assert cache.data_fingerprint == open_images(before).fingerprint()


def test_arrays_of_training_are_written_plainly_and_refused_when_cut(tmp_path):
    from fastuq.training.work_folder import kept_array

    file, rows = tmp_path / "features.npy", np.random.default_rng(2).integers(-128, 128, (150, 7)).astype(np.int8)
    (tmp_path / "precious").write_bytes(b"not to be touched")
    (tmp_path / ".partial.features.npy").symlink_to("precious")
    found = kept_array(file, rows.shape, np.int8, lambda start, stop: rows[start:stop], "features")
    np.testing.assert_array_equal(found[np.array([149, 0, 3])], rows[[149, 0, 3]])
    np.testing.assert_array_equal(np.load(file), rows)
    assert (tmp_path / "precious").read_bytes() == b"not to be touched"
    os.truncate(file, 200)
    with pytest.raises(InputError, match="became shorter"):
        found[100:120]
    with pytest.raises(InputError, match=r"features.npy: truncated or altered .*; delete it"):
        kept_array(file, rows.shape, np.int8, lambda start, stop: rows[start:stop], "features")


def test_nothing_in_fastuq_is_mapped():
    """A map of a file that is cut, or written on a full disk, ends the process with SIGBUS."""
    for file in Path(fastuq.__file__).parent.rglob("*.py"):
        nodes = ast.walk(ast.parse(file.read_text()))
        names = {name for node in nodes for name in (getattr(node, "attr", ""), getattr(node, "arg", ""))}
        assert not names & {"memmap", "open_memmap", "mmap", "mmap_mode"}, file
