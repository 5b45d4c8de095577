"""``fastuq quantize``: a trained Keras network becomes a quantized model folder."""

import argparse

from fastuq.cli import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("network", metavar="FILE", help="a .keras file: backbone, average pooling, then dropout and dense layers")
    add(
        "--data",
        default="cifar100/train",
        metavar="IMAGES",
        help="training images to calibrate on (default: %(default)s)",
    )
    add(
        "--test",
        metavar="IMAGES",
        help="images to report the accuracy on (default: the test set of CIFAR-100 if --data is CIFAR-100; none: skip)",
    )
    add("--output", required=True, metavar="DIR", help="model folder to write")
    add("--threads", type=int, help="threads of the backbone (default: all)")
    add("--json", metavar="FILE", help="write sizes and accuracies as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from fastuq.datasets import data_root, open_images, open_test_images
    from fastuq.training.finish_model import report_lines
    from fastuq.training.quantize_file import quantize_file
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    check_outputs({"--json": args.json}, [args.network, args.data, args.test, data_root()], replaced=args.output)
    images = open_images(args.data)
    test = open_test_images(args.test, images)
    model = quantize_file(args.network, images, test, args.output, threads=args.threads)
    say(args, [f"model {model.path}, SHA-256 {model.sha256}", *report_lines(model.info["made"]["report"])])
    if args.json:
        write_json(args.json, {"model_sha256": model.sha256, **model.info["made"]})
    return 0
