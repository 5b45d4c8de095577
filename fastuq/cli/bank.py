"""``fastuq bank``: labelled training features become a bank, which `fastuq score --bank` compares images with."""

import argparse
from typing import Any

from fastuq.cli import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make a bank of a cache of labelled training features: their principal components as int8 rows by class, and "
        "two weights fitted on held-out labels, which join similarities and logits."
    )
    parser.add_argument(
        "training",
        nargs="+",
        metavar="CACHE",
        help="feature cache of the training images: a file, or a folder of shards",
    )
    parser.add_argument(
        "--fit", nargs="+", required=True, metavar="FILE", help="feature cache of labelled images not trained on"
    )
    parser.add_argument(
        "--fit-samples", type=int, metavar="N", help="fit on the first N of them, 100 at least (default: all)"
    )
    parser.add_argument(
        "--components", type=int, metavar="K", help="bytes of a row (default: 256, or as many as there are features)"
    )
    parser.add_argument("--model", metavar="DIR", help="model folder (default: the bundled one)")
    parser.add_argument("--output", default="out/bank.h5", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--threads", type=int, help="threads (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write what was made as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    import time

    from fastuq.cache import FeatureCache
    from fastuq.model.model import load_model
    from fastuq.scoring.bank.making import make
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    began = time.perf_counter()
    check_outputs({"--output": args.output, "--json": args.json}, [args.model, *args.training, *args.fit])
    model = load_model(args.model)
    with FeatureCache.open(args.training, model) as training, FeatureCache.open(args.fit, model) as held_out:
        bank = make(
            model,
            training,
            held_out,
            components=args.components,
            held_out_samples=args.fit_samples,
            threads=args.threads,
        )
    bank.save(args.output)
    report = {"output": args.output, **bank.summary(), "seconds": round(time.perf_counter() - began, 3)}
    if args.json:
        write_json(args.json, report)
    say(args, _lines(report))
    return 0


def _lines(report: dict[str, Any]) -> list[str]:
    return [
        f"{report['output']}: {report['rows']:,} rows of {report['components']} bytes, {report['training']}",
        f"q = {report['logit']:.4g} logit + {report['similarity']:.4g} similarity, fitted on "
        f"{report['held_out_samples']:,} samples of {report['held_out']}",
        f"score with it: fastuq score --bank {report['output']}",
    ]
