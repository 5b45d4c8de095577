"""``fastuq import-features``: embeddings from anywhere become a model and a feature cache."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastuq.cli import say
from fastuq.util.defaults import BATCH_SIZE

if TYPE_CHECKING:
    from fastuq.cache import Features
    from fastuq.model.model import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Code embeddings (N, D) of float16, float32 or int8 as int8 features with a scale for each dimension, and keep "
        "them as a feature cache that `fastuq score --cache` takes. With --head, a model folder is made of the head "
        "and the scales; without it, --model names one that is there, whose scales are used."
    )
    add = parser.add_argument
    add("embeddings", metavar="FILE", help=".npy, read piece by piece; or .npz with features, and labels if there")
    add("--head", metavar="FILE", help="the head that follows them in .npz, as fastuq.save_head writes it")
    add("--model", metavar="DIR", help="model folder: made with --head (default: named by FILE), else read")
    add("--labels", metavar="FILE", help="true classes in .npy, whole numbers from 0")
    add("--class-names", metavar="FILE", help="with --head: class names, one a line (default: class_0, ...)")
    add("--output", type=Path, metavar="FILE", help="cache file (default: named by FILE and model)")
    add("--batch-size", type=int, default=BATCH_SIZE, help=f"rows that share a checksum (default: {BATCH_SIZE})")
    add("--threads", type=int, help="threads (default: all)")
    add("--json", metavar="FILE", help="write what was done as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    import time

    from fastuq.cache import cache_embeddings, default_embeddings_path
    from fastuq.errors import InputError
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    began = time.perf_counter()
    if args.head is None and (args.model is None or args.class_names is not None):
        raise InputError(
            "import-features: give --head HEAD.npz to make a model, or --model DIR alone, one that is there"
        )
    target = (args.model or _model_path(args.embeddings)) if args.head else None
    inputs = [args.embeddings, args.labels, args.head, args.class_names, None if args.head else args.model]
    outputs = {"--output": _new(args.output), "--json": args.json}
    check_outputs(outputs, [*inputs, args.output], replaced=target)
    model, features = _made(args, target)
    path = args.output or default_embeddings_path(features, model)
    check_outputs({"--output": _new(path), "--json": args.json}, [path])
    with cache_embeddings(features, model, path, batch_size=args.batch_size, threads=args.threads) as cache:
        report = {
            "output": str(path),
            "model": str(model.path),
            "reused": cache.reused,
            "computed": cache.computed,
            "num_samples": cache.num_samples,
            "num_features": cache.num_features,
            "labelled": cache.labels is not None,
            "model_sha256": model.sha256,
            "data_fingerprint": cache.data_fingerprint,
            "cut_off": None if cache.cut_off is None else cache.cut_off.report(),
            **({"head_int8": model.info["made"]["report"]["head_int8"]} if args.head else {}),
            "seconds": round(time.perf_counter() - began, 6),
        }
    if args.json:
        write_json(args.json, report)
    say(args, _lines(report))
    return 0


def _made(args: argparse.Namespace, target: str | None) -> "tuple[Model, Features]":
    """Return the model, made first where a head is given, and the embeddings coded by its scales."""
    from fastuq.cache import Features
    from fastuq.datasets.embeddings import open_embeddings
    from fastuq.model.head_file import load_head
    from fastuq.model.model import load_model
    from fastuq.training.embedding_model import embedding_model
    from fastuq.util.labels import read_class_names

    values, labels = open_embeddings(args.embeddings, args.labels)
    name = f"file:{Path(args.embeddings).name}"
    if target is None:
        model = load_model(args.model)
        return model, Features.from_arrays(values, labels, model=model, name=name)
    head = load_head(args.head)
    names = None if args.class_names is None else read_class_names(args.class_names)
    features = Features.from_arrays(values, labels, name=name)
    return embedding_model(target, head, features, class_names=names), features


def _model_path(embeddings: str) -> str:
    return str(Path("out") / f"model-{Path(embeddings).stem}")


def _new(path: Path | None) -> Path | None:
    """Return the path where nothing is there yet; a cache that is there is read, and none but a cache is touched."""
    return None if path is None or path.exists() else path


def _lines(report: dict[str, Any]) -> list[str]:
    from fastuq.training.import_report import features_lines

    size = f"{report['num_samples']} x {report['num_features']} features"
    done = "are there already and every checksum matches" if report["reused"] else f"in {report['seconds']:.1f} s"
    return [
        f"{report['output']}: {size} {done}",
        *features_lines(report),
        f"model {report['model']}, SHA-256 {report['model_sha256']}",
        f"score them: fastuq score --model {report['model']} --cache {report['output']}",
    ]
