"""``fastuq info``: what a file or folder that fastuq made is."""

import argparse

from fastuq.cli import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Say what a file or folder that fastuq made is, of which model and data, its shapes, how it was made, and "
        "whether it is whole: a model folder, a feature cache or a folder of them, a head, moments, tables, figures, a "
        "page, a promise. The status is 1 where it is not whole. Features are counted, not read: `fastuq cache verify` "
        "reads them. CSV, other JSON and pages have no checksums: whole says that none of them is cut or has more at "
        "its end."
    )
    parser.add_argument("file", metavar="FILE", help="a file or a folder")
    parser.add_argument("--json", metavar="FILE", help="write what is said as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    from fastuq.report.about import about
    from fastuq.report.about_lines import about_lines
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    check_outputs({"--json": args.json}, [args.file])
    said = about(args.file)
    if args.json:
        write_json(args.json, said)
    say(args, about_lines(said))
    return 0 if said["whole"] else 1
