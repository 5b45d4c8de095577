"""Files of images: a flipped bit or a cut is refused where something says what the file was, and a cut always."""

import io
import json
import pickle
import subprocess

import numpy as np
import pytest
from damage import drawn_bits, flipped, generator, outcome, refused, unpickled_here
from PIL import Image

from fastuq.datasets import checksums, open_images
from fastuq.datasets.checksums import RECORD, SUMS, recorded_md5
from fastuq.datasets.classes import CIFAR100_CLASSES
from fastuq.errors import InputError

COUNT = 12


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data folder with small files in the published layouts, and no record of them."""
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    rng = generator(0)
    pixels, labels = rng.integers(0, 256, (COUNT, 3072)).astype(np.uint8), rng.integers(0, 100, COUNT)
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    content = {b"data": pixels, b"fine_labels": labels.tolist(), b"filenames": [b"a.png"] * COUNT}
    (folder / "test").write_bytes(pickle.dumps(content, 2))
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": [n.encode() for n in CIFAR100_CLASSES]}, 2))
    folder = tmp_path / "CIFAR-100-C"
    folder.mkdir()
    np.save(folder / "fog.npy", rng.integers(0, 256, (5 * COUNT, 32, 32, 3)).astype(np.uint8))
    np.save(folder / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    return tmp_path


SPECS = {
    "cifar-100-python/test": "cifar100",
    "cifar-100-python/meta": "cifar100",
    "CIFAR-100-C/fog.npy": "cifar100c/fog/3",
    "CIFAR-100-C/labels.npy": "cifar100c/fog/3",
}


def record(file, way):
    """Note the checksum of a file as `md5sum` by hand, `fastuq download` or `fastuq corrupt` do."""
    if way == "md5sum":
        with (file.parent / SUMS).open("w") as sums:
            subprocess.run(["md5sum", file.name], cwd=file.parent, stdout=sums, check=True)
    elif way == "download":
        checksums.write_sums(file.parent, {file.name: checksums.md5_file(file)})
    else:
        (file.parent / RECORD).write_text(json.dumps({"files": {file.name: {"md5": checksums.md5_file(file)}}}))
    assert recorded_md5(file.parent).keys() == {file.name}


def opened(spec):
    """Open images and read all of them; return them with their fingerprint."""
    images = open_images(spec)
    return images, images.fingerprint(), images.class_names


def content_of(images):
    return np.asarray(images.images).tobytes(), images.labels.tolist()


def check_flips_and_cuts(root, name, flips, cuts):
    """Return how many flips were refused; others read the same, or give another fingerprint or other class names."""
    file, spec = root / name, SPECS[name]
    images, *whole = opened(spec)
    content, values = file.read_bytes(), content_of(images)
    rng, counts = generator(1), {"refused": 0, "same": 0, "read otherwise": 0}
    for bit in drawn_bits(rng, content, flips):
        file.write_bytes(flipped(content, bit))
        found = outcome(lambda: opened(spec))
        if refused(found):
            counts["refused"] += 1
            continue
        assert (content_of(found[0]) == values) == (found[1] == whole[0]), "other pixels or labels, same fingerprint"
        counts["same" if [*found[1:]] == whole else "read otherwise"] += 1
    for cut in rng.integers(0, len(content), cuts):
        file.write_bytes(content[: int(cut)])
        assert refused(outcome(lambda: opened(spec))), "a truncated file was read"
    file.write_bytes(content)
    print(f"{name}: {sum(counts.values())} flips {counts}, {cuts} cuts refused")
    return counts


def check_recorded(root, name, way, flips, cuts):
    record(root / name, way)
    counts = check_flips_and_cuts(root, name, flips, cuts)
    assert counts["same"] == counts["read otherwise"] == 0


@pytest.mark.parametrize("way", ["md5sum", "download", "corrupt"])
@pytest.mark.parametrize("name", SPECS)
def test_what_is_recorded_is_checked(root, name, way):
    check_recorded(root, name, way, 25, 10)
    assert opened(SPECS[name])


@pytest.mark.torture
@pytest.mark.parametrize("name", SPECS)
def test_many_flips_of_recorded_files(root, name):
    check_recorded(root, name, "md5sum", 3000, 500)


@pytest.mark.parametrize("name", SPECS)
def test_without_a_record_cuts_are_refused_and_flips_change_the_fingerprint(root, name):
    with unpickled_here():
        assert check_flips_and_cuts(root, name, 40, 20)["read otherwise"]


@pytest.mark.torture
@pytest.mark.parametrize("name", SPECS)
def test_many_flips_without_a_record(root, name):
    with unpickled_here():
        assert check_flips_and_cuts(root, name, 3000, 500)["read otherwise"]


def test_the_refusal_says_expected_found_and_way_out(root):
    file = root / "CIFAR-100-C" / "fog.npy"
    record(file, "md5sum")
    before = checksums.md5_file(file)
    file.write_bytes(flipped(file.read_bytes(), 9999))
    with pytest.raises(InputError, match=rf"fog\.npy: expected MD5 {before} as recorded beside it, found .*download"):
        open_images("cifar100c/fog/1")


def test_a_file_is_hashed_once_for_all_severities(root, monkeypatch):
    read = []
    record(root / "CIFAR-100-C" / "fog.npy", "md5sum")
    md5_file = checksums.md5_file
    monkeypatch.setattr(checksums, "md5_file", lambda path: read.append(path) or md5_file(path))
    for severity in range(1, 6):
        open_images(f"cifar100c/fog/{severity}")
    assert len(read) == 1


@pytest.mark.parametrize("name", [SUMS, RECORD])
def test_a_damaged_record_is_refused(root, name):
    (root / "CIFAR-100-C" / name).write_bytes(b"[" * 100_000 if name == RECORD else b"\xff\xfe\x00")
    assert isinstance(outcome(lambda: open_images("cifar100c/fog/1")), InputError)


def picture(kind):
    ramp = np.add.outer(np.arange(32), np.arange(32))[..., None] * np.array([1, 2, 3])
    out = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).save(out, kind)
    return out.getvalue()


def check_pictures(folder, kind, flips):
    content, counts = picture(kind), {"refused": 0, "same": 0, "read otherwise": 0}
    (folder / "a.png").write_bytes(content)
    images, whole, _ = opened(folder)
    pixels = np.array(images.images)
    for bit in drawn_bits(generator(2), content, flips):
        (folder / "a.png").write_bytes(flipped(content, bit))
        found = outcome(lambda: opened(folder))
        if refused(found):
            counts["refused"] += 1
            continue
        same = np.array_equal(found[0].images, pixels)
        assert same == (found[1] == whole), "other pixels, same fingerprint"
        counts["same" if same else "read otherwise"] += 1
    print(f"{kind}: {sum(counts.values())} flips {counts}")
    return counts


def test_a_flipped_bit_of_a_png_is_refused_or_without_effect(tmp_path):
    assert check_pictures(tmp_path, "PNG", 300)["read otherwise"] == 0


@pytest.mark.torture
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_every_bit_of_a_picture(tmp_path, kind):
    counts = check_pictures(tmp_path, kind, 10**6)
    assert kind == "JPEG" or counts["read otherwise"] == 0
