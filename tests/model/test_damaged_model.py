"""The model folder: no flipped bit, cut, missing part or hostile content is taken for a model."""

import hashlib
import io
import json
import os
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from damage import drawn_bits, edited, flipped, generator, outcome, refused
from models import save_again
from places import TINY

from fastuq.errors import InputError, ModelError
from fastuq.model.folder import DESCRIPTION, MAX_HEAD_BYTES, PARTS, identity, write_folder
from fastuq.model.model import load_model
from fastuq.scoring.scoring import score

FILES = (*PARTS, DESCRIPTION)


def same(model):
    """Tell whether a model loaded from a damaged copy is the undamaged one to the last bit."""
    whole = load_model(TINY)
    arrays = zip(
        [*model.head.to_arrays().values(), *model.head_int8.to_arrays().values()],
        [*whole.head.to_arrays().values(), *whole.head_int8.to_arrays().values()],
        strict=True,
    )
    return (
        model.sha256 == whole.sha256
        and model.info == whole.info
        and all(np.array_equal(mine, other) for mine, other in arrays)
        and model.read_backbone() == whole.read_backbone()
        and model.read_full() == whole.read_full()
    )


def check_damage(folder, name, contents):
    """Load the folder with each of `contents` in the place of a file; return how many were refused."""
    whole, count = (folder / name).read_bytes(), 0
    for content in contents:
        (folder / name).write_bytes(content)
        found = outcome(lambda: load_model(folder))
        if refused(found):
            assert isinstance(found, ModelError)
            assert name in str(found)
            count += 1
        else:
            assert same(found), f"{name}: damage was taken for a model"
    (folder / name).write_bytes(whole)
    return count


def check_flips_and_cuts(folder, seed, per_file):
    rng, tried, found = generator(seed), 0, 0
    for name in FILES:
        whole = (folder / name).read_bytes()
        contents = [flipped(whole, bit) for bit in drawn_bits(rng, whole, per_file)]
        contents += [whole[: int(cut)] for cut in rng.integers(0, len(whole), per_file // 4)]
        found += check_damage(folder, name, contents)
        tried += len(contents)
    print(f"model folder: {tried} flips and cuts, {found} refused, {tried - found} without effect, 0 wrong")
    return tried, found


def test_flipped_bits_and_cuts(model_folder):
    tried, found = check_flips_and_cuts(model_folder, 0, 60)
    assert found >= tried - 2, "nearly every one changes what is read"


@pytest.mark.torture
def test_many_flipped_bits_and_cuts(model_folder):
    tried, found = check_flips_and_cuts(model_folder, 1, 2000)
    assert found >= 0.99 * tried


@pytest.mark.torture
def test_every_bit_of_the_description(model_folder):
    whole = (model_folder / DESCRIPTION).read_bytes()
    tried = 8 * len(whole)
    found = check_damage(model_folder, DESCRIPTION, (flipped(whole, bit) for bit in range(tried)))
    print(f"{DESCRIPTION}: all {tried} bits flipped, {found} refused, {tried - found} without effect, 0 wrong")


def test_a_part_that_changes_after_loading_does_not_run(model_folder):
    model = load_model(model_folder)
    for name, read in (("backbone.tflite", model.read_backbone), ("full.tflite", model.read_full)):
        assert read() == (TINY / name).read_bytes()
        (model_folder / name).write_bytes(flipped((TINY / name).read_bytes(), 999))
        with pytest.raises(ModelError, match="altered or truncated"):
            read()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "dangling link", "endless device"])
def test_parts_that_are_no_files_are_refused(model_folder, name, kind):
    (model_folder / name).unlink()
    if kind == "folder":
        (model_folder / name).mkdir()
    elif kind == "fifo":
        os.mkfifo(model_folder / name)
    elif kind == "dangling link":
        (model_folder / name).symlink_to(model_folder / "nowhere")
    elif kind == "endless device":
        (model_folder / name).symlink_to("/dev/zero")
    found = outcome(lambda: load_model(model_folder))
    assert isinstance(found, ModelError)
    assert name in str(found)


def test_linked_parts_and_extra_files_are_no_matter(model_folder):
    """A download cache keeps parts as links; cards and notes lie beside them."""
    for name in FILES:
        (model_folder / name).unlink()
        (model_folder / name).symlink_to(TINY / name)
    (model_folder / "notes.txt").write_text("kept")
    assert same(load_model(model_folder))


# ---------------------------------------------------------------- folders made to deceive, their checksums in order


def forge(folder, contents=None, /, **changes):
    """Change parts and keys of the description as someone who can compute a SHA-256 would."""
    info = json.loads((folder / DESCRIPTION).read_text())
    info.update(changes)
    for name, content in (contents or {}).items():
        (folder / name).write_bytes(content)
        info["parts"][name] = hashlib.sha256(content).hexdigest()
    info["sha256"] = identity(info)
    (folder / DESCRIPTION).write_text(json.dumps(info))


