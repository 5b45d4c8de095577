"""The command line: finds the one command asked for, imports it alone, and turns known errors into one line."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from io import TextIOWrapper
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fastuq import __version__
from fastuq.errors import FastUQError, InputError, one_line, printable
from fastuq.util.process import check_limits, leads_to, open_standard_streams
from fastuq.util.sigterm import sigterm_unwinds

if TYPE_CHECKING:
    from fastuq.datasets import ImageSet
    from fastuq.datasets.shards import Told
    from fastuq.model.model import Model

SUMMARIES = {
    "demo": "score the bundled 20 images and show what is kept and why",
    "score": "which predictions to keep: Monte-Carlo dropout on cached features",
    "report": "the same as a page to look at: pictures, plots, a table; one HTML file",
    "cache-features": "run the backbone once over images and keep its features",
    "info": "what a file or folder that fastuq made is",
    "cache": "inspect, verify or repair a feature cache",
    "bank": "labelled training features become a bank that scores are made with",
    "fit-reference": "statistics of training features, which some scores are held against",
    "calibrate": "a threshold with a promise, proved on held-out labelled images",
    "bench": "measure fastuq beside the naive loop and batched Keras and NumPy heads",
    "benchmark-scores": "every score and rule on clean, corrupted and foreign images",
    "score-cifar100c": "score all corruptions and severities of CIFAR-100-C",
    "reproduce": "the tables and figures of the paper beside ours",
    "train": "fine-tune a network and quantize it",
    "import": "a trained network of yours, or an int8 .tflite, becomes a quantized model",
    "import-features": "embeddings from anywhere become features of a model: .npy, .npz",
    "quantize": "another name of import, for Keras networks",
    "download": "fetch CIFAR-100 or CIFAR-100-C",
    "corrupt": "make CIFAR-100-C from the CIFAR-100 test images",
}
USER_ERROR = 2
CROP = (
    "of a picture take the middle, this fraction of the largest that fits, such as 0.875 (default: stretch all of it)"
)
_NAMED = 10
"""Most files that are named on the screen."""
SHOWN = ("contact_sheet", "csv", "json", "markdown", "moments", "plot", "report")
"""Options whose file may be the screen."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print what is wrong as one line, without the usage above it."""
        self.exit(USER_ERROR, f"fastuq: {one_line(message)}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; None takes those of the process.

    Returns
    -------
    int
        0; 2 for a mistake of the user; 130 after Ctrl-C; 141 when the output has no reader; 143 after SIGTERM.

    Notes
    -----
    Standard streams may be closed. What is printed for people then goes nowhere and the status is that of the work;
    output that an option sends to standard output (``--json -``) is refused before the work, since it would be lost.
    """
    closed = open_standard_streams()
    given = list(sys.argv[1:] if argv is None else argv)
    name = _top_parser().parse_args(given[:1]).command
    command = import_module(f"fastuq.cli.{_module(name)}")
    parser = _Parser(prog=f"fastuq {name}", description=SUMMARIES[name], allow_abbrev=False)
    command.add_arguments(parser)
    args = parser.parse_args(given[1:], argparse.Namespace(given=given))
    for option, value in vars(args).items():
        if option in SHOWN and value is not None and leads_to(value, 1):
            setattr(args, option, "-")  # so that nothing else is printed there
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need not be text that can be shown

    def run(args: argparse.Namespace) -> int:
        _check_open(args, closed)
        check_limits(getattr(args, "threads", None))
        return command.run(args)

    return _run(run, args, program=argv is None)


def say(args: argparse.Namespace, lines: Iterable[str]) -> None:
    """Print what a command has to say, unless one of its outputs goes to the screen; all of them print through here.

    Each line stays one line, whatever the names of files and classes in it hold.
    """
    if not any(str(getattr(args, option, None)) == "-" for option in SHOWN):
        print("\n".join(printable(line) for line in lines))


def screen_width() -> int:
    """Return how many characters a line has on the terminal; more than any needs where the output goes elsewhere."""
    return shutil.get_terminal_size((10_000, 24)).columns


def commands() -> dict[str, str]:
    """Return the commands that this installation has, with their summaries."""
    folder = Path(__file__).parent
    return {name: text for name, text in SUMMARIES.items() if (folder / f"{_module(name)}.py").is_file()}


def _module(command: str) -> str:
    name = command.replace("-", "_")
    return f"{name}_" if iskeyword(name) else name


def add_classes(parser: argparse.ArgumentParser) -> None:
    """Add the option that gives the model's classes other names."""
    parser.add_argument(
        "--classes", metavar="FILE", help="names of the model's classes, one a line, in place of its own"
    )


def named_model(args: argparse.Namespace) -> "Model":
    """Return the model, with the class names that are given in place of its own."""
    from dataclasses import replace

    from fastuq.model.model import load_model
    from fastuq.util.labels import read_class_names

    model = load_model(args.model)
    if args.classes is None:
        return model
    return replace(model, class_names=read_class_names(args.classes, len(model.class_names)))


def add_on_error(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what a picture costs that cannot be read."""
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="a picture that cannot be read: stop before the work, or leave it out (default: %(default)s)",
    )


def tell(images: "ImageSet | Told") -> None:
    """Print on standard error what is to be said of images: notes, and which files were left out."""
    lines = [*images.notes[:_NAMED], *(f"left out: {why}" for _, why in images.skipped[:_NAMED])]
    if len(images.notes) > _NAMED:
        lines.append(f"notes: {len(images.notes) - _NAMED} more; --json has all of them")
    if len(images.skipped) > _NAMED:
        lines.append(f"left out: {len(images.skipped) - _NAMED} more; --json names all of them")
    for line in lines:
        print("fastuq:", one_line(line), file=sys.stderr)


def told(images: "ImageSet | Told | None") -> dict[str, Any]:
    """Return the same as JSON values, every file that was left out."""
    skipped = () if images is None else images.skipped
    return {
        "notes": [] if images is None else list(images.notes),
        "skipped": [{"file": printable(file), "reason": why} for file, why in skipped],
    }


def _top_parser() -> argparse.ArgumentParser:
    available = commands()
    width = max(len(name) for name in available)
    parser = _Parser(
        prog="fastuq",
        description="Which predictions of a quantized vision model to trust, with the backbone run once.",
        epilog="commands:\n" + "\n".join(f"  {name:{width}}  {text}" for name, text in available.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="fastuq COMMAND [options]    (fastuq COMMAND --help: its options)",
    )
    parser.add_argument("--version", action="version", version=f"fastuq {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=available, help="one of the commands below")
    return parser


def _check_open(args: argparse.Namespace, closed: Sequence[int]) -> None:
    given = {option: path for option, path in vars(args).items() if option in SHOWN and path is not None}
    for option, path in given.items():
        for number in closed:
            if (str(path) == "-" and number == 1) or leads_to(path, number):
                stream = "standard " + ("input", "output", "error")[number]
                raise InputError(f"--{option} {path}: {stream} is closed; name a file, or run with {stream} open")


def _run(run: Callable[[argparse.Namespace], int], args: argparse.Namespace, *, program: bool = False) -> int:
    try:
        with sigterm_unwinds(program=program):
            status = run(args)
            sys.stdout.flush()
            return status
    except FastUQError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # Python flushes stdout once more at exit; what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError as error:
        return _fail(f"out of memory ({error or 'no size given'}); close other programs or take fewer images at once")
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        return _fail(
            "the system starts no more threads; raise its limit of processes or memory, or ask for fewer --threads"
        )
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}; nothing half-written was kept; mend it and run again")


def _fail(message: str, status: int = USER_ERROR) -> int:
    print("fastuq:", one_line(message), file=sys.stderr)
    return status
