"""``fastuq demo``: the bundled images from pixels to decisions, and one image by the naive loop."""

import argparse

from fastuq.cli import say, screen_width
from fastuq.cli.scoring_options import add_scoring_options, scoring_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Cache the features of the 20 bundled CIFAR-100 images, score them, show what is kept and why, and time one "
        "image both ways: the naive loop, which runs the whole network in every iteration, and fastuq."
    )
    parser.add_argument("--model", metavar="DIR", help="model folder (default: the bundled one)")
    add_scoring_options(parser, ["num_iter"])
    parser.add_argument("--json", metavar="FILE", help="write summary and times as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    import tempfile
    import time
    from dataclasses import replace
    from pathlib import Path

    import numpy as np

    from fastuq.bench.one_image import time_one_image
    from fastuq.cache import cache_features
    from fastuq.datasets import open_images
    from fastuq.model.model import load_model
    from fastuq.report.samples import readable_rows, summary_lines
    from fastuq.scoring.scoring import score
    from fastuq.util.files import write_json
    from fastuq.util.outputs import check_outputs

    check_outputs({"--json": args.json}, [args.model])
    options = scoring_options(args)
    num_iter = options.sampling.num_iter
    model, images = load_model(args.model), open_images("bundled")
    model.check_one_head("demo")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with cache_features(images, model, Path(folder, "features.h5")) as cache:
            cached = time.perf_counter() - began
            result = score(model, cache, options)
    seconds = {**result.seconds, "features": cached, "total": cached + result.seconds["total"]}
    summary = replace(result, seconds=seconds).summary()
    times = time_one_image(model, np.ascontiguousarray(images.images[:1]), num_iter=num_iter)
    if args.json:
        write_json(args.json, {**summary, "one_image_ms": times})
    rows = readable_rows(result, model.class_names, screen_width())
    lines = summary_lines(summary, "bundled images", screen_width())
    say(args, [*rows, "", *lines, "", *_both_ways(num_iter, times)])
    return 0


def _both_ways(num_iter: int, times: dict[str, float]) -> list[str]:
    return [
        f"One image, T = {num_iter}, same moments both ways (largest difference {times['difference']:.0e}):",
        f"  naive loop {times['naive']:9.2f} ms   (backbone and head {num_iter} times)",
        f"  fastuq     {times['fast']:9.2f} ms   (backbone once, {times['head']:.2f} ms for the head): "
        f"{times['naive'] / times['fast']:.0f} times faster",
        f"  from cache {times['head']:9.2f} ms   (head alone): {times['naive'] / times['head']:.0f} times faster",
    ]
