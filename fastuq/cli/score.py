"""``fastuq score``: which predictions to keep, and why."""

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastuq.cli import add_classes, add_on_error, named_model, say, screen_width, tell, told
from fastuq.cli.scoring_options import BY_SCORE, SCORING, add_scoring_options, scoring_options

if TYPE_CHECKING:
    from fastuq.cache import FeatureCache
    from fastuq.datasets import ImageSet
    from fastuq.model.model import Model
    from fastuq.scoring.options import Options
    from fastuq.scoring.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Score images: Monte-Carlo dropout on their cached features, the interval of every class against the "
        "threshold, keep or ignore. Features that are not cached yet are cached first."
    )
    add_source(parser, parser.add_mutually_exclusive_group())
    parser.add_argument("--csv", metavar="FILE", help="write one row per image: .parquet, else CSV (- for the screen)")
    parser.add_argument("--report", metavar="FILE", help="write a page to look at, HTML (`fastuq report` has more)")
    parser.set_defaults(page_option="--report")
    parser.add_argument(
        "--moments",
        metavar="FILE",
        help="write mean, std, plain output and logits of every class: .npz, .parquet, .csv, else HDF5",
    )
    parser.set_defaults(cifar100c=None)


def add_source(parser: argparse.ArgumentParser, source: "argparse._ActionsContainer") -> None:
    """Add what is scored and how, which is the same for a report; images and cache go to `source`."""
    add_images(parser, source)
    add_scoring_options(parser, (*SCORING, *BY_SCORE))
    parser.add_argument(
        "--promise",
        metavar="FILE",
        help="decide by what `fastuq calibrate` found, with its options, and say what is promised of those kept",
    )
    add_companions(parser)
    parser.add_argument("--mutual-information", action="store_true", help="compute it too (slower)")
    add_threads(parser)
    parser.add_argument("--json", metavar="FILE", help="write the summary as JSON (- for the screen)")


def add_images(parser: argparse.ArgumentParser, source: "argparse._ActionsContainer") -> None:
    """Add images or their cache, which go to `source`, and the model."""
    source.add_argument(
        "images",
        nargs="?",
        metavar="IMAGES",
        help="a folder, .npy, .npz, .tar, cifar100, cifar100c/fog/3, bundled, here or at an address (default: the "
        "CIFAR-100 test set where it is there, else the bundled 20 images)",
    )
    source.add_argument(
        "--cache", nargs="+", metavar="FILE", help="score this feature cache: a file, or a folder of shards"
    )
    parser.add_argument("--model", metavar="DIR", help="model folder (default: the bundled one)")
    add_classes(parser)
    add_on_error(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add what does the work: threads of this machine, or a cluster."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--threads", type=int, help="threads (default: all)")
    either.add_argument("--scheduler", metavar="ADDRESS", help="have a Dask cluster do it, such as tcp://10.0.0.1:8786")


def add_companions(parser: argparse.ArgumentParser) -> None:
    """Add what scoring goes by besides features: other views, reference, bank and gate."""
    parser.add_argument(
        "--views", nargs="+", metavar="VIEW", help="other views of the images: mirror, or feature caches of them"
    )
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


def run(args: argparse.Namespace) -> int:
    import time
    from contextlib import ExitStack
    from dataclasses import replace

    from fastuq.cluster.connection import connected
    from fastuq.report.page.heat_map import read_splits
    from fastuq.report.page.write import save_report
    from fastuq.report.samples import summary_lines, verdict_lines
    from fastuq.util.files import all_or_none, write_json

    began = time.perf_counter()
    options = None if args.promise else scoring_options(args)
    outputs = {"--csv": args.csv, "--moments": args.moments, args.page_option: args.report, "--json": args.json}
    _check(args, options, outputs)
    model = named_model(args)
    known = companions(args, model)
    splits = read_splits(args.cifar100c, model.sha256) if args.cifar100c else None
    cache, images = opened_features(args, model, outputs)
    title = args.cache[0] if images is None else images.name
    with ExitStack() as opened:
        opened.enter_context(cache)
        views = [opened.enter_context(view) for view in opened_views(args, model, images)]
        cached = time.perf_counter() - began
        wanted = {"mutual_information": args.mutual_information, "details": bool(args.moments)}
        wanted |= {"views": views, "threads": args.threads, "client": opened.enter_context(connected(args.scheduler))}
        result, promised = _scored(args, options, model, cache, {**wanted, **known})
        seconds = {**result.seconds, "features": result.seconds["features"] + cached}
        seconds["total"] = time.perf_counter() - began
        result = replace(result, seconds=seconds)
        summary = result.summary() | promised | told(images)
        with all_or_none():
            _write(args, result, model, cache)
            if args.report:
                made_with = {"bank": known["bank"], "views": views}
                save_report(args.report, result, model, cache, images, **made_with, name=title, cifar100c=splits)
            if args.json:
                write_json(args.json, summary)
    verdict = verdict_lines(result, model.class_names, screen_width())
    say(args, [*summary_lines(summary, title, screen_width()), "", *verdict, _next(args)])
    return 0


