"""Files that lie: pickles, .npy, .npz and pictures. Refused in one line, in bounded memory, with nothing executed."""

import io
import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from damage import unpickled_here
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fastuq.datasets import open_images
from fastuq.datasets.pickles import read_pickle
from fastuq.errors import FastUQError, InputError
from fastuq.util.json_reading import read_json

EXAMPLES = int(os.environ.get("FASTUQ_FUZZ", "200"))
"""Inputs per parser; the long runs set more."""
FUZZ = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
MEMORY = 64 * 2**20


def cut_and_edit(valid):
    """Valid content with one piece overwritten, or cut short."""
    edits = st.tuples(st.integers(0, len(valid) - 1), st.binary(min_size=1, max_size=12))
    return st.one_of(
        edits.map(lambda edit: valid[: edit[0]] + edit[1] + valid[edit[0] + len(edit[1]) :]),
        st.integers(0, len(valid) - 1).map(lambda cut: valid[:cut]),
    )


def outcome(use):
    """Return what `use` gives, or None for a refusal in one line; no warning, and little memory either way."""
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = use()
    except FastUQError as error:
        result, message = None, str(error)
    else:
        message = ""
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in message
    assert peak < MEMORY
    return result


# ---------------------------------------------------------------- pickles


class Calls:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def evil_pickles(marker):
    command = f"touch {marker}"
    for protocol in range(6):
        yield pickle.dumps({b"data": Calls(os.system, (command,))}, protocol)
        yield pickle.dumps({b"data": Calls(eval, (f"open({str(marker)!r}, 'w')",))}, protocol)
        yield pickle.dumps(Calls(np.load, (str(marker),)), protocol)
        yield pickle.dumps({b"data": np.array([Calls(os.system, (command,))], object)}, protocol)
        yield pickle.dumps({b"data": np.zeros(2, [("a", "u1")])}, protocol)
    yield f"cos\nsystem\n(S'{command}'\ntR.".encode()
    yield f"(S'{command}'\nios\nsystem\n.".encode()
    yield f"(cos\nsystem\nS'{command}'\no.".encode()
    yield b"\x80\x02cnumpy\nndarray\n(K\x01t\x81."
    yield b"\x80\x02cnumpy\nndarray\n(K\x01tR."
    yield b"\x80\x02cnumpy\ndtype\n(U\x02u1tR}b."
    yield b"\x80\x02cnumpy.core.multiarray\nscalar\n."
    yield b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93."
    yield b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR."
    yield b"\x82\x01."
    yield b"\x80\x02}U\x01aP123\n."


def test_malicious_pickles_are_refused_and_not_executed(tmp_path):
    marker, path = tmp_path / "executed", tmp_path / "evil"
    for number, content in enumerate(evil_pickles(marker)):
        path.write_bytes(content)
        assert outcome(lambda: read_pickle(path)) is None, number
        assert not marker.exists(), number
    assert number == 5 * 6 + 10


def test_the_refusal_names_what_was_found(tmp_path):
    (tmp_path / "evil").write_bytes(pickle.dumps({b"data": Calls(os.system, ("true",))}))
    with pytest.raises(InputError, match=r"refused: it holds the name posix\.system"):
        read_pickle(tmp_path / "evil")


def nested_key(depth):
    return b"\x80\x02}" + b")" + b"\x85" * depth + b"K\x01s."


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo index for which the usual unpickler would allocate 16 GB
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",  # bytes of 2**63 - 1
        b"\x80\x04\x8d\x00\x00\x00\x00\x00\x10\x00\x00abc.",  # text of 2**44 characters
        b"\x80\x05\x96\x00\x00\x00\x00\x00\x10\x00\x00abc.",
        nested_key(200_000),  # hashing it would overflow the stack
        b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.",  # hashing it would take 2**60 steps
        b"\x80\x02" + b"(" * 200_000,
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"",
        b".",
        b"\x80\x02N.",
        b"\x80\x02K\x01.",
    ],
)
def test_pickles_that_would_hang_or_fill_the_memory(tmp_path, content):
    (tmp_path / "bomb").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(InputError):
        read_pickle(tmp_path / "bomb")
    assert tracemalloc.get_traced_memory()[1] < 2 * MEMORY
    tracemalloc.stop()


def array_pickle(shape, data, dtype=b"u1"):
    head = b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU%c%sK\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" % (
        len(dtype),
        dtype,
    )
    sizes = b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in shape) + b"t"
    return head + b"(K\x01" + sizes + kind + b"\x89U%c" % len(data) + data + b"tbs."


