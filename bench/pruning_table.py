#!/usr/bin/env python3
"""Importances, repairs and allocations of `structured_pruning`, and
`layer_removal`, as Markdown tables.

    bench/pruning_table.py WORK CALIBRATION EVALUATION \\
        [--trials build/release/bench/bench_pass_trials] \\
        [--model examples/glm-books] [--jobs 1] [--only REGEX] [--latency]

One pass per cell (bench/pass_trials.cpp): 128 windows of 256 tokens of
CALIBRATION, measured over 200 windows of EVALUATION. FFN channels go until the
named share of the blocks' parameters is gone (target_parameters), widths
aligned to 8; cells named ffn-... cut the share of the FFN channels instead.
Cells whose result is in WORK already are not run again.
"""
import argparse
import json
import pathlib
import re
import struct
import subprocess

IMPORTANCES = ["random", "l1", "l2", "norm_gain", "activation", "fluctuation",
               "taylor", "fisher", "obs"]
SHARES = [10, 20, 30, 40, 50]
ORDER = [30, 40, 20, 50, 10]  # of the runs: what is asked for most comes first
REPAIRS = ["none", "bias", "least_squares"]
ALLOCATIONS = ["uniform", "global", "sensitivity"]


def parameters(model):
    """Of the blocks' matrices, and of everything, by the checkpoint's headers."""
    blocks = total = 0
    for file in model.glob("*.safetensors"):
        with open(file, "rb") as stream:
            header = json.loads(stream.read(struct.unpack(
                "<Q", stream.read(8))[0]))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            count = 1
            for size in entry["shape"]:
                count *= size
            total += count
            if ".layers." in name and len(entry["shape"]) == 2:
                blocks += count
    return blocks, total


def cells(model):
    """Name, pass and parameters of every cell."""
    blocks, total = parameters(model)
    for share in ORDER:
        target = round(total - blocks * share / 100)
        base = f"target_parameters: {target}, align: 8"
        for importance in IMPORTANCES:
            for repair in REPAIRS:
                yield (f"{importance}-{repair}-{share}", "structured_pruning",
                       f"{base}, heads: false, importance: {importance}, "
                       f"repair: {repair}")
        for importance in ["activation", "obs"]:
            for allocation in ALLOCATIONS[1:]:
                for heads in ["false", "true"]:
                    yield (f"{importance}-{allocation}-{heads}-{share}",
                           "structured_pruning",
                           f"{base}, heads: {heads}, importance: {importance}, "
                           f"allocation: {allocation}")
        for importance in ["random", "l1", "activation", "obs"]:
            for repair in ["none", "least_squares"]:
                yield (f"ffn-{importance}-{repair}-{share}",
                       "structured_pruning",
                       f"sparsity_ratio: {share / 100}, align: 8, heads: false,"
                       f" importance: {importance}, repair: {repair}")
    for count in [1, 2, 3]:
        for importance in ["kl", "block_influence", "contiguous", "random"]:
            yield (f"blocks-{importance}-{count}", "layer_removal",
                   f"count: {count}, importance: {importance}")
    for count in [2, 4]:
        yield (f"parts-kl-{count}", "layer_removal",
               f"count: {count}, unit: parts, importance: kl")


def run(args, wanted):
    """Runs what WORK lacks; the rows of all `wanted` cells by name."""
    missing = [cell for cell in wanted
               if not (args.work / f"{cell[0]}.json").exists()]
    processes = []
    for job in range(args.jobs):
        mine = missing[job::args.jobs]
        if not mine:
            continue
        config = args.work / f"cells-{job}.yaml"
        config.write_text(
            f"model: {args.model}\noutput: {args.work}/unused\n"
            "data:\n"
            f"  calibration: {{file: {args.calibration}, windows: 128, "
            "length: 256}\n"
            f"  evaluation: {{file: {args.evaluation}, windows: 200, "
            "length: 256}\ncompression:\n" + "".join(
                f"  - {{type: {kind}, name: {name}, params: {{{params}}}}}\n"
                for name, kind, params in mine))
        command = [args.trials, config, args.work, "--threads",
                   "1" if args.jobs > 1 else "2"]
        processes.append(subprocess.Popen(
            command + (["--latency"] if args.latency else [])))
    if any(process.wait() != 0 for process in processes):
        raise SystemExit("not all cells could be run")
    return {cell[0]: json.loads((args.work / f"{cell[0]}.json").read_text())
            for cell in wanted}


def kl(rows, name):
    row = rows.get(name)
    return "" if row is None else f"{row['score']['kl']:.3g}"


def print_tables(rows):
    for repair in REPAIRS:
        print(f"\nKL, nats, repair: {repair}\n")
        print("| importance | " + " | ".join(f"{s} %" for s in SHARES) + " |")
        print("| --- |" + " ---: |" * len(SHARES))
        for importance in IMPORTANCES:
            print(f"| {importance} | " + " | ".join(
                kl(rows, f"{importance}-{repair}-{s}") for s in SHARES) + " |")
    print("\n| importance | allocation | cut | " +
          " | ".join(f"{s} %" for s in SHARES) + " |")
    print("| --- | --- | --- |" + " ---: |" * len(SHARES))
    for importance in ["activation", "obs"]:
        print(f"| {importance} | uniform | FFN | " + " | ".join(
            kl(rows, f"{importance}-least_squares-{s}") for s in SHARES) + " |")
        for allocation in ALLOCATIONS[1:]:
            for heads in ["false", "true"]:
                names = [f"{importance}-{allocation}-{heads}-{s}"
                         for s in SHARES]
                part = "FFN and heads" if heads == "true" else "FFN"
                print(f"| {importance} | {allocation} | {part} | " +
                      " | ".join(kl(rows, n) for n in names) + " |")
    print("\n| run | parameters | KL, nats | top-1 | perplexity | pass |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, row in rows.items():
        score = row["score"]
        print(f"| {name} | {row['parameters'] / 1e6:.2f} M | "
              f"{score['kl']:.3g} | {100 * score['top1_agreement']:.2f} % | "
              f"{score['perplexity']:.3f} | {row['seconds']:.0f} s |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("calibration", type=pathlib.Path)
    parser.add_argument("evaluation", type=pathlib.Path)
    parser.add_argument("--trials", type=pathlib.Path,
                        default="build/release/bench/bench_pass_trials")
    parser.add_argument("--model", type=pathlib.Path,
                        default="examples/glm-books")
    parser.add_argument("--jobs", type=int, default=1,
                        help="processes side by side, with one thread each")
    parser.add_argument("--latency", action="store_true",
                        help="of both models as well; only with one job")
    parser.add_argument("--only", default="", metavar="REGEX",
                        help="cells by name, as obs-least_squares-30, "
                        "obs-sensitivity-true-40, blocks-kl-2, parts-kl-4")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    print_tables(run(args, [cell for cell in cells(args.model)
                            if re.search(args.only, cell[0])]))


if __name__ == "__main__":
    main()
