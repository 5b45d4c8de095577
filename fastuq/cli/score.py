"""``fastuq score``: which predictions to keep, and why."""

import argparse
from typing import TYPE_CHECKING

from fastuq.cli import BY_SCORE, SCORING, add_scoring_options, say, scoring_options

if TYPE_CHECKING:
    from fastuq.cache import FeatureCache
    from fastuq.model.model import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Score images: Monte-Carlo dropout on their cached features, the interval of every class against the "
        "threshold, keep or ignore. Features that are not cached yet are cached first."
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "images",
        nargs="?",
        metavar="IMAGES",
        help="a folder, .npy, .npz, cifar100, cifar100c/fog/3, bundled (default: the CIFAR-100 test set where it is "
        "there, else the bundled 20 images)",
    )
    source.add_argument("--cache", nargs="+", metavar="FILE", help="score this feature cache (all its shards)")
    parser.add_argument("--model", metavar="DIR", help="model folder (default: the bundled one)")
    add_scoring_options(parser, (*SCORING, *BY_SCORE))
    parser.add_argument("--reference", metavar="FILE", help="what fit-reference made, for scores that need it")
    parser.add_argument(
        "--bank", metavar="FILE", help="join the similarities to its rows to the logits; bundled is the bundled model's"
    )
    parser.add_argument(
        "--gate",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="with a bank: keep none whose largest logit is less than this share of its held-out images has (0.06 to "
        "0.1 keeps foreign images out; default: no gate)",
    )
    parser.add_argument("--csv", metavar="FILE", help="write one row per image (- for the screen)")
    parser.add_argument(
        "--moments",
        metavar="FILE",
        help="write mean, std, plain output and logits of every class: .npz, .parquet, .csv, else HDF5",
    )
    parser.add_argument("--mutual-information", action="store_true", help="compute it too (slower)")
    parser.add_argument("--threads", type=int, help="threads (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write the summary as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    import time
    from dataclasses import replace

    from fastuq.datasets import data_root
    from fastuq.model.model import load_model
    from fastuq.report.moments_file import save_moments
    from fastuq.report.moments_tables import check_suffix
    from fastuq.report.samples import summary_lines, write_sample_table
    from fastuq.scoring.bank import Bank
    from fastuq.scoring.logits import plain_logits
    from fastuq.scoring.scores import load_reference
    from fastuq.scoring.scoring import score
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    began = time.perf_counter()
    options = scoring_options(args)
    check_suffix(args.moments or "")
    outputs = _outputs(args)
    check_outputs(outputs, [args.images, data_root(), args.model, args.bank, args.reference, *(args.cache or [])])
    reference = load_reference(args.reference) if args.reference else None
    model = load_model(args.model)
    bank = Bank.load(None if args.bank == "bundled" else args.bank, model) if args.bank else None
    cache, title = _features(args, model)
    with cache:
        cached = time.perf_counter() - began
        wanted = {"mutual_information": args.mutual_information, "details": bool(args.moments)}
        wanted |= {"reference": reference, "bank": bank, "gate": args.gate}
        result = score(model, cache, options, threads=args.threads, **wanted)
        seconds = {**result.seconds, "features": result.seconds["features"] + cached}
        seconds["total"] = time.perf_counter() - began
        result = replace(result, seconds=seconds)
        if args.csv:
            write_sample_table(args.csv, result, model.class_names)
        if args.moments:
            save_moments(args.moments, result, logits=plain_logits(model, cache, precision=options.precision))
    summary = result.summary()
    if args.json:
        write_json(args.json, summary)
    say(args, summary_lines(summary, title))
    return 0


def _outputs(args: argparse.Namespace) -> dict[str, str | None]:
    return {"--csv": args.csv, "--moments": args.moments, "--json": args.json}


def _features(args: argparse.Namespace, model: "Model") -> "tuple[FeatureCache, str]":
    """Return the cache to score, made first where it is not there, and what to call it."""
    from fastuq.cache import FeatureCache, cache_features, default_cache_path
    from fastuq.datasets import open_images
    from fastuq.util.outputs import check_outputs

    if args.cache:
        return FeatureCache.open(args.cache if len(args.cache) > 1 else args.cache[0], model=model), args.cache[0]
    images = open_images(args.images, image_size=model.image_shape[:2]).matched_to(model.class_names)
    path = default_cache_path(images, model)
    made = {} if path.exists() else {"the feature cache": path}
    check_outputs({**made, **_outputs(args)}, [path])
    return cache_features(images, model, path, threads=args.threads), images.name
