#!/usr/bin/env python3
"""Importances, repairs and allocations of `structured_pruning`, and
`layer_removal`, as Markdown tables.

    bench/pruning_table.py WORK CALIBRATION EVALUATION \\
        [--trials build/release/bench/bench_pass_trials] \\
        [--model examples/glm-books] [--jobs 1] [--only REGEX] [--latency] [--kept]

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
    return kept(args, wanted)


def kept(args, wanted):
    files = {cell[0]: args.work / f"{cell[0]}.json" for cell in wanted}
    return {name: json.loads(file.read_text())
            for name, file in files.items() if file.exists()}


def kl(rows, name):
    row = rows.get(name)
    return "–" if row is None else f"{row['score']['kl']:.3f}"


def print_table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("| --- |" + " ---: |" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def print_divergences(rows):
    shares = [f"{share} %" for share in SHARES]
    for repair in REPAIRS:
        print(f"\nKL, nats, `repair: {repair}`:\n")
        print_table(["importance"] + shares, [
            [f"`{i}`"] + [kl(rows, f"{i}-{repair}-{s}") for s in SHARES]
            for i in IMPORTANCES])
    kinds = [(f"{i}, {a}, " + ("FFN and heads" if heads == "true" else "FFN"),
              f"{i}-{a}-{heads}")
             for i in ["activation", "obs"] for a in ALLOCATIONS[1:]
             for heads in ["false", "true"]]
    print("\nKL, nats, widths of their own per layer, `least_squares`:\n")
    print_table(["importance, allocation, cut"] + shares, [
        [text] + [kl(rows, f"{name}-{s}") for s in SHARES]
        for text, name in kinds
        if any(f"{name}-{s}" in rows for s in SHARES)])


def phase_text(row, phase):
    if "latency" not in row:
        return "–"
    before = row["latency_before"][phase]["median_ms"]
    after = row["latency"][phase]["median_ms"]
    return f"{before:.2f} to {after:.2f} ms, −{100 - 100 * after / before:.0f} %"


def print_runs(rows):
    print("\nEvery run:\n")
    latency = any("latency" in row for row in rows.values())
    print_table(
        ["run", "parameters", "KL, nats", "top-1", "perplexity", "pass"] +
        (["prefill", "decode"] if latency else []),
        [[f"`{name}`", f"{row['parameters'] / 1e6:.2f} M",
          f"{row['score']['kl']:.4f}",
          f"{100 * row['score']['top1_agreement']:.2f} %",
          f"{row['score']['perplexity']:.2f}", f"{row['seconds']:.0f} s"] +
         ([phase_text(row, "prefill"), phase_text(row, "decode")]
          if latency else [])
         for name, row in rows.items()])


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
    parser.add_argument("--kept", action="store_true",
                        help="run nothing, print what WORK has")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    wanted = [cell for cell in cells(args.model)
              if re.search(args.only, cell[0])]
    rows = kept(args, wanted) if args.kept else run(args, wanted)
    if not args.latency:
        print_divergences(rows)
    print_runs(rows)


if __name__ == "__main__":
    main()
