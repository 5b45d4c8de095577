"""``fastuq cache-features``: run the backbone once over images and keep its features."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastuq.cli import add_classes, add_on_error, named_model, say, tell, told
from fastuq.cli.score import add_threads
from fastuq.util.defaults import BATCH_SIZE

if TYPE_CHECKING:
    from fastuq.cache import FeatureCache
    from fastuq.model.model import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the int8 backbone once over images and keep its features in HDF5. A run that was stopped goes on where it "
        "was; on a cache that is complete it verifies every batch and computes nothing."
    )
    parser.add_argument(
        "images",
        nargs="?",
        metavar="IMAGES",
        help="a folder, .npy, .npz, .tar, cifar100, cifar100c/fog/3, bundled, here or at an address (default: the "
        "CIFAR-100 test set where it is there, else the bundled 20 images)",
    )
    parser.add_argument("--model", metavar="DIR", help="model folder (default: the bundled one)")
    add_classes(parser)
    parser.add_argument("--mirror", action="store_true", help="mirror every image left to right: a view to score with")
    add_on_error(parser)
    place = "cache file, or folder of shards (default: a file named by images and model)"
    parser.add_argument("--output", metavar="PLACE", help=place)
    shards = "write a folder of shards, N images in each (with --scheduler default: 10000)"
    parser.add_argument("--shard-size", type=int, metavar="N", help=shards)
    batch = f"images that share a checksum (default: {BATCH_SIZE})"
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help=batch)
    add_threads(parser)
    parser.add_argument("--json", metavar="FILE", help="write what was done as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    import time

    from fastuq.datasets import data_root
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs
    from fastuq.util.places import place_of

    began = time.perf_counter()
    args.output = None if args.output is None else place_of(args.output)
    inputs = [args.images, data_root(), args.model, args.classes]
    in_one_file = args.shard_size is args.scheduler is None
    if in_one_file:
        check_outputs({"--output": _new(args.output), "--json": args.json}, [*inputs, args.output])
    else:
        check_outputs({"--json": args.json}, inputs, made=[args.output])
    model = named_model(args)
    report = _file(args, model) if in_one_file else _shards(args, model)
    report["seconds"] = round(time.perf_counter() - began, 6)
    if args.json:
        write_json(args.json, report)
    say(args, [_sentence(report)])
    return 0


def _file(args: argparse.Namespace, model: "Model") -> dict[str, Any]:
    from fastuq.cache import cache_features, default_cache_path
    from fastuq.datasets import open_images
    from fastuq.util.outputs import check_outputs

    how = {"image_size": model.image_shape[:2], "crop": model.crop, "on_error": args.on_error}
    images = open_images(args.images, **how).matched_to(model.class_names)
    images = images.mirrored() if args.mirror else images
    images.fingerprint()
    tell(images)
    path = args.output or default_cache_path(images, model)
    check_outputs({"--output": _new(path), "--json": args.json}, [path])
    with cache_features(images, model, path, batch_size=args.batch_size, threads=args.threads) as cache:
        done = {"computed": cache.computed, "labels_restored": cache.labels_restored}
        return {"output": str(path), "reused": cache.reused, **done, **_about(cache), **told(images)}


def _shards(args: argparse.Namespace, model: "Model") -> dict[str, Any]:
    from collections import Counter

    from fastuq.cache import FeatureCache
    from fastuq.cache.shards import cache_shards
    from fastuq.cluster.connection import connected
    from fastuq.datasets.shards import SHARD_SIZE, Told, open_shards
    from fastuq.errors import InputError

    if args.output is None:
        given = "--shard-size" if args.scheduler is None else "--scheduler"
        raise InputError(f"{given}: expected --output too, the folder of the shards, found none; name one")
    size = SHARD_SIZE if args.shard_size is None else args.shard_size
    how = {"image_size": model.image_shape[:2], "crop": model.crop, "on_error": args.on_error}
    with connected(args.scheduler) as client:
        shards = open_shards(args.images, size=size, class_names=model.class_names, mirror=args.mirror, **how)
        tell(Told(shards[0].notes))
        by = {"batch_size": args.batch_size, "threads": args.threads, "client": client}
        records = cache_shards(shards, model, args.output, **by)
    left_out = tuple(each for record in records for each in record.skipped)
    notes = Counter(note for record in records for note in record.notes)
    found = Told(tuple(f"{note} ({count} of {len(records)} shards)" for note, count in notes.items()), left_out)
    tell(found)
    computed, restored = (sum(getattr(record, name) for record in records) for name in ("computed", "labels_restored"))
    with FeatureCache.open(args.output, model) as cache:
        done = {"shards": len(records), "computed": computed, "labels_restored": bool(restored)}
        return {
            "output": str(args.output),
            "reused": not (computed or restored),
            **done,
            **_about(cache),
            **told(Told((*shards[0].notes, *found.notes), left_out)),
        }


def _about(cache: "FeatureCache") -> dict[str, Any]:
    return {
        "num_samples": cache.num_samples,
        "num_features": cache.num_features,
        "images": cache.provenance["images"],
        "model_sha256": cache.model_sha256,
        "data_fingerprint": cache.data_fingerprint,
        "runtime": cache.provenance["runtime"],
    }


def _new(path: Path | None) -> Path | None:
    """Return the path where nothing is there yet; a cache that is there is read, and none but a cache is touched."""
    return None if path is None or path.exists() else path


def _sentence(report: dict) -> str:
    size = f"{report['num_samples']} x {report['num_features']} features of {report['images']}"
    size += f" in {report['shards']} shards" if "shards" in report else ""
    if report["reused"]:
        return f"{report['output']}: {size} are there already and every checksum matches; nothing to do"
    kept = report["num_samples"] - report["computed"]
    rest = f" ({kept} samples were there already)" if kept else ""
    rest += "; damaged labels put back" if report["labels_restored"] else ""
    return f"{report['output']}: {size} in {report['seconds']:.1f} s{rest}"
