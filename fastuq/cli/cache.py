"""``fastuq cache``: inspect, verify or repair feature caches."""

import argparse
from typing import TYPE_CHECKING, Any

from fastuq.cli import add_on_error, say, tell

if TYPE_CHECKING:
    from fastuq.cache.file import CacheFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "info: what a feature cache says of itself. verify: check every batch and the labels. "
        "repair: compute damaged or missing batches again and put damaged labels back, from the images and the model "
        "that the cache was made of."
    )
    parser.add_argument("action", choices=("info", "verify", "repair"))
    parser.add_argument("files", nargs="+", metavar="FILE", help="feature caches; each shard is a file of its own")
    parser.add_argument(
        "--images", metavar="IMAGES", help="repair, verify: the images (default: as for cache-features)"
    )
    parser.add_argument("--model", metavar="DIR", help="repair, verify: the model folder (default: the bundled one)")
    add_on_error(parser)
    parser.add_argument("--threads", type=int, help="repair: threads (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from fastuq.datasets import data_root
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    check_outputs({"--json": args.json}, [*args.files, args.images, data_root(), args.model])
    action = {"info": _info, "verify": _verify, "repair": _repair}[args.action]
    reports = action(args)
    if args.json:
        write_json(args.json, reports)
    say(args, (line for report in reports for line in _lines(report)))
    return 0 if all(report.get("ok", True) for report in reports) else 1


def _info(args: argparse.Namespace) -> list[dict[str, Any]]:
    from fastuq.report.about import cache_about

    return [cache_about(file) for file in _open(args.files)]


def _verify(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Check every byte; against model and images too where they are named."""
    from fastuq.cache.staleness import check_crop, check_images, check_model
    from fastuq.datasets import open_images
    from fastuq.model.model import load_model

    model = load_model(args.model) if args.model else None
    reports = []
    for file in _open(args.files):
        if model is not None:
            check_model(file, model.sha256)
            check_crop(file.header.preprocessing, model.crop)
        if args.images:
            way = file.header.preprocessing
            how = {"image_size": tuple(way["shape"][:2]), "crop": way.get("crop"), "on_error": args.on_error}
            check_images(file, open_images(args.images, **how).matched_to(file.header.class_names))
        pending = file.pending()
        missing = file.header.num_batches - file.written()
        reports.append({"file": str(file.path), "ok": not pending, "missing": missing, "bad_batches": pending})
    return reports


def _repair(args: argparse.Namespace) -> list[dict[str, Any]]:
    from dataclasses import replace

    from fastuq.cache import cache_features
    from fastuq.datasets import open_images
    from fastuq.model.model import load_model

    model = load_model(args.model)
    how = {"image_size": model.image_shape[:2], "crop": model.crop, "on_error": args.on_error}
    files = _open(args.files)
    model = replace(model, class_names=files[0].header.class_names)  # those that the labels were matched by
    images = open_images(args.images, **how).matched_to(model.class_names)
    tell(images)
    reports = []
    for file in files:
        shard = (file.header.shard.index, file.header.shard.count)
        with cache_features(images, model, file.path, threads=args.threads, shard=shard) as repaired:
            done = {"computed": repaired.computed, "labels_restored": repaired.labels_restored}
            reports.append({"file": str(file.path), "ok": True, **done})
    return reports


def _open(files: list[str]) -> "list[CacheFile]":
    from fastuq.cache.file import CacheFile

    return [CacheFile(file) for file in files]


def _lines(report: dict[str, Any]) -> list[str]:
    from fastuq.report.about_lines import about_lines

    if "computed" in report:
        done = [f"{report['computed']} samples computed again"] if report["computed"] else []
        done += ["labels put back"] if report["labels_restored"] else []
        return [f"{report['file']}: {', '.join(done) or 'nothing to repair'}; every checksum matches"]
    if "bad_batches" in report:
        return [f"{report['file']}: {_verdict(report)}"]
    return about_lines(report)


def _verdict(report: dict[str, Any]) -> str:
    bad, missing = report["bad_batches"], report["missing"]
    if not bad:
        return "every checksum matches"
    listed = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
    return (
        f"{len(bad)} batches are damaged or missing ({listed}; {missing} were never written); "
        "`fastuq cache repair` computes them again"
    )
