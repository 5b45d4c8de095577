"""Options of scoring on the command line: what each says of itself, and what was given of them."""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastuq.scoring.options import Options

SCORING = {
    "num_iter": "Monte-Carlo iterations",
    "conf_factor": "confidence of the interval, between 0 and 1",
    "threshold": "where a class counts as present",
    "interval": "half width z*std, or z*std/sqrt(T)",
    "mixed": "a certain class beside an uncertain one",
    "doubt_floor": "least mean of a class that gets the benefit of the doubt",
    "masks": "one set of masks for all images, or per image",
    "precision": "of the head",
    "seed": "seed of the masks",
    "method": "moments over iterations, or without any and without a seed",
    "settle_error": "with --num-iter auto: settled is what endless iterations change with at most this chance",
    "max_iter": "with --num-iter auto: the most iterations of an image",
}
BY_SCORE = {
    "rule": "by the interval of every class, or by a score of each sample",
    "score": "with --rule score: what it goes by; docs/scores.md has them all (default: max; with a bank: bank)",
    "coverage": "with --rule score: share of the samples to keep (or --threshold: the least score that is kept)",
    "foreign": "a second score, for what is not of the kind that the model knows",
    "foreign_coverage": "share of the samples that it leaves in",
    "foreign_threshold": "the least second score that is kept, in place of a share",
}
_AUTO = "; auto: of each image as many as settle its decision"
"""What is said of iterations where it goes."""
_METAVARS = {
    "num_iter": "T",
    "max_iter": "T",
    "settle_error": "E",
    "conf_factor": "C",
    "score": "NAME",
    "foreign": "NAME",
    "coverage": "C",
}


def add_scoring_options(parser: argparse.ArgumentParser, names: Iterable[str] = tuple(SCORING)) -> None:
    """Add options of scoring, whose names and defaults are the fields of `fastuq.scoring.options.Options`."""
    names = tuple(names)
    from fastuq.scoring.options import CHOICES, Options, iterations

    kinds = {"score": str, "foreign": str, "num_iter": iterations}
    for name in names:
        default = getattr(Options(), name)
        words = {**SCORING, **BY_SCORE}[name] + (_AUTO if name == "num_iter" and "max_iter" in names else "")
        text = words + ("" if default is None else f" (default: {default})")
        kind: Any = kinds.get(name, float if default is None else type(default))
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, help=text, choices=CHOICES.get(name), metavar=_METAVARS.get(name), type=kind)


def scoring_options(args: argparse.Namespace, names: Iterable[str] = (*SCORING, *BY_SCORE)) -> "Options":
    """Return the options of scoring, of these names, that were given; raises InputError where one is out of range."""
    from fastuq.scoring.options import Options, check_together

    values = {name: getattr(args, name, None) for name in names}
    given = {name: value for name, value in values.items() if value is not None}
    options = Options(**given)
    # a default may have been given, too
    check_together(given, rule=options.rule, method=options.method, num_iter=options.num_iter)
    return options
