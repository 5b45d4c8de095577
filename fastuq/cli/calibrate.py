"""``fastuq calibrate``: a threshold with a promise, proved on held-out labelled images."""

import argparse
from typing import TYPE_CHECKING, Any

from fastuq.cli import named_model, say, told
from fastuq.cli.score import add_companions, add_images, companions, opened_features, opened_views
from fastuq.cli.scoring_options import add_scoring_options, scoring_options

if TYPE_CHECKING:
    from fastuq.scoring.calibration.promise import Promise

_ITERATIONS = ("num_iter", "masks", "precision", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Choose a threshold of a score on held-out labelled images, such that of those kept at most a share RISK is "
        "wrong, with confidence 1 - DELTA, for images like them. `fastuq score --promise` applies it, and withdraws "
        "the promise where the images scored do not look like those of the calibration."
    )
    add_images(parser, parser.add_mutually_exclusive_group())
    add = parser.add_argument
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument("--risk", type=float, help="largest share of errors among those kept (default: 0.05)")
    wanted.add_argument("--coverage", type=float, help="keep this share, and promise the risk that goes with it")
    add("--delta", type=float, default=0.05, help="chance that the promise is wrong (default: %(default)s)")
    add(
        "--score",
        metavar="NAME",
        help="what decides, docs/scores.md has them all (default: max; with a bank: bank)",
    )
    add_companions(parser)
    add("--sets", type=float, metavar="C", help="also sets of classes that hold the true one with this chance")
    add("--set-kind", choices=("lac", "raps"), help="how they are made (default: lac)")
    add("--output", default="promise.json", metavar="FILE", help="the promise (default: %(default)s)")
    add_scoring_options(parser, _ITERATIONS)
    add("--threads", type=int, help="threads (default: all)")
    add("--json", metavar="FILE", help="write what is promised as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from contextlib import ExitStack

    from fastuq.datasets import data_root
    from fastuq.scoring.calibration.calibrate import calibrate
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    outputs = {"--output": args.output, "--json": args.json}
    options = scoring_options(args, _ITERATIONS)
    files = (args.images, args.model, args.classes, args.bank, args.reference)
    check_outputs(outputs, [data_root(), *files, *(args.cache or []), *(args.views or [])])
    model = named_model(args)
    cache, images = opened_features(args, model, outputs)
    title = args.cache[0] if images is None else images.name
    with ExitStack() as opened:
        opened.enter_context(cache)
        promise = calibrate(
            model,
            cache,
            options,
            score=args.score,
            risk=args.risk,
            coverage=args.coverage,
            delta=args.delta,
            sets=args.sets,
            kind=args.set_kind,
            threads=args.threads,
            views=[opened.enter_context(view) for view in opened_views(args, model, images)],
            **companions(args, model),
        )
    promise.save(args.output)
    if args.json:
        write_json(args.json, promise.summary() | told(images))
    say(args, _lines(promise, title, args.output))
    return 0


def _lines(promise: "Promise", title: str, output: str) -> list[str]:
    lines = [
        f"{title}: {promise.samples:,} labelled images, score {promise.options.score}",
        f"  promised   {promise.words}",
        f"  threshold  {promise.options.threshold:.6g}, which keeps {promise.kept / promise.tested:.1%}: "
        f"{promise.kept:,} of the {promise.tested:,} images that it was tested on, {promise.errors:,} of them wrong",
    ]
    if promise.before is not None and promise.after is not None:
        pairs: Any = [(name, promise.before[name], promise.after[name]) for name in promise.before]
        figures = ", ".join(f"{name.upper()} {before:.3f} -> {after:.3f}" for name, before, after in pairs)
        lines.append(f"  outputs    at temperature {promise.temperature:.3f}, on these images: {figures}")
    if promise.sets is not None:
        kind, coverage = promise.sets.kind.upper(), promise.sets.coverage
        lines.append(f"  sets       {kind}, which hold the true class {coverage:.1%} of the time")
    if promise.missing:
        few = ", ".join(promise.missing[:3]) + (", ..." if len(promise.missing) > 3 else "")
        lines.append(f"  missing    {len(promise.missing)} classes have no image here: nothing is promised of {few}")
    return [*lines, f"  written to {output}"]