def npz(**arrays):
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def head_arrays(name="head.npz", **changes):
    with np.load(TINY / name) as arrays:
        found = dict(arrays)
    return {key: value for key, value in {**found, **changes}.items() if value is not None}


def with_first(name, key, change):
    array = head_arrays(name)[key].copy()
    array.flat[0] = change
    return npz(**head_arrays(name, **{key: array}))


def bomb(size, method=zipfile.ZIP_DEFLATED):
    """An npz of a few kilobytes that unpacks to `size` zeros."""
    out = io.BytesIO()
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({size // 4},), }}".ljust(117) + "\n"
    with (
        zipfile.ZipFile(out, "w", method) as archive,
        archive.open("weights_0.npy", "w", force_zip64=True) as member,
    ):
        member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        for _ in range(size // 2**22 + 1):
            member.write(bytes(2**22))
    return out.getvalue()


def objects():
    out = io.BytesIO()
    np.savez(out, **head_arrays(weights_0=np.array([print], object)))
    return out.getvalue()


def deep(depth):
    return np.array("[" * depth + "]" * depth)


LAYOUT = json.loads(str(head_arrays()["layout"]))


def layout(**changes):
    return np.array(json.dumps([{**LAYOUT[0], **changes}, *LAYOUT[1:]]))


FORGED = {
    "bomb": lambda: bomb(MAX_HEAD_BYTES + 2**22),
    "lzma bomb": lambda: bomb(2**24, zipfile.ZIP_LZMA),
    "objects": objects,
    "text": lambda: b"no archive",
    "nothing": lambda: npz(),
    "no layout": lambda: npz(**head_arrays(layout=None)),
    "layout of numbers": lambda: npz(**head_arrays(layout=np.arange(3))),
    "layout no list": lambda: npz(**head_arrays(layout=np.array("{}"))),
    "layout of lists": lambda: npz(**head_arrays(layout=np.array("[[], []]"))),
    "empty layout": lambda: npz(**head_arrays(layout=np.array("[]"))),
    "deep layout": lambda: npz(**head_arrays(layout=deep(100_000))),
    "rate nan": lambda: npz(**head_arrays(layout=layout(rate=float("nan")))),
    "rate huge": lambda: npz(**head_arrays(layout=layout(rate=10**400))),
    "rate 1": lambda: npz(**head_arrays(layout=layout(rate=1.0))),
    "rate missing": lambda: npz(**head_arrays(layout=np.array("[{}]"))),
    "activation": lambda: npz(**head_arrays(layout=layout(activation="exec"))),
    "softmax within": lambda: npz(**head_arrays(layout=layout(activation="softmax"))),
    "nan": lambda: with_first("head.npz", "weights_0", np.nan),
    "infinity": lambda: with_first("head.npz", "bias_0", np.inf),
    "huge": lambda: with_first("head.npz", "weights_1", 3e38),
    "nan affine": lambda: with_first("head.npz", "scale", np.nan),
    "float64": lambda: npz(**head_arrays(weights_0=np.full((32, 300), 1e300))),
    "complex": lambda: npz(**head_arrays(bias_0=np.zeros(300, complex))),
    "missing weights": lambda: npz(**head_arrays(weights_1=None)),
    "0-d scale": lambda: npz(**head_arrays(scale=np.float32(1), shift=np.float32(1))),
    "2-d scale": lambda: npz(**head_arrays(scale=np.ones((32, 2), np.float32))),
    "no features": lambda: npz(**head_arrays(scale=np.ones(0, np.float32), shift=np.ones(0, np.float32))),
    "transposed": lambda: npz(**head_arrays(weights_0=head_arrays()["weights_0"].T)),
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_float_heads_are_refused(model_folder, kind):
    forge(model_folder, {"head.npz": FORGED[kind]()})
    assert isinstance(outcome(lambda: load_model(model_folder)), ModelError)


FORGED_INT8 = {
    "nan": lambda: with_first("head_int8.npz", "scale_0", np.nan),
    "infinity": lambda: with_first("head_int8.npz", "input_shift", np.inf),
    "-128": lambda: with_first("head_int8.npz", "weights_0", -128),
    "float weights": lambda: npz(**head_arrays("head_int8.npz", weights_0=np.zeros((32, 300)))),
    "2-d scale": lambda: npz(**head_arrays("head_int8.npz", scale_0=np.ones((300, 2), np.float32))),
    "2-d input": lambda: npz(**head_arrays("head_int8.npz", input_scale=np.ones((32, 2), np.float32))),
    "float head": lambda: (TINY / "head.npz").read_bytes(),
    "softmax within": lambda: npz(**head_arrays("head_int8.npz", layout=layout(activation="softmax"))),
    "another rate": lambda: npz(**head_arrays("head_int8.npz", layout=layout(rate=0.5))),
    "bomb": lambda: bomb(MAX_HEAD_BYTES + 2**22),
}


@pytest.mark.parametrize("kind", FORGED_INT8)
def test_forged_int8_heads_are_refused(model_folder, kind):
    forge(model_folder, {"head_int8.npz": FORGED_INT8[kind]()})
    assert isinstance(outcome(lambda: load_model(model_folder)), ModelError)


def test_sums_that_overflow_are_no_result(model_folder):
    """Every weight is finite, their sums are not."""
    arrays = {name: array if name == "layout" else np.full_like(array, 9e29) for name, array in head_arrays().items()}
    arrays["weights_1"][::2] *= -1  # infinity minus infinity
    forge(model_folder, {"head.npz": npz(**arrays)})
    model, features = load_model(model_folder), np.full((3, 32), 100, np.int8)
    found = outcome(lambda: score(model, features, num_iter=5, precision="float32"))
    assert isinstance(found, ModelError)
    assert "NaN or infinity" in str(found)
    # The int8 head is another file, and its numbers cannot overflow: sums of int8 products times at most 1e30.
    assert np.isfinite(score(model, features, num_iter=5).plain).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"input_shape": [10**9, 10**9, 3]},
        {"input_shape": [32, 32, 1]},
        {"input_shape": [32.5, 32, 3]},
        {"input_shape": "abc"},
        {"input_shape": None},
        {"feature_scale": 1e999},
        {"feature_scale": -1.0},
        {"feature_scale": "x" * 10**6},
        {"feature_scale": 10**400},
        {"feature_zero_point": 128},
        {"feature_zero_point": True},
        {"class_names": []},
        {"class_names": ["a"] * 10},
        {"class_names": "abc"},
        {"class_names": ["\x1b[2Jgone", *"bcdefghij"]},
        {"class_names": [["a"]] * 10},
        {"network": "two\nlines"},
        {"network": "\ud800"},
        {"format_version": [[]]},
        {"format_version": 10**4000},
        {"parts": {}},
        {"parts": {"../../etc/passwd": "0" * 64}},
        {"parts": dict.fromkeys(PARTS, 3)},
    ],
)
def test_forged_descriptions_are_refused(model_folder, changes):
    forge(model_folder, **changes)
    assert isinstance(outcome(lambda: load_model(model_folder)), ModelError)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b'{"a":' * 500_000,
        b"1" * 100_000,
        b"\xff\xfe{\x00}\x00",
        b'{"format_version": NaN}',
        b'{"format_version": -Infinity}',
        b" " * 5_000_000,
        b'{"\xed\xa0\x80": 1}',
        b"null",
    ],
)
def test_descriptions_that_would_overflow_or_hang_are_refused(model_folder, content):
    (model_folder / DESCRIPTION).write_bytes(content)
    assert isinstance(outcome(lambda: load_model(model_folder)), ModelError)


