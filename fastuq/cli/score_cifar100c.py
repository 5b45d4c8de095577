"""``fastuq score-cifar100c``: all corruptions and severities of CIFAR-100-C."""

import argparse
from pathlib import Path

from fastuq.cli import say
from fastuq.cli.scoring_options import add_scoring_options, scoring_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Score the 95 splits of CIFAR-100-C. Features are cached once, one file per corruption; a run that was stopped "
        "goes on where it was, and later runs only score."
    )
    parser.add_argument("--model", metavar="DIR", help="model folder (default: the bundled one)")
    parser.add_argument(
        "--caches",
        type=Path,
        default=Path("out/cifar100c"),
        metavar="DIR",
        help="feature caches (default: %(default)s)",
    )
    parser.add_argument("--corruptions", metavar="NAMES", help="separated by commas (default: all)")
    parser.add_argument("--severities", default="1,2,3,4,5", metavar="LIST", help="default: %(default)s")
    add_scoring_options(parser)
    parser.add_argument("--csv", metavar="FILE", help="write one row per corruption and severity")
    parser.add_argument("--markdown", metavar="FILE", help="write tables to read")
    parser.add_argument("--details", type=Path, metavar="DIR", help="write one row per image, a CSV file per split")
    parser.add_argument("--threads", type=int, help="threads (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from fastuq.datasets import data_root
    from fastuq.datasets.published import CIFAR100C
    from fastuq.errors import InputError
    from fastuq.model.model import load_model
    from fastuq.paper.cifar100c import cache_path, score_cifar100c
    from fastuq.paper.cifar100c_tables import cifar100c_markdown, severity_lines
    from fastuq.report.samples import write_sample_table
    from fastuq.report.tables import flat_row, write_csv
    from fastuq.scoring.result import Result
    from fastuq.util.files import write_json, write_text
    from fastuq.util.outputs import check_outputs

    options = scoring_options(args)
    if not all(level.strip().isdecimal() for level in args.severities.split(",")):
        raise InputError(f"--severities {args.severities}: expected numbers 1 to 5, separated by commas")
    given = args.corruptions
    corruptions = CIFAR100C if given is None else tuple(name.strip() for name in given.split(","))
    severities = [int(level) for level in args.severities.split(",")]
    outputs = {"--csv": args.csv, "--markdown": args.markdown, "--json": args.json}
    if args.details:
        outputs |= {f"--details ({c}-{s})": _details(args.details, c, s) for c in corruptions for s in severities}
    model = load_model(args.model)
    caches = [cache_path(args.caches, corruption, model) for corruption in corruptions]
    there = [cache for cache in caches if cache.exists()]
    made = {f"the cache {cache}": cache for cache in caches if not cache.exists()}
    check_outputs({**made, **outputs}, [data_root(), args.model, *there])

    def write_details(corruption: str, severity: int, result: Result) -> None:
        write_sample_table(_details(args.details, corruption, severity), result, model.class_names)

    found = score_cifar100c(
        model,
        args.caches,
        corruptions=corruptions,
        severities=severities,
        threads=args.threads,
        visit=write_details if args.details else None,
        options=options,
    )
    if args.csv:
        rows = [flat_row(row) for row in found["rows"]]
        write_csv(args.csv, list(rows[0]), [[row.get(key) for key in rows[0]] for row in rows])
    if args.markdown:
        write_text(args.markdown, cifar100c_markdown(found["rows"]))
    if args.json:
        write_json(args.json, found)
    say(args, severity_lines(found))
    return 0


def _details(folder: Path, corruption: str, severity: int) -> Path:
    return folder / f"{corruption}-{severity}.csv"