def _check(args: argparse.Namespace, options: "Options | None", outputs: dict[str, str | None]) -> None:
    """Refuse, before any work, options that do not go together and outputs that have no place."""
    from fastuq.datasets import data_root
    from fastuq.errors import InputError
    from fastuq.report.moments_tables import check_suffix
    from fastuq.scoring.settled import check_settling
    from fastuq.util.outputs import check_outputs

    if args.scheduler and not args.cache:
        raise InputError(
            "--scheduler: expected --cache, found images alone; `fastuq cache-features --scheduler` makes it of them"
        )
    if options is not None:
        check_settling(options, {"mutual information": args.mutual_information, "other views": bool(args.views)})
    for table in (args.csv, args.moments):
        check_suffix(table or "")
    files = (args.images, args.model, args.classes, args.cifar100c, args.bank, args.reference, args.promise)
    check_outputs(outputs, [data_root(), *files, *(args.cache or []), *(args.views or [])])


def companions(args: argparse.Namespace, model: "Model") -> dict[str, Any]:
    """Return what scoring goes by besides features: reference, bank and gate."""
    from fastuq.scoring.bank import Bank
    from fastuq.scoring.scores import load_reference

    reference = load_reference(args.reference) if args.reference else None
    bank = Bank.load(None if args.bank == "bundled" else args.bank, model) if args.bank else None
    return {"reference": reference, "bank": bank, "gate": args.gate}


def _scored(
    args: argparse.Namespace, options: "Options | None", model: "Model", cache: "FeatureCache", wanted: dict[str, Any]
) -> "tuple[Result, dict[str, Any]]":
    """Return the result, decided by the promise where there are no options, and what the summary says of it."""
    from fastuq.scoring.calibration.applying import keep_by_promise
    from fastuq.scoring.calibration.promise import load_promise
    from fastuq.scoring.scoring import score

    if options is not None:
        return score(model, cache, options, **wanted), {}
    promise = load_promise(args.promise)
    _check_given(args, promise.options)
    result = keep_by_promise(promise, model, cache, **wanted).result
    return result, {"promise": result.promise}


def _check_given(args: argparse.Namespace, promised: "Options") -> None:
    """Refuse options that are others than those of the promise."""
    from dataclasses import asdict

    from fastuq.errors import InputError

    for name, value in asdict(promised).items():
        if (given := getattr(args, name)) not in (None, value):
            raise InputError(
                f"--{name.replace('_', '-')} {given}: the promise was made with {value}; leave the option out, or "
                "calibrate with it"
            )


def opened_views(args: argparse.Namespace, model: "Model", images: "ImageSet | None") -> "Iterator[FeatureCache]":
    """Yield the caches of the other views, that of mirrored images made first where it is not there."""
    from fastuq.cache import FeatureCache, cache_features, default_cache_path
    from fastuq.errors import InputError

    for view in args.views or []:
        if view != "mirror":
            yield FeatureCache.open(view, model=model)
            continue
        if images is None:
            raise InputError(
                "--views mirror: expected the images too, found a cache alone; name them, or the cache of the view"
            )
        mirrored = images.mirrored()
        yield cache_features(mirrored, model, default_cache_path(mirrored, model), threads=args.threads)


def _next(args: argparse.Namespace) -> str:
    """Return where the other images are, or the command that says so."""
    written = [place for place in (args.csv, args.report) if place]
    if written:
        return f"The others are in {' and '.join(written)}."
    command, *given = args.given  # what is added comes first: behind -- it would be names of images
    return f"Next, for the others: fastuq {command} --csv table.csv --report page.html {' '.join(map(_quoted, given))}"


def _quoted(argument: str) -> str:
    """Return an argument as the shell reads it; one that the screen cannot show, byte by byte."""
    if argument.isprintable():
        return shlex.quote(argument)
    shown = (chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}" for byte in os.fsencode(argument))
    return f"$'{''.join(shown)}'"


def _write(args: argparse.Namespace, result: "Result", model: "Model", cache: "FeatureCache") -> None:
    """Write the table and the moments that are asked for."""
    from fastuq.report.moments_file import save_moments
    from fastuq.report.samples import write_sample_table
    from fastuq.scoring.logits import plain_logits

    if args.csv:
        write_sample_table(args.csv, result, model.class_names)
    if args.moments:
        logits = plain_logits(model, cache, precision=result.options.precision)
        save_moments(args.moments, result, logits=logits)


def opened_features(
    args: argparse.Namespace, model: "Model", outputs: Mapping[str, str | None]
) -> "tuple[FeatureCache, ImageSet | None]":
    """Return the cache to score, made first where it is not there, and the images unless a cache alone was named."""
    from fastuq.cache import FeatureCache, cache_features, default_cache_path
    from fastuq.datasets import open_images
    from fastuq.util.outputs import check_outputs

    images = None
    if args.images is not None or not args.cache:
        how = {"image_size": model.image_shape[:2], "crop": model.crop, "on_error": args.on_error}
        images = open_images(args.images, **how).matched_to(model.class_names)
    if args.cache:
        cache = FeatureCache.open(args.cache, model=model, images=images)
        if images is not None:
            tell(images)
        return cache, images
    assert images is not None
    path = default_cache_path(images, model)
    tell(images)
    made = {} if path.exists() else {"the feature cache": path}
    check_outputs({**made, **outputs}, [path])
    return cache_features(images, model, path, threads=args.threads), images
