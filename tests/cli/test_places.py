"""What a command reads beside the file it is given, and where it may put nothing at all."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import caches
import numpy as np
import pytest
from places import TINY

from fastuq import cli
from fastuq.errors import InputError
from fastuq.model.folder import check_replaceable
from fastuq.util.outputs import check_outputs


@pytest.fixture
def here(workplace):
    shutil.copytree(TINY, "model")
    np.save("in.npy", caches.images(5).images)
    return workplace


@pytest.mark.parametrize(("file", "names"), [("test", "meta"), ("data_batch_1", "batches.meta")])
@pytest.mark.parametrize("way", ["as it is", "output by link", "input by link", "hard link"])
def test_the_names_beside_a_cifar_file_are_an_input(here, capsys, file, names, way):
    Path("set").mkdir()
    for name in (file, names, "train"):
        Path("set", name).write_text("content of " + name)
    Path("link").symlink_to("set")
    Path("alias").symlink_to(f"set/{names}")
    os.link(f"set/{names}", "twin")
    image = f"link/{file}" if way == "input by link" else f"set/{file}"
    output = {"output by link": "alias", "hard link": "twin"}.get(way, f"set/{names}")
    assert cli.main(["score", image, "--model", "model", "--csv", output]) == 2
    assert "found an input" in capsys.readouterr().err
    assert Path("set", names).read_text() == "content of " + names
    with pytest.raises(InputError, match="found an input"):
        check_outputs({"--csv": "set/train"}, [image])
    check_outputs({"--csv": "set/table.csv"}, [image])
    Path("notes").write_text("another file, beside images that are none of CIFAR")
    Path("meta").write_text("no names")
    check_outputs({"--csv": "notes"}, ["in.npy"])


INTO = [
    ["score", "in.npy", "--csv", "model/new.csv"],
    ["score", "in.npy", "--moments", "alias/new.h5"],
    ["score", "in.npy", "--json", "model/new/s.json"],
    ["report", "in.npy", "--output", "model/page.html"],
    ["info", "c.h5", "--json", "model/new.json"],
    ["cache-features", "in.npy", "--output", "model/f.h5"],
    ["cache", "info", "c.h5", "--json", "model/new.json"],
    ["bank", "c.h5", "--fit", "d.h5", "--output", "model/b.h5"],
    ["fit-reference", "c.h5", "--output", "model/r.h5"],
    ["benchmark-scores", "--cache", "c.h5", "--output", "model/scores"],
    ["demo", "--json", "model/new.json"],
    ["bench", "--models", "model"],
    ["bench", "--models", "model/new"],
    ["score-cifar100c", "--caches", "model"],
    ["calibrate", "--output", "model/p.json"],
    ["score-cifar100c", "--details", "model/details"],
    ["reproduce", "--output", "model"],
    ["reproduce", "--caches", "alias/new"],
    ["train", "--output", "o", "--work", "model"],
    ["train", "--output", "model/o", "--work", "w"],
    ["import", "net.keras", "--output", "model/o"],
    ["quantize", "net.keras", "--output", "model/o"],
    ["import", "net.tflite", "--output", "model/o"],
    ["import-features", "in.npy", "--model", "model", "--output", "model/f.h5"],
    ["import-features", "in.npy", "--head", "h.npz", "--model", "model/o"],
    ["corrupt", "--output", "model"],
    ["corrupt", "--contact-sheet", "model/sheet.png"],
    ["download", "cifar100", "--output", "model"],
]


@pytest.mark.parametrize("argv", INTO, ids=" ".join)
def test_nothing_new_is_put_into_a_model_folder(here, capsys, argv):
    Path("alias").symlink_to("model")
    assert cli.main(argv) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "expected a place outside of models" in said.err
    check_replaceable(Path("model"))


def test_every_command_is_tried():
    assert {argv[0] for argv in INTO} == set(cli.commands())


def test_a_model_is_replaced_and_its_folder_may_lie_among_others(here):
    check_outputs({"--json": "beside.json"}, [], ["model.work"], "model")
    check_outputs({"--json": "model.json"}, [], ["out"], "other")
    Path("model.json").write_text("{}")
    check_outputs({"--json": "new.json"})  # beside a file of that name, which makes no model of the folder


@pytest.mark.parametrize("name", ["README.md", "readme.md", "ReadMe.md", "FASTUQ-corrupt.json", "Run.json"])
def test_what_is_no_report_is_none_in_letters_of_any_size(here, name):
    Path("data").mkdir()
    Path("data", name).write_text("of a data set")
    with pytest.raises(InputError, match="found an input"):
        check_outputs({"--json": f"data/{name}"}, ["data"])
    with pytest.raises(InputError, match="this command makes"):
        check_outputs({"--json": f"o/{name}"}, [], ["o"])


def run(command, closed):
    start = ["bash", "-c", f'exec "$@" {closed}', "bash", sys.executable, "-m", "fastuq"]
    return subprocess.run([*start, *command], capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.parametrize(
    ("path", "closed", "stream"),
    [
        ("/dev/fd/1", ">&-", "output"),
        ("/proc/self/fd/1", ">&-", "output"),
        ("/proc/thread-self/fd/1", ">&-", "output"),
        ("link", ">&-", "output"),
        ("/dev/stderr", "2>&-", "error"),
        ("/dev/fd/2", "2>&-", "error"),
        ("/dev/fd/0", "<&-", "input"),
    ],
)
def test_a_closed_stream_under_any_name_is_no_output(here, path, closed, stream):
    Path("link").symlink_to("/dev/fd/1")
    done = run(["cache-features", "in.npy", "--model", "model", "--output", "f.h5", "--json", path], closed)
    assert done.returncode == 2
    assert (f"standard {stream} is closed" in done.stderr) == (stream != "error")
    assert not Path("f.h5").exists()


@pytest.mark.parametrize("path", ["/dev/null", "s.json"])
def test_other_outputs_stay_where_a_stream_is_closed(here, path):
    done = run(["cache-features", "in.npy", "--model", "model", "--output", "f.h5", "--json", path], ">&- 2>&-")
    assert done.returncode == 0


@pytest.mark.parametrize("path", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_under_any_name_has_the_report_alone(here, path):
    for redirected in ("", "| cat", "> taken"):
        done = run(["cache-features", "in.npy", "--model", "model", "--output", "f.h5", "--json", path], redirected)
        assert (done.returncode, done.stderr) == (0, "")
        assert "output" in json.loads(Path("taken").read_text() if redirected == "> taken" else done.stdout)


def test_names_in_errors_keep_their_line_feeds_and_texts_of_several_lines_join(here, capsys):
    assert cli.main(["cache", "info", "bad.h5: every checksum matches\nevil.h5"]) == 2
    assert "bad.h5: every checksum matches\\nevil.h5: no such file" in capsys.readouterr().err
    assert str(InputError("expected  one   thing")) == "expected one thing"
    assert str(InputError(InputError("a\nb"))) == "a\\nb"


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_pipe_is_not_waited_for(here, kind):
    os.mkfifo(f"p.{kind}")
    done = run(["score", f"p.{kind}", "--model", "model"], "")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no regular file" in done.stderr


def test_the_memory_of_many_threads_is_counted(here):
    limited = ["bash", "-c", 'ulimit -v 1966080; exec "$@"', "bash", sys.executable, "-c"]
    check = "from fastuq.util import process\nprocess.processors = lambda: 2\nprocess.check_limits({})"
    done = [subprocess.run([*limited, check.format(n)], capture_output=True, text=True) for n in (2, 200)]
    assert done[0].returncode == 0, done[0].stderr
    assert "InputError: memory: expected an address space of" in done[1].stderr
    assert "200 threads" in done[1].stderr
