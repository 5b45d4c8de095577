"""``fastuq benchmark-scores``: every score and rule on clean, corrupted and foreign images."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastuq.cli import say
from fastuq.cli.scoring_options import add_scoring_options, scoring_options

if TYPE_CHECKING:
    from fastuq.bench.score_run import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure every score and rule on features that are cached already: how well each tells right from wrong "
        "predictions, clean from foreign images, how it holds on corrupted ones, and what it costs. Parameters and "
        "thresholds are chosen on one half of the data and reported on the other, over several splits."
    )
    add = parser.add_argument
    add(
        "--cache",
        nargs="+",
        required=True,
        metavar="FILE",
        help="feature cache of labelled test images: a file, or a folder of shards",
    )
    add("--views", nargs="*", default=[], metavar="FILE", help="caches of other views of the test images")
    for group, what in _GROUPS.items():
        add(f"--{group}", nargs="*", default=[], metavar="NAME=FILE", help=f"caches of foreign images {what}")
    add(
        "--shifted",
        nargs="*",
        default=[],
        metavar="FILE",
        help="caches of the same images, corrupted (five severities); slow scores only where --scores names them",
    )
    add("--reference", metavar="FILE", help="what fit-reference made")
    add("--bank", metavar="FILE", help="what bank made; bundled is the bundled model's")
    add("--model", metavar="DIR", help="model folder (default: the bundled one)")
    add("--scores", metavar="NAMES", help="separated by commas (default: all that can be taken)")
    add("--coverage", type=float, metavar="C", help="what thresholds are to keep (default: as the rule by intervals)")
    add("--splits", type=int, default=10, help="random halves (default: %(default)s)")
    add("--resamples", type=int, default=500, help="bootstrap draws (default: %(default)s)")
    add_scoring_options(parser, _ITERATIONS)
    add("--threads", type=int, help="threads (default: all)")
    add("--output", type=Path, metavar="PREFIX", help="write PREFIX.md, PREFIX.csv and PREFIX.json")
    add("--json", metavar="FILE", help="write all figures as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from contextlib import ExitStack

    from fastuq.bench.score_run import benchmark_scores
    from fastuq.bench.score_tables import score_markdown
    from fastuq.cache import FeatureCache
    from fastuq.model.model import load_model
    from fastuq.scoring.bank import Bank
    from fastuq.scoring.scores import load_reference
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    foreign = _named({group: getattr(args, group) for group in _GROUPS})
    files = {suffix: args.output.with_name(args.output.name + suffix) for suffix in _SUFFIXES} if args.output else {}
    outputs = {**{f"--output ({suffix})": path for suffix, path in files.items()}, "--json": args.json}
    caches = [*args.cache, *args.views, *args.shifted, *(path for of in foreign.values() for path in of.values())]
    inputs = [*caches, args.reference, args.bank, args.model]
    check_outputs(outputs, inputs)
    plan = _plan(args)
    model = load_model(args.model)
    reference = load_reference(args.reference) if args.reference else None
    bank = Bank.load(None if args.bank == "bundled" else args.bank, model) if args.bank else None
    with ExitStack() as opened:

        def opening(paths: str | Path | list[str]) -> FeatureCache:
            return opened.enter_context(FeatureCache.open(paths, model=model))

        cache = opening(args.cache)
        found = benchmark_scores(
            model,
            cache,
            foreign={group: {name: opening(path) for name, path in named.items()} for group, named in foreign.items()},
            views=[opening(path) for path in args.views],
            shifted=[opening(path) for path in args.shifted],
            reference=reference,
            bank=bank,
            plan=plan,
        )
    text = score_markdown(found)
    if files:
        _write(files, found, text)
    if args.json:
        write_json(args.json, found)
    say(args, text.splitlines())
    return 0


def _plan(args: argparse.Namespace) -> "Plan":
    from fastuq.bench.score_run import Plan
    from fastuq.util.checks import finite_number, whole_number

    coverage, options = args.coverage, scoring_options(args, _ITERATIONS)
    return Plan(
        names=None if args.scores is None else [name.strip() for name in args.scores.split(",")],
        coverage=None if coverage is None else finite_number("coverage", coverage, 0, 1, open_ends=True),
        splits=whole_number("splits", args.splits, 1, 1000),
        resamples=whole_number("resamples", args.resamples, 1, 1_000_000),
        seed=options.seed,
        options=options,
        threads=args.threads,
    )


def _write(files: dict[str, Path], found: dict[str, Any], text: str) -> None:
    """Write the figures as Markdown, CSV and JSON."""
    from fastuq.bench.score_tables import score_rows
    from fastuq.report.tables import write_csv
    from fastuq.util.files import write_json, write_text

    rows = list(score_rows(found))
    write_text(files[".md"], text)
    columns = max(rows, key=len)  # some scores are not taken of shifted data
    write_csv(files[".csv"], list(columns), [[row.get(key) for key in columns] for row in rows])
    write_json(files[".json"], found)


_SUFFIXES = (".md", ".csv", ".json")
_ITERATIONS = ("num_iter", "conf_factor", "masks", "precision", "seed")


_GROUPS = {"near": "like those the model knows", "far": "unlike them"}


def _named(given: dict[str, list[str]]) -> dict[str, dict[str, Path]]:
    """Return the caches by group and by the names that they were given; raises InputError where one has no name."""
    from fastuq.errors import InputError

    named: dict[str, dict[str, Path]] = {group: {} for group in given}
    taken: set[str] = set()
    for group, texts in given.items():
        for text in texts:
            name, equals, path = text.partition("=")
            if not (name and equals and path):
                raise InputError(f"--{group} {text}: expected NAME=FILE, as in digits=digits.h5; give the cache a name")
            if name in taken:
                raise InputError(
                    f"--{group} {text}: expected another name, found one that is taken; name each cache once"
                )
            taken.add(name)
            named[group][name] = Path(path)
    return named
