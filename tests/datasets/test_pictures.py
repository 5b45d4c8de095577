"""Single picture files: whatever people have becomes upright RGB pixels on white, in the size that a network takes."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fastuq.datasets import open_images
from fastuq.datasets.picture import read_picture
from fastuq.errors import InputError

RNG = np.random.default_rng(0)
SMOOTH = np.stack(np.meshgrid(np.arange(0, 240, 10), np.arange(0, 240, 15), [90])[:3], -1)[:, :, 0].astype(np.uint8)
"""16 x 24, smooth enough for a JPEG; no two corners alike."""
SIZE = SMOOTH.shape[:2]


def read(path, picture, size=SIZE, crop=None, **options):
    picture.save(path, **options)
    return read_picture(path, size, crop)


@pytest.mark.parametrize(
    ("name", "options", "far"),
    [
        ("a.png", {}, 0),
        ("a.bmp", {}, 0),
        ("a.tif", {}, 0),
        ("a.tiff", {"compression": "tiff_lzw"}, 0),
        ("a.webp", {"lossless": True}, 0),
        ("a.webp", {"quality": 95}, 12),
        ("a.jpg", {"quality": 98, "subsampling": 0}, 6),
        ("a.jpeg", {"progressive": True, "quality": 98, "subsampling": 0}, 6),
    ],
)
def test_formats(tmp_path, name, options, far):
    found = read(tmp_path / name, Image.fromarray(SMOOTH), **options)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - SMOOTH).max() <= far


def test_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (24, 16), colour) for colour in ("red", "blue", "green")]
    for name in ("a.gif", "a.tif", "a.webp"):
        options = {"lossless": True} if name == "a.webp" else {}
        found = read(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], **options)
        assert (found == [255, 0, 0]).all(), name
    frames[0].save(tmp_path / "a.mpo", save_all=True, append_images=frames[1:2], quality=100)
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")  # as telephones write them
    assert np.abs(open_images(tmp_path / "a.jpg", image_size=SIZE).images[:].astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.png", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path, name, orientation):
    """What a camera that was held otherwise writes: the pixels turned, and the way back in EXIF."""
    turned = {
        1: SMOOTH, 2: SMOOTH[:, ::-1], 3: SMOOTH[::-1, ::-1], 4: SMOOTH[::-1], 5: SMOOTH.transpose(1, 0, 2),
        6: np.rot90(SMOOTH, 1), 7: np.rot90(SMOOTH, 2).transpose(1, 0, 2), 8: np.rot90(SMOOTH, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"a.jpg": {"quality": 98, "subsampling": 0}, "a.webp": {"lossless": True}}.get(name, {})
    found = read(tmp_path / name, Image.fromarray(np.ascontiguousarray(turned)), exif=exif, **options)
    assert np.abs(found.astype(int) - SMOOTH).max() <= 6


def test_metadata_that_cannot_be_read_say_nothing(tmp_path):
    found = read(tmp_path / "a.png", Image.fromarray(SMOOTH), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff nothing")
    assert np.array_equal(found, SMOOTH)


def hidden_noise(shape):
    """Return RGBA pixels with noise under full transparency in the left half."""
    pixels = np.dstack([SMOOTH, np.full(SIZE, 255, np.uint8)])
    pixels[:, : SIZE[1] // 2] = RNG.integers(0, 256, (SIZE[0], SIZE[1] // 2, 4))
    pixels[:, : SIZE[1] // 2, 3] = 0
    return pixels


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_what_lies_under_transparency_does_not_count(tmp_path, name):
    options = {"lossless": True, "exact": True} if name == "a.webp" else {}
    found = [read(tmp_path / name, Image.fromarray(hidden_noise(SIZE)), **options) for _ in range(2)]
    assert (found[0][:, : SIZE[1] // 2] == 255).all()
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0][:, SIZE[1] // 2 :], SMOOTH[:, SIZE[1] // 2 :])


def test_transparency_of_every_kind_is_on_white(tmp_path):
    half = Image.fromarray(np.full((4, 4, 2), (100, 127), np.uint8), "LA")
    assert (read(tmp_path / "la.png", half, (4, 4)) == 178).all()
    palette = Image.fromarray(np.zeros((4, 4), np.uint8), "P")
    palette.putpalette([10, 20, 30])
    assert (read(tmp_path / "p.png", palette, (4, 4)) == [10, 20, 30]).all()
    assert (read(tmp_path / "t.png", palette, (4, 4), transparency=0) == 255).all()
    assert (read(tmp_path / "g.gif", palette, (4, 4), transparency=0) == 255).all()
    colour = Image.new("RGB", (4, 4), (1, 2, 3))
    assert (read(tmp_path / "rgb.png", colour, (4, 4), transparency=(1, 2, 3)) == 255).all()


def test_grey_black_and_white_palette_and_cmyk(tmp_path):
    grey = SMOOTH[:, :, 0]
    for name in ("a.png", "a.tif", "a.bmp"):
        assert np.array_equal(read(tmp_path / name, Image.fromarray(grey)), np.stack([grey] * 3, -1))
    bits = Image.fromarray(grey > 100)
    assert np.array_equal(read(tmp_path / "bits.png", bits), np.stack([(grey > 100) * np.uint8(255)] * 3, -1))
    found = read(tmp_path / "cmyk.jpg", Image.new("CMYK", (24, 16), (0, 255, 255, 0)), quality=100)
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 3
    assert (read(tmp_path / "cmyk.tif", Image.new("CMYK", (24, 16), (255, 0, 0, 0))) == [0, 255, 255]).all()


def test_levels_of_16_bits_are_scaled(tmp_path):
    deep = Image.fromarray(SMOOTH[:, :, 0].astype(np.uint16) * 256 + 37)
    for name in ("a.png", "a.tif"):
        assert np.array_equal(read(tmp_path / name, deep), np.stack([SMOOTH[:, :, 0]] * 3, -1))
    for levels in (np.full((4, 4), 0.5, np.float32), np.full((4, 4), 7, np.int32)):
        with pytest.raises(InputError, match=r"f\.tif: refused: .* 32 bits.* 8 or 16 bits"):
            read(tmp_path / "f.tif", Image.fromarray(levels))


def write_tiff(path, levels, bits, *, white_is_zero=False, kind=1):
    """Write grey levels, their bits as they come; Pillow writes few of the kinds that it reads."""
    height, width = levels.shape
    text = "".join(f"{level:0{bits}b}" for level in levels.ravel().tolist())
    data = bytes(int(text[n : n + 8], 2) for n in range(0, len(text), 8))
    if bits == 16:
        data = levels.astype("<u2").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1, 278: height}
    tags |= {279: len(data), 339: kind}
    fields = b"".join(struct.pack("<HHII", tag, 4 if tag == 279 else 3, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + fields + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)


@pytest.mark.parametrize(("bits", "white_is_zero"), [(12, False), (16, False), (16, True), (8, True), (8, False)])
def test_levels_of_a_tiff_go_from_black_to_white(tmp_path, bits, white_is_zero):
    grey = SMOOTH[:, :, 0].astype(int)
    levels = grey << (bits - 8) | 5
    stored = 2**bits - 1 - levels if white_is_zero else levels
    write_tiff(tmp_path / "a.tif", stored, bits, white_is_zero=white_is_zero)
    assert np.array_equal(read_picture(tmp_path / "a.tif", SIZE)[:, :, 0], levels >> (bits - 8))


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_levels_are_refused(tmp_path, bits):
    write_tiff(tmp_path / "a.tif", SMOOTH[:, :, 0].astype(int), bits, kind=2)
    with pytest.raises(InputError, match=r"a\.tif: refused: .* signed"):
        read_picture(tmp_path / "a.tif", SIZE)


def write_png(path, levels, kind, clear=None):
    """Write levels of 16 bits, (H, W, channels) big-endian; Pillow writes no such PNG."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], 16, kind, 0, 0, 0)),
        *([] if clear is None else [(b"tRNS", struct.pack(">H", clear))]),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in levels))),
        (b"IEND", b""),
    ]
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_transparency_of_16_bits_is_on_white(tmp_path):
    levels = np.full((*SIZE, 1), 0x1234, ">u2")
    levels[0], levels[1] = 0x1235, 0x4321
    write_png(tmp_path / "a.png", levels, 0, clear=0x1234)
    found = read_picture(tmp_path / "a.png", SIZE)
    assert (found[0] == 0x12).all()
    assert (found[1] == 0x43).all()
    assert (found[2:] == 255).all()


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_are_scaled(tmp_path, kind, channels):
    levels = RNG.integers(0, 65536, (*SIZE, channels)).astype(">u2")
    if channels != 3:
        levels[..., -1] = 65535
    write_png(tmp_path / "a.png", levels, kind)
    colours = levels[..., :3] if channels > 2 else levels[..., :1]
    assert np.array_equal(read_picture(tmp_path / "a.png", SIZE), np.broadcast_to(colours >> 8, (*SIZE, 3)))


