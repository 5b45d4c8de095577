"""Seeded fuzzing of every parser: edited files are refused in one line or read, in bounded memory; nothing else.

The quick versions run always, the long ones with ``pytest -m torture``; `test_hostile_images.py` has the same parsers
under hypothesis.
"""

import io
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from damage import edited, generator, outcome, refused, unpickled_here
from PIL import Image
from places import ROOT, TINY
from state_dicts import write_state_dict
from tflite_files import WHOLE
from tflite_files import content as content_of

from fastuq.cache import Features
from fastuq.datasets import open_images
from fastuq.datasets.embeddings import open_embeddings
from fastuq.model.tflite_dense import dense_layers
from fastuq.model.tflite_graph import Graph
from fastuq.model.tflite_heads import heads_of
from fastuq.model.tflite_schema import read_file
from fastuq.training.torch_weights import read_state_dict

QUICK, LONG = 150, 10_000


def cifar_pickles():
    content = {
        b"data": np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072),
        b"fine_labels": [3, 5],
        b"filenames": [b"a.png", b"b.png"],
        b"batch_label": b"testing batch 1 of 1",
    }
    for protocol in (2, 3, 4, 5):
        whole = pickle.dumps(content, protocol)
        yield whole
        yield whole[:400] + whole[-400:]  # what is not pixels, which edits would mostly hit


def npy_files():
    for array in (np.zeros((2, 4, 5, 3), np.uint8), np.asfortranarray(np.ones((3, 4, 5, 3), np.uint8)), np.arange(9)):
        out = io.BytesIO()
        np.save(out, array)
        yield out.getvalue()


def npz_files():
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        save(out, images=np.zeros((2, 4, 5, 3), np.uint8), labels=np.array([0, 1]), class_names=np.array(["a", "b"]))
        yield out.getvalue()


def pictures():
    pixels = generator(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    for kind, mode, options in [
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "I;16", {}),
        ("PNG", "RGBA", {}),
        ("JPEG", "RGB", {}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("BMP", "RGB", {}),
        ("GIF", "P", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "CMYK", {}),
        ("TIFF", "I;16", {"compression": "tiff_deflate"}),
    ]:
        out = io.BytesIO()
        made = Image.fromarray(pixels[..., 0].astype(np.uint16)) if mode == "I;16" else Image.fromarray(pixels)
        (made if mode == "I;16" else made.convert(mode)).save(out, kind, **options)
        yield out.getvalue()


@pytest.fixture
def parsers(tmp_path, monkeypatch):
    """Per parser: valid files, where an edited one goes, and how it is read to the end."""
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    for name in ("cifar-100-python", "pictures"):
        (tmp_path / name).mkdir()
    write_state_dict(tmp_path / "w.pth", {"a": np.ones((5, 4), np.float32), "b": np.ones(3, np.float32)}, monkeypatch)
    return {
        "pickle": (list(cifar_pickles()), tmp_path / "cifar-100-python" / "test", lambda path: read("cifar100")),
        "npy": (list(npy_files()), tmp_path / "a.npy", read),
        "npz": (list(npz_files()), tmp_path / "a.npz", read),
        "pictures": (list(pictures()), tmp_path / "pictures" / "a.png", lambda path: read(path.parent)),
        "tflite": ([content_of(name) for name in WHOLE], tmp_path / "a.tflite", cut_up),
        "embeddings": (list(embeddings()), tmp_path / "e.npz", features_of),
        "state_dict": ([(tmp_path / "w.pth").read_bytes()], tmp_path / "w.pth", read_state_dict),
    }


def read(spec):
    images = open_images(spec)
    assert images.fingerprint()
    return images


def embeddings():
    for dtype in (np.float16, np.float32, np.int8):
        out = io.BytesIO()
        np.savez(out, features=np.arange(60).reshape(20, 3).astype(dtype), labels=np.arange(20))
        yield out.getvalue()


def features_of(path):
    values, labels = open_embeddings(path)
    features = Features.from_arrays(values, labels)
    assert features.fingerprint()
    return features.read(0, len(features))


def cut_up(path):
    """Read a TFLite file as an import does, but run none of it: LiteRT trusts what it is given."""
    graph = Graph(read_file(path), path.name)
    assert graph.image() >= 0
    layers = dense_layers(graph)
    heads_of(layers, [0.1] * len(layers))
    return graph.cut(layers[0].source), graph.cut(graph.codes_of(graph.output))


def fuzz(parser, seed, count):
    valid, path, use = parser
    rng, refusals = generator(seed), 0
    for content in valid:
        path.write_bytes(content)
        outcome(lambda: use(path))
    for number in range(count):
        path.write_bytes(edited(rng, valid[number % len(valid)]))
        refusals += refused(outcome(lambda: use(path)))
    print(f"{path.name}: {count} edited files, {refusals} refused in one line, the others read, 0 other exceptions")
    assert count / 4 < refusals < count


PARSERS = ("pickle", "npy", "npz", "pictures", "tflite", "embeddings", "state_dict")


@pytest.mark.parametrize("name", PARSERS)
def test_edited_files(parsers, name):
    with unpickled_here():
        fuzz(parsers[name], 5, QUICK)


@pytest.mark.torture
@pytest.mark.parametrize("name", PARSERS)
def test_many_edited_files(parsers, name):
    with unpickled_here():
        fuzz(parsers[name], 6, LONG)


def fuzz_process(parser, seed, count):
    """Check that the process under limits answers as its function does in this one."""
    valid, path, use = parser
    rng = generator(seed)
    for number in range(count):
        path.write_bytes(edited(rng, valid[number % len(valid)]))
        found = [outcome(lambda: use(path))]
        with unpickled_here():
            found.append(outcome(lambda: use(path)))
        here, there = (content(found) for found in found)
        assert here == there


def content(found):
    if refused(found):
        return str(found)
    return found.fingerprint() if hasattr(found, "fingerprint") else {name: a.tobytes() for name, a in found.items()}


@pytest.mark.parametrize("name", ["pickle", "state_dict"])
def test_edited_files_read_in_a_process_under_limits(parsers, name):
    fuzz_process(parsers[name], 9, 24)


@pytest.mark.torture
@pytest.mark.parametrize("name", ["pickle", "state_dict"])
def test_many_edited_files_read_in_a_process_under_limits(parsers, name):
    fuzz_process(parsers[name], 10, 300)


NETWORKS = """
import numpy as np
from damage import edited, generator
from fastuq.model.backbone import Backbone
from fastuq.errors import ModelError
whole, images = open({file!r}, "rb").read(), np.zeros((1, 32, 32, 3), np.uint8)
for seed in range({first}, {last}):
    try:
        backbone = Backbone(edited(generator(seed), whole), threads=1, xnnpack=seed % 2 == 0)
        if backbone.input_shape == (32, 32, 3):
            backbone(images)
        outcome = "read"
    except ModelError as error:
        assert "\\n" not in str(error)
        outcome = "refused"
    print(seed, outcome, flush=True)
"""


def fuzz_networks(file, first, last):
    """Give LiteRT edited networks in processes of their own; return outcomes, those that end a process among them."""
    counts = {"refused": 0, "read": 0, "process ended": 0}
    while first < last:
        code = NETWORKS.format(file=str(file), first=first, last=last)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
        for line in done.stdout.splitlines():
            number, word = line.split()
            counts[word] += 1
            first = int(number) + 1
        assert "Traceback" not in done.stderr, done.stderr[-2000:]
        if first < last:
            counts["process ended"] += 1
            first += 1
    print(f"{file.name}: edited and given to LiteRT itself: {counts}")
    return counts


def test_edited_networks_given_to_the_backbone():
    """LiteRT is not made for hostile files, hence the SHA-256 of a model's parts; what it says itself is one line."""
    assert fuzz_networks(TINY / "backbone.tflite", 0, 40)["refused"]


@pytest.mark.torture
@pytest.mark.parametrize("name", ["backbone.tflite", "full.tflite"])
def test_many_edited_networks_given_to_the_backbone(name):
    assert fuzz_networks(TINY / name, 0, 2000)["refused"]


# ---------------------------------------------------------------- command line

WORDS = ["", "-1", "0", "1", "nan", "inf", "1e999", "9" * 40, "0x1f", "½", "../..", "-", "--", "\udcff", "a\nb", "None"]
OPTIONS = {
    "score": [
        *("--num-iter", "--conf-factor", "--threshold", "--interval", "--mixed", "--masks", "--precision", "--seed"),
        *("--threads", "--model", "--cache"),
    ],
    "demo": ["--num-iter", "--conf-factor", "--threshold", "--seed", "--model"],
    "cache-features": ["--threads", "--model", "--batch-size", "--shard-size"],
    "corrupt": ["--corruptions", "--severities", "--seed", "--jobs", "--images"],
    "download": ["--url"],
}


def fuzz_options(workplace, capsys, seed, count):
    from fastuq import cli

    (workplace / "file").touch()
    sys.stderr.reconfigure(errors="backslashreplace")  # as Python's own, which capsys stands in for
    rng, statuses = generator(seed), {0: 0, 2: 0}
    for _ in range(count):
        command = list(OPTIONS)[rng.integers(0, len(OPTIONS))]
        argv = [command, "cifar100"] if command == "download" else [command]
        for option in rng.choice(OPTIONS[command], 2):
            argv += [str(option), WORDS[rng.integers(0, len(WORDS))]]
        argv += ["--model", str(TINY)] if "--model" not in argv and "--model" in OPTIONS[command] else []
        if command == "download":
            argv += ["--output", "file/below"]
        try:
            status = cli.main(argv)
        except SystemExit as ended:  # argparse's own refusals
            status = ended.code
        captured = capsys.readouterr()
        assert status in statuses, argv
        assert "Traceback" not in captured.err, argv
        if status == 2:
            assert captured.err.startswith("fastuq: "), argv
            assert captured.err.count("\n") == 1, argv
        statuses[status] += 1
    print(f"command line: {count} calls with odd values, exit statuses {statuses}, 0 tracebacks")
    return statuses


def test_odd_values_on_the_command_line(workplace, capsys):
    assert fuzz_options(workplace, capsys, 7, 60)[2]


@pytest.mark.torture
def test_many_odd_values_on_the_command_line(workplace, capsys):
    assert fuzz_options(workplace, capsys, 8, 3000)[2]


def test_what_an_error_quotes_is_one_line(tmp_path):
    """Names of members, classes and calls come from the file that is refused."""
    names = ["a\nb", "\x1b[2J", "x" * 60_000]
    np.savez(tmp_path / "a.npz", **dict.fromkeys(names, np.zeros(3)))
    found = outcome(lambda: open_images(tmp_path / "a.npz"))
    assert refused(found)
    assert str(found).isprintable()


def test_names_that_no_terminal_can_show(workplace, capsys):
    """A file name need not be UTF-8; what is printed of it is."""
    from fastuq import cli

    shutil.copy(ROOT / "data" / "images" / "cifar100_first20.npz", workplace / "\udcff\x1b[2J.npz")
    assert cli.main(["score", "\udcff\x1b[2J.npz", "--model", str(TINY), "--json", "s.json", "--csv", "t.csv"]) == 0
    assert "\x1b" not in capsys.readouterr().out
