"""``fastuq import``: a trained network becomes a quantized model folder."""

import argparse
from typing import TYPE_CHECKING

from fastuq.cli import CROP, add_on_error, say, tell, told

if TYPE_CHECKING:
    from fastuq.datasets import ImageSet

KERAS_DATA = "cifar100/train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("network", metavar="MODEL", help="from images to classes: a .keras or .h5 file of Keras, or an int8 .tflite")
    add(
        "--data",
        metavar="IMAGES",
        help=f"training images, values 0 to 255, to calibrate on (default: {KERAS_DATA}; a .tflite needs none)",
    )
    add(
        "--test",
        metavar="IMAGES",
        help="images to report the accuracy on (default: the test set of CIFAR-100 if --data is CIFAR-100; none: skip)",
    )
    add("--output", required=True, metavar="DIR", help="model folder to write")
    add(
        "--cut",
        metavar="LAYER",
        help="the head begins after this layer, or tensor of a .tflite (default: before the first dropout it can have)",
    )
    add(
        "--dropout",
        metavar="RATE[,RATE]",
        help="dropout before the last dense layers, in place of the network's own; a .tflite has none",
    )
    add("--rescale", metavar="FACTOR", help="multiply the pixels by this before the network, such as 1/255")
    add("--preprocess", metavar="NAME", help="what Keras calls preprocessing, before the network: tf, torch or caffe")
    add("--activation", choices=("softmax", "sigmoid"), help="what makes the logits of the network probabilities")
    add("--head", metavar="FILE", help=".tflite: a head of your own that follows --cut, in .npz")
    add(
        "--classes",
        "--labels",
        dest="classes",
        metavar="FILE",
        help="class names, one a line, in the order of the outputs (default: those of --data, else class_0, ...)",
    )
    add("--crop", type=float, metavar="FRACTION", help=CROP)
    add("--image-size", metavar="SIZE", help="of pictures in a folder, for a network that takes any: 224 or 224x320")
    add_on_error(parser)
    add("--threads", type=int, help="threads of the backbone (default: all)")
    add("--json", metavar="FILE", help="write what was found, sizes and accuracies as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from fastuq.errors import InputError

    is_tflite = args.network.endswith(".tflite")
    for name in ("test", "rescale", "preprocess", "image_size") if is_tflite else ("head",):
        if getattr(args, name) is not None:
            kind = "Keras networks" if is_tflite else ".tflite files"
            raise InputError(f"--{name.replace('_', '-')}: is for {kind} alone; leave it out")
    return _tflite(args) if is_tflite else _keras(args)


def _images(args: argparse.Namespace, data: str) -> "ImageSet":
    """Return images to calibrate on."""
    from fastuq.datasets import open_images

    images = open_images(data, crop=args.crop, on_error=args.on_error)
    tell(images)
    return images


def _tflite(args: argparse.Namespace) -> int:
    from fastuq.datasets import data_root
    from fastuq.training.import_tflite import import_tflite
    from fastuq.training.tflite_check import report_lines
    from fastuq.util.files import write_json
    from fastuq.util.labels import read_class_names
    from fastuq.util.outputs import check_outputs
    from fastuq.util.text_numbers import rates

    inputs = [args.network, args.data, args.head, args.classes, data_root()]
    check_outputs({"--json": args.json}, inputs, replaced=args.output)
    names = None if args.classes is None else read_class_names(args.classes)
    images = None if args.data is None else _images(args, args.data)
    model = import_tflite(
        args.network,
        args.output,
        dropout=None if args.dropout is None else rates("--dropout", args.dropout),
        cut=args.cut,
        head=args.head,
        class_names=names,
        activation=args.activation,
        images=images,
        crop=args.crop,
        threads=args.threads,
    )
    say(args, [f"model {model.path}, SHA-256 {model.sha256}", *report_lines(model.info["made"])])
    if args.json:
        write_json(args.json, {"model_sha256": model.sha256, **model.info["made"], **told(images)})
    return 0


def _keras(args: argparse.Namespace) -> int:
    from dataclasses import replace
    from pathlib import Path

    from fastuq.datasets import data_root, open_test_images
    from fastuq.training.finish_model import report_lines
    from fastuq.training.front import Front
    from fastuq.training.import_report import import_lines
    from fastuq.training.keras_file import check_file
    from fastuq.training.quantize_file import quantize_file
    from fastuq.training.wishes import Wishes
    from fastuq.util.checks import checked_path
    from fastuq.util.files import write_json
    from fastuq.util.labels import read_class_names
    from fastuq.util.outputs import check_outputs
    from fastuq.util.text_numbers import image_size, rates

    data = args.data or KERAS_DATA
    inputs = [args.network, data, args.test, args.classes, data_root()]
    check_outputs({"--json": args.json}, inputs, replaced=args.output)
    size = None if args.image_size is None else image_size("--image-size", args.image_size)
    dropout = None if args.dropout is None else rates("--dropout", args.dropout)
    front = Front(args.rescale, args.preprocess)
    wishes = Wishes(cut=args.cut, dropout=dropout, front=front, activation=args.activation)
    check_file(Path(checked_path(args.network)), wishes=wishes)
    names = None if args.classes is None else read_class_names(args.classes)
    images = _images(args, data)
    unnamed = replace(images, class_names=None)  # the classes are known once the network is read
    test = open_test_images(args.test, unnamed, on_error=args.on_error)
    model = quantize_file(
        args.network,
        images,
        test,
        args.output,
        wishes=wishes,
        class_names=names,
        image_size=size,
        crop=args.crop,
        threads=args.threads,
    )
    made = model.info["made"]
    say(
        args,
        [f"model {model.path}, SHA-256 {model.sha256}", *import_lines(made, model.head), *report_lines(made["report"])],
    )
    if args.json:
        write_json(args.json, {"model_sha256": model.sha256, **made, **told(images)})
    return 0