def test_the_middle_or_all_of_a_picture(tmp_path):
    """A wide picture, its thirds red, green, blue."""
    wide = np.zeros((30, 90, 3), np.uint8)
    for third in range(3):
        wide[:, 30 * third : 30 * third + 30, third] = 255
    picture = Image.fromarray(wide)
    stretched = read(tmp_path / "a.png", picture, (12, 12))
    assert stretched[6, 1].tolist() == [255, 0, 0]
    assert stretched[6, 10].tolist() == [0, 0, 255]
    middle = read(tmp_path / "a.png", picture, (12, 12), crop=1)
    assert (middle[:, 1:-1] == [0, 255, 0]).all()
    small = read(tmp_path / "a.png", picture, (30, 30), crop=0.5)
    assert (small == [0, 255, 0]).all()
    tall = read(tmp_path / "a.png", picture.transpose(Image.Transpose.ROTATE_90), (12, 12), crop=1)
    assert (tall[1:-1] == [0, 255, 0]).all()
    assert np.array_equal(read(tmp_path / "a.png", picture, (30, 90), crop=1), wide)


def test_large_pictures_are_averaged_not_sampled(tmp_path):
    """Every second pixel black, every other white: without antialias a grid of either comes out."""
    board = np.indices((256, 256)).sum(0) % 2 * 255
    found = read(tmp_path / "a.png", Image.fromarray(board.astype(np.uint8)), (16, 16))
    assert np.abs(found.astype(int) - 127).max() <= 2


