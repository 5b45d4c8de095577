"""``fastuq import``: a trained network that is there already becomes a model folder."""

import argparse

from fastuq.cli import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Cut an int8 .tflite classifier at its last dense layers: they become the head, as they are; what comes before "
        "is the backbone. A .tflite holds no dropout, so --dropout says where it acts."
    )
    add = parser.add_argument
    add("network", metavar="FILE", help="a .tflite file with int8 or uint8 activations")
    add("--output", required=True, metavar="DIR", help="model folder to write")
    add("--dropout", metavar="RATE[,RATE]", help="rate before each of the last dense layers; they are the head")
    add("--cut", metavar="TENSOR", help="cut after this tensor instead, and go on with --head")
    add("--head", metavar="FILE", help="a head of your own in .npz, as fastuq.save_head writes it")
    add("--labels", metavar="FILE", help="class names, one a line (default: those of --data, else class_0, ...)")
    add("--activation", choices=("softmax", "sigmoid"), help="what follows logits, where the file ends in them")
    add("--data", metavar="IMAGES", help="images like those of the training; with labels, the accuracy is printed")
    add("--threads", type=int, help="threads of the backbone (default: all)")
    add("--json", metavar="FILE", help="write what was found as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from fastuq.datasets import data_root
    from fastuq.training.import_tflite import import_tflite
    from fastuq.training.tflite_check import report_lines
    from fastuq.util.files import write_json
    from fastuq.util.labels import read_class_names
    from fastuq.util.outputs import check_outputs

    inputs = [args.network, args.data, args.head, args.labels, data_root()]
    check_outputs({"--json": args.json}, inputs, replaced=args.output)
    model = import_tflite(
        args.network,
        args.output,
        dropout=_rates(args.dropout),
        cut=args.cut,
        head=args.head,
        class_names=None if args.labels is None else read_class_names(args.labels),
        activation=args.activation,
        images=args.data,
        threads=args.threads,
    )
    say(args, [f"model {model.path}, SHA-256 {model.sha256}", *report_lines(model.info["made"])])
    if args.json:
        write_json(args.json, {"model_sha256": model.sha256, **model.info["made"]})
    return 0


def _rates(text: str | None) -> list[float] | None:
    from fastuq.errors import InputError

    try:
        return None if text is None else [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"--dropout {text}: expected rates such as 0.2 or 0.2,0.4") from None
