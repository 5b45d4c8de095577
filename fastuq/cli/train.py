"""``fastuq train``: from training images to a quantized model folder."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fastuq.cli import CROP, add_on_error, say, tell, told
from fastuq.util.defaults import NETWORK, PAPER_HEAD, WEIGHTS

if TYPE_CHECKING:
    from fastuq.datasets import ImageSet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    parser.epilog = (
        "Time for CIFAR-100 at 224 x 224 on two cores: the int8 backbone over the training images 9 minutes with "
        "resnet50, 5 with efficientnet_b0, twice that with --mirror; the accuracies over the test images 11 and 4 "
        "minutes, none with --test none. An epoch of the head takes 5 seconds of processor time. A GPU is used only "
        "where CUDA_VISIBLE_DEVICES names it, to fit heads and to tune networks; how fast was not measured."
    )
    add("--data", default="cifar100/train", metavar="IMAGES", help="training images with labels (default: %(default)s)")
    add(
        "--test",
        metavar="IMAGES",
        help="images to report the accuracy on (default: the test set of CIFAR-100 if --data is CIFAR-100; none: skip)",
    )
    add("--network", default=NETWORK, help="resnet50, efficientnet_b0 or efficientnet_lite0 (default: %(default)s)")
    add("--weights", default=WEIGHTS, help="imagenet, none, or a file with weights of it (default: %(default)s)")
    add(
        "--network-size",
        type=int,
        metavar="PIXELS",
        help="height and width that the network resizes images to (default: what the file of weights says, else 224)",
    )
    _add_fitting(parser)
    add("--features", metavar="FILE", help="fit a head on these embeddings (.npy, .npz) instead of a network on images")
    add("--labels", metavar="FILE", help="with --features: their true classes in .npy, whole numbers from 0")
    add(
        "--classes",
        "--class-names",
        dest="classes",
        metavar="FILE",
        help="class names, one a line, in the order of their numbers (default: those of the images, else class_0, ...)",
    )
    add(
        "--image-size", metavar="SIZE", help="of pictures in a folder: 224 or 224x320 (default: what the network takes)"
    )
    add("--crop", type=float, metavar="FRACTION", help=CROP)
    add_on_error(parser)
    add("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    add("--output", required=True, metavar="DIR", help="model folder to write")
    add(
        "--no-full",
        action="store_true",
        help="leave out full.tflite, backbone and head in one file, which fastuq reads for its benchmark alone: of a "
        "large network the folder is half the size, and the same command without this makes it later",
    )
    add("--work", metavar="DIR", help="folder of checkpoints and features, to resume from (default: OUTPUT.work)")
    add("--threads", type=int, help="threads of the backbone (default: all)")
    add("--json", metavar="FILE", help="write what was done and measured as JSON (- for the screen)")


def _add_fitting(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--head", metavar="LAYOUT", help=f"layout of the head (default: the paper's, {PAPER_HEAD})")
    add("--preset", choices=("default", "paper"), default="default", help="recipe of training (default: %(default)s)")
    add("--unfreeze", type=int, default=0, metavar="N", help="fine-tune the last N blocks (default: %(default)s)")
    add("--epochs", type=int, help="epochs of the head (default: by preset)")
    add("--learning-rate", type=float, help="learning rate of the head (default: by preset)")
    add("--tune-epochs", type=int, help="epochs of the fine-tuning (default: by preset)")
    add("--tune-learning-rate", type=float, help="learning rate of the fine-tuning (default: by preset)")
    add("--mirror", action="store_true", help="train on every image mirrored left to right too (twice the work)")
    add(
        "--holdout", type=int, metavar="N", help="keep the last N training images apart and report the accuracy on them"
    )
    add(
        "--heads",
        type=int,
        default=1,
        metavar="K",
        help="heads to fit on the same features, each from a seed of its own, scored as one (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    from fastuq.errors import InputError

    if args.features is not None:
        return _on_features(args)
    if args.labels is not None:
        raise InputError("--labels: goes with --features; images bring their labels")
    return _on_images(args)


def _on_features(args: argparse.Namespace) -> int:
    from fastuq.cache import Features
    from fastuq.datasets.embeddings import open_embeddings
    from fastuq.training.import_report import features_lines
    from fastuq.training.train import PRESETS, overridden
    from fastuq.training.train_features import train_features
    from fastuq.util.files import write_json
    from fastuq.util.labels import read_class_names
    from fastuq.util.outputs import check_outputs

    work = args.work or f"{Path(args.output)}.work"
    check_outputs({"--json": args.json}, [args.features, args.labels, args.classes], [work], args.output)
    values, labels = open_embeddings(args.features, args.labels)
    model = train_features(
        Features.from_arrays(values, labels, name=f"file:{Path(args.features).name}"),
        args.output,
        work=work,
        head=args.head or PAPER_HEAD,
        recipe=overridden(PRESETS[args.preset][0], epochs=args.epochs, learning_rate=args.learning_rate),
        class_names=None if args.classes is None else read_class_names(args.classes),
        holdout=args.holdout or 0,
        seed=args.seed,
        heads=args.heads,
    )
    made = model.info["made"]
    say(args, [f"model {model.path}, SHA-256 {model.sha256}", *features_lines(made["report"])])
    if args.json:
        write_json(args.json, {"model_sha256": model.sha256, **made})
    return 0


def _on_images(args: argparse.Namespace) -> int:
    from fastuq.datasets import ImageSet, data_root, open_test_images
    from fastuq.errors import InputError
    from fastuq.training.finish_model import report_lines
    from fastuq.training.train import PRESETS, Plan, overridden, train
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    work = args.work or f"{Path(args.output)}.work"
    inputs = [args.data, args.test, args.weights, args.classes, data_root()]
    check_outputs({"--json": args.json}, inputs, [work], args.output)
    recipe, tune = PRESETS[args.preset]
    plan = Plan(
        network=args.network,
        weights=args.weights,
        network_size=args.network_size,
        head=args.head or PAPER_HEAD,
        unfreeze=args.unfreeze,
        recipe=overridden(recipe, epochs=args.epochs, learning_rate=args.learning_rate),
        tune=overridden(tune, epochs=args.tune_epochs, learning_rate=args.tune_learning_rate),
        mirror=args.mirror,
        seed=args.seed,
        heads=args.heads,
    )
    images = _images(args)
    test: ImageSet | None
    if args.holdout:
        if not 0 < args.holdout < len(images):
            raise InputError(f"--holdout: expected 1 to {len(images) - 1} images, found {args.holdout}")
        whole, kept = images, len(images) - args.holdout
        images, test = whole.subset(0, kept), whole.subset(kept, len(whole))
    else:
        test = open_test_images(args.test, images, on_error=args.on_error)
    model = train(plan, images, test, args.output, work=work, keep_full=not args.no_full, threads=args.threads)
    say(args, [f"model {model.path}, SHA-256 {model.sha256}", *report_lines(model.info["made"]["report"])])
    if args.json:
        write_json(args.json, {"model_sha256": model.sha256, **model.info["made"], **told(images)})
    return 0


def _images(args: argparse.Namespace) -> "ImageSet":
    """Return the training images; says of pictures in which size they are taken."""
    from fastuq.datasets import open_images
    from fastuq.errors import InputError
    from fastuq.training.networks import image_size_for
    from fastuq.util.labels import read_class_names
    from fastuq.util.text_numbers import image_size

    side = image_size_for(args.network, args.weights, args.network_size)
    size = (side, side) if args.image_size is None else image_size("--image-size", args.image_size)
    images = open_images(args.data, image_size=size, crop=args.crop, on_error=args.on_error)
    if args.classes is not None:
        images = images.named(names := read_class_names(args.classes))
        without = set(range(len(names))) - set([] if images.labels is None else images.labels.tolist())
        if without:
            raise InputError(
                f"--classes {args.classes}: {len(names)} names, but {len(without)} have no images, the first of them "
                f"{names[min(without)]!r}; give the names of the classes that are there"
            )
    tell(images)
    if images.prepared is not None:
        seen = "stretched" if args.crop is None else f"the middle of each ({args.crop:g})"
        say(args, [f"{images.name}: {len(images)} pictures in {size[0]} x {size[1]}, {seen}"])
    return images
