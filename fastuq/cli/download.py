"""``fastuq download``: fetch CIFAR-100, CIFAR-100-C, images of other kinds, or a trained model."""

import argparse
from pathlib import Path

from fastuq.cli import say

_MEGABYTES = {
    "cifar100": 169,
    "cifar100c": 2918,
    "cifar10": 170,
    "mnist": 2,
    "svhn": 64,
    "textures": 625,
    "places365": 525,
    "tiny-imagenet": 248,
    "resnet50-cifar100": 27,
    "efficientnet-b0-cifar100": 7,
}
_SIZES = ", ".join(f"{name} ({size:,} MB)" for name, size in _MEGABYTES.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Fetch a data set or a trained model, check it against the published checksums, and unpack it into the data "
        "folder, a model below models. Models come from the address of a folder in FASTUQ_RELEASES, until there are "
        "releases. "
        "A broken transfer goes on where it was when the command is run again."
    )
    parser.add_argument("dataset", choices=tuple(_MEGABYTES), help=_SIZES)
    parser.add_argument("--output", type=Path, help="data folder (default: $FASTUQ_DATA, else data)")
    parser.add_argument("--url", help="another address of the same file")
    parser.add_argument("--json", type=Path, help="write what was done as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from fastuq.datasets.download import download
    from fastuq.datasets.opening import data_root
    from fastuq.datasets.published import ARCHIVES
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    archive = ARCHIVES[args.dataset]
    root = args.output or data_root()
    folder = root / archive.folder
    made, model = [root / archive.file, root / f"{archive.file}.part"], folder if archive.is_model else None
    check_outputs({"--json": args.json}, [root], made if model else [*made, folder], model)
    fetched = download(archive, root, url=args.url)
    say(args, [f"{folder}: {'fetched and checked' if fetched else 'already there'}"])
    if args.json:
        write_json(args.json, {"dataset": archive.name, "folder": str(folder), "fetched": fetched})
    return 0