def test_python_2_arrays_are_read_and_lying_ones_refused(tmp_path):
    path = tmp_path / "array"
    path.write_bytes(array_pickle((2, 3), b"abcdef"))
    assert read_pickle(path)["data"].tolist() == [[97, 98, 99], [100, 101, 102]]
    for shape, data, dtype in [
        ((10**12,), b"abc", b"u1"),
        ((-1, -6), b"abcdef", b"u1"),
        ((2, 2), b"abcdef", b"u1"),
        ((2**62, 4), b"", b"u1"),
        ((1,) * 60, b"a", b"u1"),
        ((1,), b"\0" * 8, b"O8"),
        ((1,), b"\0" * 8, b"V8"),
        ((1,), b"\0" * 7, b"f8"),
    ]:
        path.write_bytes(array_pickle(shape, data, dtype))
        assert outcome(lambda: read_pickle(path)) is None, (shape, dtype)


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), st.text(), st.binary()
    ),
    lambda inner: st.one_of(st.lists(inner), st.tuples(inner, inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)


@FUZZ
@given(st.dictionaries(st.text(), VALUES), st.integers(2, 5))
def test_plain_pickles_are_read_as_python_reads_them(tmp_path, value, protocol):
    (tmp_path / "plain").write_bytes(pickle.dumps(value, protocol))
    with unpickled_here():
        assert read_pickle(tmp_path / "plain") == value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "<f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_protocol_are_read_as_numpy_reads_them(tmp_path, protocol, dtype, order):
    array = np.asarray(np.arange(24).reshape(2, 3, 4).astype(dtype), order=order)
    (tmp_path / "array").write_bytes(pickle.dumps({"data": array}, protocol))
    found = read_pickle(tmp_path / "array")["data"]
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


CIFAR = pickle.dumps(
    {b"data": np.arange(6144, dtype=np.uint8).reshape(2, 3072), b"fine_labels": [3, 5], b"filenames": [b"a", b"b"]}, 2
)
CIFAR_STRUCTURE = CIFAR[:300] + CIFAR[-300:]


@FUZZ
@given(st.one_of(st.binary(max_size=500), cut_and_edit(CIFAR), cut_and_edit(CIFAR_STRUCTURE)))
def test_any_bytes_as_a_cifar_file(tmp_path, content):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir(exist_ok=True)
    (folder / "test").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch, unpickled_here():
        patch.setenv("FASTUQ_DATA", str(tmp_path))
        images = outcome(lambda: open_images("cifar100"))
    if images is not None:
        assert images.images.shape[1:] == (32, 32, 3)
        assert len(images.labels) == len(images)


# ---------------------------------------------------------------- .npy and .npz


def npy_of(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npy_with_header(header, data=b""):
    text = header.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


NPY = npy_of(np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3))
HEADERS = [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 32, 32, 3), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 32, 32, 3), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807, 2, 3), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1, 2, 2, 3), }",
    "{'descr': [('a', 'O')], 'fortran_order': False, 'shape': (1, 2, 2, 3), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': 7, }",
    "{'descr': '|u1', 'fortran_order': False}",
    "__import__('os').system('true')",
    "(" * 100,
    "",
]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("packed", [False, True])
def test_lying_headers_are_refused(tmp_path, header, packed):
    content = npy_with_header(header, b"abc")
    path = tmp_path / ("a.npz" if packed else "a.npy")
    if packed:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", content)
    else:
        path.write_bytes(content)
    assert outcome(lambda: open_images(path)) is None


def test_endless_headers_are_refused(tmp_path):
    content = b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\xff" + b" " * 1000
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", content)
    for name in ("a.npy", "a.npz"):
        assert outcome(lambda name=name: open_images(tmp_path / name)) is None


def test_objects_are_refused_and_not_unpickled(tmp_path):
    marker = tmp_path / "executed"
    evil = np.array([Calls(os.system, (f"touch {marker}",))], object)
    np.save(tmp_path / "a.npy", evil, allow_pickle=True)
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 2, 2, 3), np.uint8), labels=evil)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError):
            open_images(tmp_path / name)
    assert not marker.exists()


def test_zip_bomb_is_refused_by_its_declared_size(tmp_path):
    count = 2**30 // 3072 + 1
    head = npy_with_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, 32, 32, 3), }}")
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("images.npy", "w", force_zip64=True) as member,
    ):
        member.write(head)
        block = bytes(2**22)
        for _ in range(257):
            member.write(block)
    assert (tmp_path / "bomb.npz").stat().st_size < 8 * 2**20
    with pytest.raises(InputError, match="save large images"):
        open_images(tmp_path / "bomb.npz")
    assert outcome(lambda: open_images(tmp_path / "bomb.npz")) is None


