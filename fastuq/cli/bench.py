"""``fastuq bench``: how fast, beside what."""

import argparse
import os
import sys
from collections.abc import Sequence

from fastuq.cli import say
from fastuq.errors import InputError
from fastuq.util.defaults import NETWORKS, QUICK_NETWORKS, QUICK_ROUNDS, ROUNDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure, on this machine and in one run: the head from cached features beside batched Keras and NumPy heads, "
        "starting and scoring, and whole networks: the naive loop, one quantized pass, the backbone once. Results are "
        "compared before anything is timed; sides take turns; figures are medians of several rounds. Each table is "
        "printed as soon as it is measured: the first within a minute, all of them within six on 2 cores. Needs "
        "TensorFlow."
    )
    parser.add_argument("--quick", action="store_true", help="the bundled model alone, fewer rounds and sizes")
    parser.add_argument(
        "--networks",
        nargs="+",
        metavar="NAME",
        help="resnet50, efficientnet_b0 (trained ones where models/ of the data folder or the clone has them, else "
        "random), random-resnet50, random-efficientnet_b0, random-efficientnet_lite0 (at 224 x 224: their cost is "
        "that of trained ones in this size), bundled, or model folders "
        f"(default: {' '.join(NETWORKS)}; quick: {' '.join(QUICK_NETWORKS)})",
    )
    rounds = f"measurements of each figure (default: {ROUNDS}; quick: {QUICK_ROUNDS})"
    parser.add_argument("--rounds", type=int, metavar="N", help=rounds)
    parser.add_argument(
        "--models", metavar="DIR", default="out/bench-models", help="where random networks are kept (%(default)s)"
    )
    parser.add_argument(
        "--output",
        metavar="PREFIX",
        help="write all of it to PREFIX-CLASS.json, .md and .png, where CLASS is that of this machine, such as avx2: "
        "out/bench gives out/bench-avx2.json, and figures of another class of machine are never replaced",
    )
    parser.add_argument("--markdown", metavar="FILE", help="write the tables as Markdown")
    parser.add_argument("--plot", metavar="PNG", help="draw time per sample, on a logarithmic axis")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from fastuq.bench.plot import write_plot
    from fastuq.bench.run import machine_class, run_bench, scope_of
    from fastuq.bench.tables import write_markdown
    from fastuq.report.plotting import require_plot
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    outputs = {"--json": args.json, "--markdown": args.markdown, "--plot": args.plot}
    if args.output is not None:
        beginning = f"{_prefix(args.output)}-{machine_class().lower()}"
        outputs |= {f"--output ({suffix})": beginning + suffix for suffix in (".json", ".md", ".png")}
    check_outputs(outputs, args.networks or [], [args.models])
    if args.plot or args.output:
        require_plot()
    scope = scope_of(quick=args.quick, networks=args.networks, rounds=args.rounds, folder=Path(args.models))

    def show(lines: Sequence[str]) -> None:
        say(args, lines)
        sys.stdout.flush()  # a table is seen when it is there, in a log too

    figures = run_bench(scope, show)
    for path, write in zip(outputs.values(), 2 * [write_json, write_markdown, write_plot], strict=False):
        if path:
            write(path, figures)
    return 0


def _prefix(output: str) -> str:
    """Return how the names of files begin; raises InputError where that is a folder or nothing."""
    if output in ("", "-") or output.endswith("/") or os.path.isdir(output):
        raise InputError(
            f"--output {output}: expected how the names of files begin, such as out/bench, found "
            f"{'a folder; add a name' if output not in ('', '-') else 'no name'}"
        )
    return output
