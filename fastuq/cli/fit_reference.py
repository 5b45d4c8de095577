"""``fastuq fit-reference``: statistics of training features, which some scores are held against."""

import argparse
from pathlib import Path

from fastuq.cli import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from fastuq.util.defaults import REFERENCE_ROWS

    parser.description = (
        "Take from a cache of labelled training features what scores of single predictions are held against: means "
        "and covariances, the space that features fill, some samples as neighbours. Once per model; docs/scores.md "
        "says which scores need it."
    )
    parser.add_argument(
        "cache", nargs="+", metavar="CACHE", help="feature cache of the training images: a file, or a folder of shards"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the reference, as reference.h5")
    parser.add_argument("--model", metavar="DIR", help="model folder (default: the bundled one)")
    parser.add_argument(
        "--rows",
        type=int,
        default=REFERENCE_ROWS,
        help="training samples that are kept as neighbours (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write what was made as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    import time

    from fastuq.cache import FeatureCache
    from fastuq.model.model import load_model
    from fastuq.scoring.scores import fit_reference
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    began = time.perf_counter()
    check_outputs({"--output": args.output, "--json": args.json}, [args.model, *args.cache])
    model = load_model(args.model)
    with FeatureCache.open(args.cache if len(args.cache) > 1 else args.cache[0], model=model) as cache:
        reference = fit_reference(model, cache, rows=args.rows)
    reference.save(args.output)
    made = {
        "reference": str(args.output),
        "images": reference.images,
        "num_samples": reference.num_samples,
        "rows": len(reference.rows),
        "model_sha256": reference.model_sha256,
        "data_fingerprint": reference.data_fingerprint,
        "seconds": round(time.perf_counter() - began, 3),
    }
    if args.json:
        write_json(args.json, made)
    say(
        args,
        [
            f"{args.output}: statistics of {reference.num_samples:,} features of {reference.images}, "
            f"{len(reference.rows):,} of them kept, in {made['seconds']:.1f} s"
        ],
    )
    return 0
