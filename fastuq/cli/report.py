"""``fastuq report``: the page of a scored data set, to look at."""

import argparse

from fastuq.cli.score import add_source, run

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Score images as `fastuq score` does and write one HTML page that needs no network: how many to trust, the "
        "least sure and the most confidently wrong pictures, plots, a table to sort and filter. A cache alone gives a "
        "page without pictures; with the images it was made of, they are there."
    )
    add_source(parser, parser)
    parser.add_argument(
        "--output",
        dest="report",
        default="report.html",
        metavar="FILE",
        help="the page (default: %(default)s; - for the screen)",
    )
    parser.add_argument(
        "--cifar100c", metavar="CSV", help="add heat maps of this table, which `fastuq score-cifar100c --csv` wrote"
    )
    parser.set_defaults(csv=None, moments=None, page_option="--output")
