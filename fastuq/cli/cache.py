"""``fastuq cache``: inspect, verify or repair feature caches."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastuq.cli import add_on_error, say, tell

if TYPE_CHECKING:
    from fastuq.cache.header import Header
    from fastuq.datasets import ImageSet
    from fastuq.model.model import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "info: what a feature cache says of itself. verify: check every batch and the labels. "
        "repair: compute damaged or missing batches again and put damaged labels back, from the images and the model "
        "that the cache was made of."
    )
    parser.add_argument("action", choices=("info", "verify", "repair"))
    parser.add_argument("files", nargs="+", metavar="FILE", help="feature caches: files, or folders of shards")
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
    from fastuq.cache.file import CacheFile
    from fastuq.report.about_cache import cache_about, shards_about

    return [shards_about(path) if path.is_dir() else cache_about(CacheFile(path)) for path in _paths(args)]


def _verify(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Check every byte; against model and images too where they are named."""
    from fastuq.model.model import load_model

    model = load_model(args.model) if args.model else None
    return [(_verify_folder if path.is_dir() else _verify_file)(path, model, args) for path in _paths(args)]


def _verify_file(path: Path, model: "Model | None", args: argparse.Namespace) -> dict[str, Any]:
    from fastuq.cache.file import CacheFile
    from fastuq.cache.staleness import check_images, check_made_by

    file = CacheFile(path)
    check_made_by(file, model)
    if args.images:
        check_images(file, _images(file.header, args))
    pending = file.pending()
    missing = file.header.num_batches - file.written()
    return {"file": str(file.path), "ok": not pending, "missing": missing, "bad_batches": pending}


def _verify_folder(folder: Path, model: "Model | None", args: argparse.Namespace) -> dict[str, Any]:
    from fastuq.cache.cache_files import CacheFiles
    from fastuq.cache.manifest import read_manifest
    from fastuq.cache.mending import damaged_shards
    from fastuq.cache.staleness import check_made_by, check_shard_images

    manifest = read_manifest(folder)
    if model is not None or args.images:
        files = CacheFiles.of_folder(folder)
        check_made_by(files.open(0), model)
        if args.images:
            check_shard_images(folder, manifest, _images(files.header, args))
    problems = [problem for _, problem in damaged_shards(folder, manifest)]
    return {"file": str(folder), "ok": not problems, "shards": len(manifest.samples), "problems": problems}


def _images(header: "Header", args: argparse.Namespace) -> "ImageSet":
    """Return the images, opened and labelled as those were that the cache was made of."""
    from fastuq.datasets import open_images

    way = header.preprocessing
    how = {"image_size": tuple(way["shape"][:2]), "crop": way.get("crop"), "on_error": args.on_error}
    return open_images(args.images, **how).matched_to(header.class_names)


def _repair(args: argparse.Namespace) -> list[dict[str, Any]]:
    from dataclasses import replace

    from fastuq.cache import cache_features
    from fastuq.cache.file import CacheFile
    from fastuq.cache.manifest import read_manifest
    from fastuq.cache.mending import any_header, repair_shards
    from fastuq.datasets import open_images
    from fastuq.model.model import load_model

    model = load_model(args.model)
    how = {"image_size": model.image_shape[:2], "crop": model.crop, "on_error": args.on_error}
    manifests = {path: read_manifest(path) for path in _paths(args) if path.is_dir()}
    first = _paths(args)[0]  # whose labels were matched by these names
    header = any_header(first, manifests[first]) if first in manifests else CacheFile(first).header
    model = model if header is None else replace(model, class_names=header.class_names)
    images = open_images(args.images, **how).matched_to(model.class_names)
    tell(images)
    reports = []
    for path in _paths(args):
        report: dict[str, Any] = {"file": str(path), "ok": True}
        if path in manifests:
            mended = repair_shards(path, manifests[path], model, images, threads=args.threads)
            report |= {"shards": len(manifests[path].samples), "mended": [record.index for record in mended]}
            report |= {"computed": sum(record.computed for record in mended)}
            report |= {"labels_restored": any(record.labels_restored for record in mended)}
        else:
            with cache_features(images, model, path, threads=args.threads) as repaired:
                report |= {"computed": repaired.computed, "labels_restored": repaired.labels_restored}
        reports.append(report)
    return reports


def _paths(args: argparse.Namespace) -> list[Path]:
    from fastuq.util.places import place_of

    return [place_of(file) for file in args.files]


def _lines(report: dict[str, Any]) -> list[str]:
    from fastuq.report.about_lines import about_lines

    if "computed" in report:
        done = [f"{report['computed']} samples computed again"] if report["computed"] else []
        done += ["labels put back"] if report["labels_restored"] else []
        return [f"{report['file']}: {', '.join(done) or 'nothing to repair'}; every checksum matches"]
    if "bad_batches" in report:
        return [f"{report['file']}: {_verdict(report)}"]
    if "problems" in report:
        return [*report["problems"], f"{report['file']}: {_sum(report)}"]
    return about_lines(report)


def _verdict(report: dict[str, Any]) -> str:
    from fastuq.cache.mending import listed

    if report["ok"]:
        return "every checksum matches"
    never = f"; {report['missing']} of them were never written" if report["missing"] else ""
    return f"{listed(report['bad_batches'])}{never}; `fastuq cache repair` computes them again"


def _sum(report: dict[str, Any]) -> str:
    if report["ok"]:
        return f"every checksum of {report['shards']} shards matches"
    return (
        f"{len(report['problems'])} of {report['shards']} shards are damaged or missing; `fastuq cache repair` "
        "computes them again"
    )