def test_zip_bomb_that_understates_its_size_is_refused(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", NPY + bytes(50 * 2**20))
    true = struct.pack("<I", len(NPY) + 50 * 2**20)
    (tmp_path / "a.npz").write_bytes(out.getvalue().replace(true, struct.pack("<I", len(NPY))))
    assert outcome(lambda: open_images(tmp_path / "a.npz")) is None


def test_archives_without_images_say_what_they_hold(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3), y=np.zeros(3))
    with pytest.raises(InputError, match="named images, found x, y"):
        open_images(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=np.zeros((1, 2, 2, 3), np.uint8), class_names=np.zeros(3))
    with pytest.raises(InputError, match="class_names"):
        open_images(tmp_path / "b.npz")


@FUZZ
@given(st.one_of(st.binary(max_size=300), cut_and_edit(NPY), cut_and_edit(NPY[:128])))
def test_any_bytes_as_npy(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    images = outcome(lambda: open_images(tmp_path / "a.npy"))
    if images is not None:
        assert images.fingerprint()


def npz_of(compressed):
    out = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(out, images=np.zeros((2, 4, 5, 3), np.uint8), labels=np.array([0, 1]), class_names=np.array(["a", "b"]))
    return out.getvalue()


@FUZZ
@given(st.one_of(st.binary(max_size=300), cut_and_edit(npz_of(False)), cut_and_edit(npz_of(True))))
def test_any_bytes_as_npz_are_refused_or_right(tmp_path, content):
    """A zip carries checksums: what is altered is refused, or was not part of the content."""
    (tmp_path / "a.npz").write_bytes(content)
    images = outcome(lambda: open_images(tmp_path / "a.npz"))
    if images is not None and images.labels is not None:
        assert not images.images.any()
        assert images.labels.tolist() == [0, 1]


# ---------------------------------------------------------------- pictures


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(width, height):
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(bytes(10**6))) + png_chunk(b"IEND", b"")


KINDS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")


def encoded(kind):
    out = io.BytesIO()
    Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("size", [(100_000, 100_000), (50_000_001, 1), (8000, 8000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs_are_refused(tmp_path, size):
    (tmp_path / "a.png").write_bytes(huge_png(*size))
    images = open_images(tmp_path)
    assert outcome(lambda: images.images[:1]) is None
    with pytest.raises(InputError, match=r"a\.png: .*(pixels|expected a picture)"):
        images.images[:1]


def test_png_chunk_that_declares_gigabytes(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded("PNG")[:33] + b"\x7f\xff\xff\xffIDAT\x00")
    assert outcome(lambda: open_images(tmp_path).images[:]) is None


@pytest.mark.parametrize(("scans", "read"), [(0, True), (80, True), (200, False), (5000, False)])
def test_scans_of_a_jpeg_are_bounded(tmp_path, scans, read):
    """Twelve bytes of a progressive JPEG make the decoder go over all pixels once more: hours for a file of 1 MB."""
    out = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(out, "JPEG", progressive=True)
    content = out.getvalue()
    last = content[content.rfind(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(content[:-2] + last * scans + b"\xff\xd9")
    assert (outcome(lambda: open_images(tmp_path).images[:]) is not None) == read


def test_data_behind_a_jpeg_are_passed_over(tmp_path):
    """Telephones append a film to a picture, in which anything may look like a scan."""
    film = np.random.default_rng(0).integers(0, 256, 30 * 2**20, np.uint8).tobytes()
    assert film.count(b"\xff\xda") > 200
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG") + film)
    assert open_images(tmp_path).images[:].shape == (1, 32, 32, 3)


def test_other_formats_under_a_png_name_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "b.ppm")
    (tmp_path / "b.ppm").rename(tmp_path / "b.png")
    (tmp_path / "a.png").symlink_to("/dev/null")
    images = open_images(tmp_path)
    assert outcome(lambda: images.images[:]) is None


@FUZZ
@given(st.one_of(st.binary(max_size=300), *(cut_and_edit(encoded(kind)) for kind in KINDS)))
def test_any_bytes_as_a_picture(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    pixels = outcome(lambda: open_images(tmp_path).images[:])
    if pixels is not None:
        assert pixels.shape == (1, 32, 32, 3)
        assert pixels.dtype == np.uint8


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    "text",
    [
        "[" + "[]," * 1_390_000 + "1]",
        "[" + "{}," * 1_390_000 + "1]",
        '{"a": [' + "[[[]]]," * 500_000 + "1]}",
        "[" * 90_000,
        "9" * 100_000,
        '"' + "a" * 2**22 + '"',
        '{"a": 1, "a": 2}',
    ],
    ids=lambda text: text[:12],
)
def test_json_that_would_fill_the_memory(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "a.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY
