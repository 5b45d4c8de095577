"""Pickles read in a process under limits: its limits, its answers, its end; and plain data in whatever pickle."""

import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from damage import outcome, refused

from fastuq.datasets import open_images, open_test_images, unpickle
from fastuq.datasets.classes import CIFAR10_CLASSES, CIFAR100_CLASSES
from fastuq.datasets.pickles import read_pickle, read_pickles
from fastuq.errors import InputError
from fastuq.training.torch_weights import read_state_dict

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 3072), np.uint8)
LABELS = [3, 5, 9, 0, 1, 2]


# ---------------------------------------------------------------- work and memory


def encoded_many_times(count):
    """One text of a million characters in the memo, and as many calls that make bytes of it."""
    text = b"X" + struct.pack("<I", 10**6) + b"a" * 10**6
    call = b"h\x01h\x00h\x02\x86R"
    names = b"q\x00X\x06\x00\x00\x00latin1q\x02c_codecs\nencode\nq\x01]("
    return b"\x80\x02}U\x04data" + text + names + call * count + b"es."


def colliding_keys(count):
    """Whole numbers that all have the hash 0."""
    long = [(number * (2**61 - 1)).to_bytes(11, "little") for number in range(1, count + 1)]
    return b"\x80\x02}(" + b"".join(b"\x8a\x0b" + data + b"N" for data in long) + b"u."


def laughs(depth):
    """A list of ten lists, each of the ten before, and so on."""
    return b"\x80\x02}U\x04data]q\x00" + (b"0](" + b"h\x00" * 10 + b"eq\x00") * depth + b"s."


BOMBS = pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encoded_many_times(500), "more memory"),
        (colliding_keys(40_000), "more memory or time"),
        (colliding_keys(3), "keys other than text"),
        (b"\x80\x02}U\x04data](" + b"]" * 3_000_000 + b"es.", "more memory"),
        (b"\x80\x02}U\x04data]" + b"(" * 100_000 + b"l" * 100_000 + b"as.", "RecursionError"),
        (laughs(40), "more values than bytes"),
        (b"\x80\x02}U\x04datac__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85Rs.", "TypeError"),
    ],
)


@BOMBS
@pytest.mark.parametrize("read", [read_pickle, read_state_dict])
def test_work_and_memory_are_bounded_by_the_size_of_the_file(tmp_path, content, reason, read):
    (tmp_path / "bomb").write_bytes(content)
    found = outcome(lambda: read(tmp_path / "bomb"))
    assert refused(found)
    assert reason in str(found) or read is read_state_dict  # which reads on to what is not there


def test_data_used_many_times_are_held_once(tmp_path):
    data = [bytes(10**6)] * 100
    (tmp_path / "a").write_bytes(pickle.dumps({"data": data}, 4))
    assert outcome(lambda: read_pickle(tmp_path / "a"))["data"] == data


LIMITED = """
import json, resource, signal, sys
sys.path.insert(0, {folder!r})
import unpickle
unpickle.limit({size})
try:
    bytearray({wanted})
    memory = "given"
except MemoryError:
    memory = "refused"
try:
    with open({file!r}, "w") as made:
        made.write("x")
    file = "written"
except OSError:
    file = "refused"
print(json.dumps([memory, file, resource.getrlimit(resource.RLIMIT_CPU)[0], resource.getrlimit(resource.RLIMIT_CORE)[0],
    signal.alarm(0)]))
"""


@pytest.mark.parametrize(
    ("size", "wanted", "memory", "seconds"),
    [(1000, 64 * 2**20, "refused", 2), (1000, 32 * 2**20, "given", 2), (10**8, 10**9, "refused", 7)],
)
def test_the_process_has_its_limits(tmp_path, size, wanted, memory, seconds):
    folder = os.path.dirname(unpickle.__file__)
    code = LIMITED.format(folder=folder, size=size, wanted=wanted, file=str(tmp_path / "made"))
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [memory, "refused", seconds, 0, 30 * seconds]


# ---------------------------------------------------------------- the process and what it answers


def answering(monkeypatch, tmp_path, code):
    """Let the code stand for the process that unpickles."""
    ready = f"print({unpickle.READY.decode()!r}, end='', flush=True)\n"
    (tmp_path / "other.py").write_text("import os, signal, sys, time\n" + ready + code)
    monkeypatch.setattr(unpickle, "__file__", str(tmp_path / "other.py"))
    (tmp_path / "plain").write_bytes(pickle.dumps({"a": 1}))
    return tmp_path / "plain"


@pytest.mark.parametrize(
    "code",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "signal.alarm(1); time.sleep(60)",
        "raise SystemExit(1)",
        "sys.stdout.write('{')",
        "while True: sys.stdout.write('[' * 10**6)",
        *(
            f"print({line!r})"
            for line in (
                "",
                "[]",
                "{}",
                "1",
                "[" * 100_000,
                '{"value": ["bytes", 0], "blobs": [-1]}',
                '{"value": ["bytes", 0], "blobs": [5]}',
                '{"value": ["bytes", 0], "blobs": [1e999]}',
                '{"value": ["bytes", 0], "blobs": [9999999999999999999999]}',
                '{"value": ["bytes", 0], "blobs": []}',
                '{"value": ["dict", 1], "blobs": []}',
                '{"value": ["dict", ["list"], 1], "blobs": []}',
                '{"value": ["array", "<f8", ["tuple", 1000000000000], false, ["bytes", 0]], "blobs": [0]}',
                '{"value": ["array", "O", ["tuple"], false, ["bytes", 0]], "blobs": [0]}',
                '{"value": ["array", 1, 2, 3, 4, 5, 6], "blobs": [0]}',
                '{"value": [], "blobs": []}',
                '{"value": 5, "blobs": []}',
                '{"value": "", "blobs": []}',
            )
        ),
    ],
)
def test_a_process_that_ends_or_lies_is_refused_in_one_line(monkeypatch, tmp_path, code):
    path = answering(monkeypatch, tmp_path, code)
    found = outcome(lambda: read_pickle(path))
    assert refused(found)
    for part in (str(path), "expected", "found", "fastuq download"):
        assert part in str(found)


def test_without_a_process_one_line(monkeypatch, tmp_path):
    (tmp_path / "plain").write_bytes(pickle.dumps({"a": 1}))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="process of its own"):
        read_pickle(tmp_path / "plain")


@pytest.mark.parametrize("name", ["echo", "false", "yes"])
def test_an_executable_that_is_no_python_is_said(monkeypatch, tmp_path, name):
    (tmp_path / "plain").write_bytes(pickle.dumps({"a": 1}))
    monkeypatch.setattr(sys, "executable", shutil.which(name))
    with pytest.raises(InputError, match=f"expected .*{name} to read it as Python.*, found .*that this is Python"):
        read_pickle(tmp_path / "plain")


def test_a_frozen_program_is_not_started_again(monkeypatch, tmp_path):
    (tmp_path / "plain").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "program"))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert read_pickle(tmp_path / "plain") == {"a": 1}


def test_without_proc_it_is_said(monkeypatch, tmp_path):
    code = Path(unpickle.__file__).read_text().replace("/proc/", "/nowhere/")
    (tmp_path / "other.py").write_text(code)
    (tmp_path / "plain").write_bytes(pickle.dumps({"a": 1}))
    monkeypatch.setattr(unpickle, "__file__", str(tmp_path / "other.py"))
    with pytest.raises(InputError, match=r"plain: .* found no limits \(.*/nowhere/self/statm.*/proc is there"):
        read_pickle(tmp_path / "plain")


AWAY = """
import os, resource, signal, sys, threading
from fastuq.datasets.pickles import read_pickle
{before}
found = []
def work():
    found.append(read_pickle({path!r}))
thread = threading.Thread(target=work)
thread.start()
thread.join()
os._exit(0 if found == [{{"a": 1}}] else 1)
"""


@pytest.mark.parametrize(
    "before",
    [
        "os.close(0); os.close(1); os.close(2)",
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "resource.setrlimit(resource.RLIMIT_CPU, (60, 60)); resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))",
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
        "os.environ.update(PYTHONHASHSEED='x', PYTHONHOME='/nowhere', PYTHONPATH='/nowhere')",
    ],
)
def test_wherever_the_caller_stands(tmp_path, before):
    (tmp_path / "plain").write_bytes(pickle.dumps({"a": 1}))
    code = AWAY.format(before=before, path=str(tmp_path / "plain"))
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0


def test_many_threads_at_once(tmp_path):
    (tmp_path / "plain").write_bytes(pickle.dumps({"a": 1}))
    found = []
    threads = [threading.Thread(target=lambda: found.append(read_pickle(tmp_path / "plain"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"a": 1}] * 8


def test_several_pickles_and_what_follows(tmp_path):
    (tmp_path / "a").write_bytes(pickle.dumps([1], 2) + pickle.dumps({b"x": (None, 1.5)}, 4) + b"rest")
    assert read_pickles(tmp_path / "a", 2) == [[1], {b"x": (None, 1.5)}, b"rest"]


# ---------------------------------------------------------------- CIFAR in whatever pickle


def write(path, content, protocol=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        tuple(LABELS),
        np.array(LABELS),
        np.array(LABELS, ">u2"),
        np.array(LABELS, np.uint8)[:, None],
        [np.int64(label) for label in LABELS],
        [np.uint8(label) for label in LABELS],
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [dict, OrderedDict])
@pytest.mark.parametrize("key", [str, str.encode])
def test_cifar100_pickled_again(root, protocol, labels, kind, key):
    files = np.array([b"a.png", b"b.png"])
    content = kind([(key("data"), PIXELS), (key("fine_labels"), labels), (key("filenames"), files)])
    write(root / "cifar-100-python" / "test", content, protocol)
    write(root / "cifar-100-python" / "meta", {key("fine_label_names"): np.array(CIFAR100_CLASSES)}, protocol)
    images = open_images("cifar100")
    assert np.array_equal(images.images, PIXELS.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert images.labels.tolist() == LABELS
    assert images.class_names == CIFAR100_CLASSES


@pytest.mark.parametrize(
    "labels",
    [
        [1.0] * 6,
        [True] * 6,
        [1] * 5 + [[1]],
        [1] * 5 + [2**70],
        [-1] * 6,
        np.array([100] * 6),
        np.array(LABELS, np.float32),
        np.zeros((6, 2), int),
        np.int64(3),
        3,
        {"a": 1},
        None,
    ],
    ids=str,
)
def test_labels_that_are_none_are_refused(root, labels):
    write(root / "cifar-100-python" / "test", {"data": PIXELS, "fine_labels": labels})
    with pytest.raises(InputError, match=r"expected .*class numbers"):
        open_images("cifar100")


def write_cifar10(root, names=CIFAR10_CLASSES):
    folder = root / "cifar-10-batches-py"
    for number, name in enumerate(["test_batch", *(f"data_batch_{n}" for n in range(1, 6))]):
        labels = [(number + label) % 10 for label in LABELS]
        write(folder / name, {b"data": PIXELS + np.uint8(number), b"labels": labels, b"batch_label": b"x"})
    write(folder / "batches.meta", {b"label_names": [name.encode() for name in names], b"num_vis": 3072})
    return folder


def test_cifar10_is_opened_by_name(root):
    write_cifar10(root)
    for name in ("cifar10", "cifar10/test"):
        images = open_images(name)
        assert (len(images), images.name, images.class_names) == (6, "cifar10/test", CIFAR10_CLASSES)
        assert images.labels.tolist() == LABELS
    training = open_images("cifar10/train")
    assert (len(training), training.name) == (30, "cifar10/train")
    assert open_test_images(None, training).name == "cifar10/test"
    assert training.labels[6:12].tolist() == [(2 + label) % 10 for label in LABELS]
    assert np.array_equal(training.images[6:12], images.images + np.uint8(2))
    (root / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(InputError, match=r"data_batch_4.*FASTUQ_DATA"):
        open_images("cifar10/train")


def test_paths_of_cifar_are_opened(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    folder = write_cifar10(elsewhere)
    write(elsewhere / "cifar-100-python" / "test", {"data": PIXELS, "fine_labels": [99, *LABELS[1:]]})
    write(elsewhere / "cifar-100-python" / "train", {"data": PIXELS[:2], "fine_labels": LABELS[:2]})
    for spec, count, classes in [
        (folder, 6, CIFAR10_CLASSES),
        (str(folder), 6, CIFAR10_CLASSES),
        (folder / "data_batch_3", 6, CIFAR10_CLASSES),
        (elsewhere / "cifar-100-python", 6, CIFAR100_CLASSES),
        (f"{elsewhere}/cifar-100-python/test", 6, CIFAR100_CLASSES),
        (elsewhere / "cifar-100-python" / "train", 2, CIFAR100_CLASSES),
    ]:
        images = open_images(spec)
        assert (len(images), images.class_names) == (count, classes)


def test_a_damaged_path_of_cifar_is_refused(root):
    folder = write_cifar10(root)
    (folder / "test_batch").write_bytes(b"\x80\x02}")
    with pytest.raises(InputError, match=r"test_batch: expected .* download cifar10"):
        open_images(folder)


def test_sigxcpu_is_what_ends_endless_work():
    """The limit on processor time is one that the kernel keeps, whatever the unpickler does."""
    code = f"import sys; sys.path.insert(0, {os.path.dirname(unpickle.__file__)!r}); import unpickle\n"
    code += "unpickle.SECONDS = 1; unpickle.limit(0)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], check=False, timeout=120)
    assert done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
