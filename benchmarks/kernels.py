"""Each kernel by itself: time per sample over head layouts, numbers of samples and of iterations, and share of peak.

    python benchmarks/kernels.py [--kinds int8.shared ...] [--heads paper ...] [--samples 1 64 ...] [--json FILE]

Masks are drawn and heads packed once, outside of what is timed, unlike in `fastuq bench`: here it is the kernels that
count. The lowest of the rounds is shown, which another load on the machine disturbs least.
"""

import argparse
from functools import partial
from pathlib import Path

from fastuq.bench.heads import KINDS, kernel_of, random_features, random_model_of, shared_operations
from fastuq.bench.peak import int8_peak
from fastuq.bench.timing import Side, interleave
from fastuq.util.files import write_json

HEADS = {
    "paper": (2048, ((0.2, 300, "relu"), (0.4, 100, "sigmoid"))),
    "lite0": (1280, ((0.2, 300, "relu"), (0.4, 100, "sigmoid"))),
    "awkward": (1283, ((0.5, 77, "relu"), (0.1, 10, "softmax"))),
    "one block": (1280, ((0.2, 1000, "softmax"),)),
    "dense": (1280, ((0.7, 512, "relu"), (0.7, 100, "sigmoid"))),
    "deep": (512, ((0.1, 256, "relu"), (0.3, 256, "linear"), (0.5, 256, "sigmoid"), (0.2, 100, "softmax"))),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--samples", nargs="+", type=int, default=[1, 64, 2048])
    parser.add_argument("--iterations", nargs="+", type=int, default=[50])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for name in args.heads:
        width, blocks = HEADS[name]
        model, features = random_model_of(width, blocks), random_features(max(args.samples), width)
        for num_iter in args.iterations:
            runs = {kind: kernel_of(model, kind, num_iter) for kind in args.kinds}
            sides = {
                f"{kind} {n}": Side(partial(run, features[:n]), n) for kind, run in runs.items() for n in args.samples
            }
            timings = interleave(sides, args.rounds)
            peak = int8_peak(next(iter(runs.values())).threads)
            for side, timing in timings.items():
                kind, n = side.split()
                needed = shared_operations(model.head, num_iter)
                share = needed / (timing.low / 1e3) / peak if kind == "int8.shared" else None
                row = {"head": name, "kind": kind, "num_iter": num_iter, "n": int(n), "ms_per_sample": timing.low}
                rows.append({**row, "share_of_peak": share})
                shown = "" if share is None else f"  {share:4.0%} of peak"
                print(
                    f"{name:10} {kind:19} T = {num_iter:<5} N = {n:>5}  {timing.low:.5f} ms/sample{shown}", flush=True
                )
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    main()
