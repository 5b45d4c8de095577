"""``fastuq corrupt``: make CIFAR-100-C from the CIFAR-100 test images."""

import argparse
from pathlib import Path

from fastuq.cli import say
from fastuq.util.defaults import JOBS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make CIFAR-100-C (19 corruptions, 5 severities) from the CIFAR-100 test images, in the published layout. "
        "A run that was stopped goes on where it was; every file appears whole or not at all."
    )
    parser.add_argument("--output", type=Path, help="folder to write to (default: CIFAR-100-C in the data folder)")
    parser.add_argument("--corruptions", help="names, separated by commas (default: all)")
    parser.add_argument("--severities", default="1,2,3,4,5", help="fewer than five: a file per severity, NAME-s.npy")
    parser.add_argument("--images", default="cifar100", help="images to corrupt (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=JOBS, help="processes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (default: %(default)s)")
    parser.add_argument("--verify", action="store_true", help="make nothing: compare with the published checksums")
    parser.add_argument("--contact-sheet", type=Path, metavar="PNG", help="make nothing but one picture of all")
    parser.add_argument("--json", type=Path, help="write what was done as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from fastuq.datasets.opening import data_root
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    output = args.output or data_root() / "CIFAR-100-C"
    outputs = {"--contact-sheet": args.contact_sheet, "--json": args.json}
    only_read = args.verify or args.contact_sheet
    check_outputs(outputs, [args.images, output, data_root()], [] if only_read else [output])
    if args.verify:
        report, status = _verify(args, output)
    else:
        report, status = (_sheet(args) if args.contact_sheet else _make(args, output)), 0
    if args.json:
        write_json(args.json, report)
    return status


def _make(args: argparse.Namespace, output: Path) -> dict:
    import time

    from fastuq.datasets import open_images
    from fastuq.datasets.corruptions import CORRUPTIONS, SEVERITIES
    from fastuq.datasets.corruptions.generate import generate
    from fastuq.datasets.published import CIFAR100C
    from fastuq.errors import InputError

    names = tuple(args.corruptions.split(",")) if args.corruptions else CIFAR100C
    unknown = [name for name in names if name not in CORRUPTIONS]
    if unknown:
        raise InputError(f"no corruption {unknown[0]!r}; there are {', '.join(CORRUPTIONS)}")
    severities = tuple(args.severities.split(","))
    if not set(severities) <= {str(level) for level in SEVERITIES}:
        raise InputError(f"--severities {args.severities}: expected numbers 1 to 5, separated by commas")
    start = time.monotonic()
    images = open_images(args.images)
    levels = tuple(int(level) for level in severities)
    done = generate(images, output, corruptions=names, severities=levels, seed=args.seed, jobs=args.jobs)
    seconds = time.monotonic() - start
    counts = f"{len(done['made'])} files made, {len(done['kept'])} were there already"
    say(args, [f"{output}: {counts}, {seconds:.0f} s"])
    return {**done, "output": str(output), "seed": args.seed, "images": images.name, "seconds": round(seconds, 3)}


def _sheet(args: argparse.Namespace) -> dict:
    import numpy as np

    from fastuq.datasets.corruptions.sheet import contact_sheet
    from fastuq.datasets.opening import load_bundled

    contact_sheet(np.asarray(load_bundled().images)[[0, 12]], args.contact_sheet, seed=args.seed)
    say(args, [f"wrote {args.contact_sheet}"])
    return {"contact_sheet": str(args.contact_sheet), "seed": args.seed}


def _verify(args: argparse.Namespace, output: Path) -> tuple[dict, int]:
    from fastuq.datasets.corruptions.verify import verify
    from fastuq.datasets.opening import data_root

    report = verify(output, data_root() / "cifar-100-python" / "test")
    lines = [f"{name:18} {state}" for name, state in report["files"].items()]
    if "made here" in report["files"].values():
        lines.append("made here: as `fastuq corrupt` wrote it; random corruptions never equal the published draws.")
        if not report["source_published"]:
            lines.append("The CIFAR-100 test file here is not the published one: no file made from it equals theirs.")
    say(args, lines)
    return report, 0 if report["ok"] else 1
