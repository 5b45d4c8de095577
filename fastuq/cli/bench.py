"""``fastuq bench``: how fast, beside what."""

import argparse

from fastuq.cli import say
from fastuq.util.defaults import NETWORKS, QUICK_NETWORKS, QUICK_ROUNDS, ROUNDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure, on this machine and in one run: the naive loop, one quantized pass, the backbone once, the head "
        "from cached features, and batched Keras and NumPy heads. Results are compared before anything is timed; "
        "sides take turns; figures are medians of several rounds. About eight minutes; needs TensorFlow."
    )
    parser.add_argument(
        "--quick", action="store_true", help="about a minute: the bundled model, fewer rounds and sizes"
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        metavar="NAME",
        help="resnet50, efficientnet_b0, efficientnet_lite0 (randomly initialised: their cost is real), bundled, or "
        f"model folders (default: {' '.join(NETWORKS)}; quick: {' '.join(QUICK_NETWORKS)})",
    )
    rounds = f"measurements of each figure (default: {ROUNDS}; quick: {QUICK_ROUNDS})"
    parser.add_argument("--rounds", type=int, metavar="N", help=rounds)
    parser.add_argument(
        "--models", metavar="DIR", default="out/bench-models", help="where random networks are kept (%(default)s)"
    )
    parser.add_argument("--markdown", metavar="FILE", help="write the tables as Markdown")
    parser.add_argument("--plot", metavar="PNG", help="draw time per sample, on a logarithmic axis")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from fastuq.bench.plot import write_plot
    from fastuq.bench.run import run_bench, scope_of
    from fastuq.bench.tables import markdown, readable
    from fastuq.report.plotting import require_plot
    from fastuq.util.files import write_json, write_text
    from fastuq.util.outputs import check_outputs

    outputs = {"--json": args.json, "--markdown": args.markdown, "--plot": args.plot}
    check_outputs(outputs, args.networks or [], [args.models])
    if args.plot:
        require_plot()
    scope = scope_of(quick=args.quick, networks=args.networks, rounds=args.rounds, folder=Path(args.models))
    figures = run_bench(scope)
    if args.json:
        write_json(args.json, figures)
    if args.markdown:
        write_text(args.markdown, markdown(figures))
    if args.plot:
        write_plot(args.plot, figures)
    say(args, readable(figures))
    return 0