def test_a_key_that_is_there_twice_is_refused(model_folder):
    text = (model_folder / DESCRIPTION).read_text()
    (model_folder / DESCRIPTION).write_text('{"network": "other",' + text[1:])
    with pytest.raises(ModelError, match="there twice"):
        load_model(model_folder)


def check_forged_parts(folder, seed, count):
    """Edited parts whose checksums were put in order: refused, or heads of finite numbers."""
    rng, refusals = generator(seed), 0
    for _ in range(count):
        name = ("head.npz", "head_int8.npz", DESCRIPTION)[rng.integers(0, 3)]
        whole = (TINY / name).read_bytes()
        shutil.copytree(TINY, folder, dirs_exist_ok=True)
        if name == DESCRIPTION:
            (folder / name).write_bytes(edited(rng, whole))
        else:
            forge(folder, {name: edited(rng, whole)})
        found = outcome(lambda: load_model(folder))
        if refused(found):
            assert isinstance(found, ModelError)
            refusals += 1
        elif name == DESCRIPTION:
            assert same(found)
    print(f"forged model folders: {count} tried, {refusals} refused in one line, 0 other exceptions")
    return refusals


def test_edited_parts_with_their_checksums_in_order(model_folder):
    assert check_forged_parts(model_folder, 2, 200) > 100


@pytest.mark.torture
def test_many_edited_parts_with_their_checksums_in_order(model_folder):
    assert check_forged_parts(model_folder, 3, 5000) > 2500


# ---------------------------------------------------------------- saving


def test_a_save_that_fails_midway_puts_the_old_model_back(model_folder, monkeypatch):
    """Between moving the old model_folder away and the new one in, an error or a signal may come."""
    replace = Path.replace

    def stopped(self, target):
        if self.name == "new":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_folder(model_folder, {"backbone.tflite": b"new"})
    monkeypatch.undo()
    assert same(load_model(model_folder))
    assert [path.name for path in model_folder.parent.iterdir()] == ["model"]


def test_what_could_not_be_loaded_is_not_written(model_folder):
    with pytest.raises(ModelError, match="network"):
        save_again(load_model(model_folder), model_folder, network="two\nlines")
    assert same(load_model(model_folder))
    with pytest.raises(InputError):
        save_again(load_model(TINY), model_folder / "model.json" / "sub")
