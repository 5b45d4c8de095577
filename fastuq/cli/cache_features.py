"""``fastuq cache-features``: run the backbone once over images and keep its features."""

import argparse
from pathlib import Path

from fastuq.cli import add_classes, add_on_error, named_model, say, tell, told
from fastuq.util.defaults import BATCH_SIZE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the int8 backbone once over images and keep its features in HDF5. A run that was stopped goes on where it "
        "was; on a cache that is complete it verifies every batch and computes nothing."
    )
    parser.add_argument(
        "images",
        nargs="?",
        metavar="IMAGES",
        help="a folder, .npy, .npz, cifar100, cifar100c/fog/3, bundled (default: the CIFAR-100 test set where it is "
        "there, else the bundled 20 images)",
    )
    parser.add_argument("--model", metavar="DIR", help="model folder (default: the bundled one)")
    add_classes(parser)
    parser.add_argument("--mirror", action="store_true", help="mirror every image left to right: a view to score with")
    add_on_error(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="cache file (default: named by images and model)")
    batch = f"images that share a checksum (default: {BATCH_SIZE})"
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help=batch)
    parser.add_argument("--threads", type=int, help="threads (default: all)")
    parser.add_argument("--shard", metavar="I/N", help="only part I of N, from 1/N to N/N, into a file of its own")
    parser.add_argument("--json", metavar="FILE", help="write what was done as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    import time

    from fastuq.cache import cache_features, default_cache_path
    from fastuq.datasets import data_root, open_images
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    began = time.perf_counter()
    shard = _shard(args.shard)
    inputs = [args.images, data_root(), args.model, args.classes]
    check_outputs({"--output": _new(args.output), "--json": args.json}, [*inputs, args.output])
    model = named_model(args)
    how = {"image_size": model.image_shape[:2], "crop": model.crop, "on_error": args.on_error}
    images = open_images(args.images, **how).matched_to(model.class_names)
    images = images.mirrored() if args.mirror else images
    images.fingerprint()
    tell(images)
    path = args.output or default_cache_path(images, model, shard)
    check_outputs({"--output": _new(path), "--json": args.json}, [path])
    with cache_features(images, model, path, batch_size=args.batch_size, threads=args.threads, shard=shard) as cache:
        seconds = time.perf_counter() - began
        report = {
            "output": str(path),
            "reused": cache.reused,
            "computed": cache.computed,
            "labels_restored": cache.labels_restored,
            "num_samples": cache.num_samples,
            "num_features": cache.num_features,
            "images": images.name,
            "model_sha256": cache.model_sha256,
            "data_fingerprint": cache.data_fingerprint,
            "runtime": cache.provenance["runtime"],
            "seconds": round(seconds, 6),
            **told(images),
        }
    if args.json:
        write_json(args.json, report)
    say(args, [_sentence(report)])
    return 0


def _new(path: Path | None) -> Path | None:
    """Return the path where nothing is there yet; a cache that is there is read, and none but a cache is touched."""
    return None if path is None or path.exists() else path


def _sentence(report: dict) -> str:
    size = f"{report['num_samples']} x {report['num_features']} features of {report['images']}"
    if report["reused"]:
        return f"{report['output']}: {size} are there already and every checksum matches; nothing to do"
    kept = report["num_samples"] - report["computed"]
    rest = f" ({kept} samples were there already)" if kept else ""
    rest += "; damaged labels put back" if report["labels_restored"] else ""
    return f"{report['output']}: {size} in {report['seconds']:.1f} s{rest}"


def _shard(text: str | None) -> tuple[int, int] | None:
    import re

    from fastuq.errors import InputError

    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match:
        raise InputError(f"--shard {text}: expected I/N, as in 1/4 for the first of four parts")
    return int(match[1]), int(match[2])