def test_the_way_that_pixels_are_made_is_part_of_the_fingerprint(tmp_path):
    Image.fromarray(SMOOTH).save(tmp_path / "a.png")
    ways = [open_images(tmp_path, image_size=SIZE, crop=crop) for crop in (None, 1.0, 0.5)]
    assert np.array_equal(ways[0].images[:], ways[1].images[:])
    assert len({way.fingerprint() for way in ways}) == 3
    for crop in (0, 1.5, "much", float("nan")):
        with pytest.raises(InputError, match="crop: expected a number from"):
            open_images(tmp_path, crop=crop)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"<html>404</html>", "truncated or foreign"),
        (b"\xff\xd8\xff\xe0 no jpeg", "truncated or foreign"),
    ],
)
def test_files_that_are_no_pictures(tmp_path, content, said):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.jpg: expected a picture.* {said}"):
        read_picture(tmp_path / "a.jpg", SIZE)


def test_a_broken_tiff_is_one_error_and_no_chatter(tmp_path, capfd):
    picture = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8))
    picture.save(tmp_path / "a.tif", compression="tiff_lzw")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[1000:6000] = bytes(5000)
    (tmp_path / "a.tif").write_bytes(content)
    images = open_images(tmp_path / "a.tif", image_size=SIZE)
    with pytest.raises(InputError, match="1 of 1 pictures cannot be read"):
        images.fingerprint()
    assert capfd.readouterr() == ("", "")


def test_a_cut_jpeg_is_not_half_read(tmp_path):
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="truncated"):
        read_picture(tmp_path / "a.jpg", SIZE)
