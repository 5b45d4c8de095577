"""``fastuq reproduce``: the tables and figures of the paper beside ours."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fastuq.cli import say
from fastuq.cli.scoring_options import SCORING, add_scoring_options, scoring_options
from fastuq.util.defaults import TRAINED

if TYPE_CHECKING:
    from fastuq.model.model import Model
    from fastuq.paper.run import Reproduction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure every table and figure of the paper (arXiv 2403.01076) in its own sizes, from the bundled images, and "
        "set its values beside ours. The 100 images of Tables II to V are the first of the CIFAR-100 test set where it "
        "is there, else the bundled 20."
    )
    add = parser.add_argument
    add("--full", action="store_true", help="also on the whole test set and the 95 splits of CIFAR-100-C")
    add("--output", type=Path, default=Path("out/reproduce"), metavar="DIR", help="default: %(default)s")
    add("--model", metavar="DIR", help="model folder (default: the bundled one)")
    for network, name in TRAINED.items():
        add(
            f"--{network.replace('_', '-')}",
            metavar="DIR",
            help=f"model folder of that network of the paper (default: models/{name} in the data folder, or in that of "
            "the clone)",
        )
    add("--caches", type=Path, default=Path("out/cifar100c"), metavar="DIR", help="feature caches of --full")
    add_scoring_options(parser, (name for name in SCORING if name not in ("settle_error", "max_iter")))
    add("--threads", type=int, help="threads (default: all)")
    add("--json", metavar="FILE", help="write all figures there too, as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from fastuq.datasets import data_root
    from fastuq.datasets.corruptions import require_extra
    from fastuq.paper.run import reproduce
    from fastuq.report.plotting import require_plot
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    options = scoring_options(args)
    folders = _folders(args)
    outputs = {f"--output ({name})": args.output / name for name in _files(args, folders)}
    inputs = [args.model, *folders.values(), data_root(), *args.caches.glob("*.h5")]
    check_outputs({**outputs, "--json": args.json}, inputs, [args.caches])
    require_plot()
    require_extra()
    found = reproduce(
        _networks(args, folders), full=args.full, caches=args.caches, threads=args.threads, options=options
    )
    _write(found, args.output)
    if args.json:
        write_json(args.json, found.figures)
    written = f"written in {found.figures['seconds_total']:.0f} s, with its pictures"
    say(args, [f"{args.output / 'reproduction.md'}: {written}"])
    return 0


TITLES = {
    "wrong": "ignored clean images that the plain pass gets wrong",
    "right": "ignored clean images that the plain pass gets right",
    "severity-1": "ignored images of four corruptions, severity 1",
    "severity-5": "ignored images of four corruptions, severity 5",
}
_REPORT = ("reproduction.md", "reproduction.json", "seeds.png")


def _files(args: argparse.Namespace, folders: "dict[str, str | Path | None]") -> list[str]:
    """Return the names of all files that may be written."""
    options = [network.replace("_", "-") for network, folder in folders.items() if folder] + ["model"]
    return [
        *_REPORT,
        *(_picture(option, group) for option in options for group in TITLES),
        *(_splits(option) for option in options if args.full),
    ]


def _picture(option: str, group: str) -> str:
    return f"ignored-{option}-{group}.png"


def _splits(option: str) -> str:
    return f"cifar100c-{option}.csv"


def _write(found: "Reproduction", folder: Path) -> None:
    """Write the report, and the files of each network, named by the option that it came with."""
    from fastuq.paper.printed import EFFICIENTNET_B0, RESNET50
    from fastuq.paper.tables import reproduction_markdown
    from fastuq.report.plotting import disagreement_curve, image_grid
    from fastuq.report.tables import flat_row, write_csv
    from fastuq.util.files import write_json, write_text

    options = {RESNET50: "resnet50", EFFICIENTNET_B0: "efficientnet-b0"}
    shown = {}
    for name, groups in found.pictures.items():
        for group, title in TITLES.items():
            if groups[group]:
                file = _picture(options.get(name, "model"), group)
                image_grid(folder / file, groups[group], f"{name}: {title}")
                shown[f"{name}: {title}"] = file
    disagreement_curve(folder / "seeds.png", found.curves())
    shown["How many decisions differ between two seeds"] = "seeds.png"
    for name, splits in found.splits.items():
        if splits:
            rows = [flat_row(row) for row in splits]
            table = [[row.get(key) for key in rows[0]] for row in rows]
            write_csv(folder / _splits(options.get(name, "model")), list(rows[0]), table)
    write_json(folder / "reproduction.json", found.figures)
    write_text(folder / "reproduction.md", reproduction_markdown(found.figures, shown))


def _folders(args: argparse.Namespace) -> dict[str, str | Path | None]:
    """Return the model folder of each of the paper's networks, None where there is none."""
    from fastuq.bench.trained import trained_folder

    return {network: getattr(args, network) or trained_folder(network) for network in TRAINED}


def _networks(args: argparse.Namespace, folders: dict[str, str | Path | None]) -> "dict[str, Model | None]":
    """Return the paper's networks, None where there is no model of them, and ours last."""
    from fastuq.errors import InputError
    from fastuq.model.model import load_model
    from fastuq.paper.printed import EFFICIENTNET_B0, RESNET50

    networks: dict[str, Model | None] = {}
    for name, expected in ((RESNET50, "resnet50"), (EFFICIENTNET_B0, "efficientnet_b0")):
        folder = folders[expected]
        networks[name] = found = load_model(folder) if folder else None
        if found is not None and found.network != expected:
            raise InputError(f"{folder}: expected a model of network {expected}, found {found.network}")
    ours = load_model(args.model)
    for model in (ours, *networks.values()):
        if model is not None:
            model.check_one_head("reproduce")
    name = "EfficientNet-Lite0" if ours.network == "efficientnet_lite0" else ours.network
    networks[f"{name} (--model)" if name in networks else name] = ours
    return networks
