"""``fastuq import``: a trained network becomes a quantized model folder."""

import argparse

from fastuq.cli import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("network", metavar="MODEL", help="a .keras or .h5 file of Keras, from images to classes")
    add(
        "--data",
        default="cifar100/train",
        metavar="IMAGES",
        help="training images, values 0 to 255, to calibrate on (default: %(default)s)",
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
        help="the head begins after this layer (default: before the first dropout it can have)",
    )
    add(
        "--dropout",
        metavar="RATE[,RATE]",
        help="dropout before the last dense layers, in place of the network's own",
    )
    add("--rescale", metavar="FACTOR", help="multiply the pixels by this before the network, such as 1/255")
    add("--preprocess", metavar="NAME", help="what Keras calls preprocessing, before the network: tf, torch or caffe")
    add("--activation", choices=("softmax", "sigmoid"), help="what makes the logits of the network probabilities")
    add("--threads", type=int, help="threads of the backbone (default: all)")
    add("--json", metavar="FILE", help="write what was found, sizes and accuracies as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from fastuq.datasets import data_root, open_images, open_test_images
    from fastuq.training.finish_model import report_lines
    from fastuq.training.front import Front
    from fastuq.training.import_report import import_lines
    from fastuq.training.keras_file import check_file
    from fastuq.training.quantize_file import quantize_file
    from fastuq.training.wishes import Wishes
    from fastuq.util.checks import checked_path
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs
    from fastuq.util.text_numbers import rates

    check_outputs({"--json": args.json}, [args.network, args.data, args.test, data_root()], replaced=args.output)
    wishes = Wishes(
        cut=args.cut,
        dropout=None if args.dropout is None else rates("--dropout", args.dropout),
        front=Front(args.rescale, args.preprocess),
        activation=args.activation,
    )
    check_file(Path(checked_path(args.network)), wishes=wishes)
    images = open_images(args.data)
    test = open_test_images(args.test, images)
    model = quantize_file(args.network, images, test, args.output, wishes=wishes, threads=args.threads)
    made = model.info["made"]
    say(
        args,
        [f"model {model.path}, SHA-256 {model.sha256}", *import_lines(made, model.head), *report_lines(made["report"])],
    )
    if args.json:
        write_json(args.json, {"model_sha256": model.sha256, **made})
    return 0
