#!/usr/bin/env python3
"""Importances, repairs and allocations of `structured_pruning`, and
`layer_removal`, as Markdown tables.

    bench/pruning_table.py WORK CALIBRATION EVALUATION \\
        [--autoglm build/release/apps/autoglm/autoglm] \\
        [--model examples/glm-books] [--jobs 1] [--only REGEX]

One run of `autoglm compress` per cell: 128 windows of 256 tokens of
CALIBRATION, measured over 200 windows of EVALUATION. FFN channels go until the
named share of the blocks' parameters is gone (target_parameters), widths
aligned to 8. Cells whose record is in WORK already are not run again.
"""
import argparse
import concurrent.futures
import json
import pathlib
import re
import subprocess

IMPORTANCES = ["random", "l1", "l2", "norm_gain", "activation", "fluctuation",
               "taylor", "fisher", "obs"]
SHARES = [10, 20, 30, 40, 50]
ORDER = [30, 40, 20, 50, 10]  # of the runs: what is asked for most comes first
REPAIRS = ["none", "bias", "least_squares"]
ALLOCATIONS = ["uniform", "global", "sensitivity"]


def compress(args, name, kind, params):
    """The row of one run; kept in WORK."""
    kept = args.work / f"{name}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    config = args.work / f"{name}.yaml"
    config.write_text(f"""\
model: {args.model.resolve()}
output: {args.work.resolve()}/{name}
data:
  calibration: {{file: {args.calibration.resolve()}, windows: 128, length: 256}}
  evaluation: {{file: {args.evaluation.resolve()}, windows: 200, length: 256}}
compression:
  - type: {kind}
    params: {{{params}}}
""")
    subprocess.run([args.autoglm, "-q", "--threads", "1" if args.jobs > 1 else
                    "2", "compress", config, "--force", "--fresh"],
                   stdout=subprocess.DEVNULL, check=True)
    record = json.loads(
        (args.work / name / "autoglm" / "record.json").read_text())
    step = record["steps"][0]
    row = {"score": step["after"]["scorecard"], "seconds": step["seconds"],
           "parameters": step["after"]["parameters"],
           "before": record["before"]["parameters"],
           "ffn": [block["ffn"] for block in step["after"]["blocks"]],
           "heads": [block["query_heads"] for block in step["after"]["blocks"]]}
    kept.write_text(json.dumps(row))
    return row


def cells(args):
    """Name, pass and parameters of every cell."""
    model = json.loads(subprocess.run(
        [args.autoglm, "inspect", args.model, "--json"], check=True,
        capture_output=True).stdout)
    total = model["parameters"]
    blocks = sum(linear["out"] * linear["in"] for linear in model["linears"]
                 if linear["name"].startswith("layers."))
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
    for count in [1, 2, 3]:
        for importance in ["kl", "block_influence", "contiguous", "random"]:
            yield (f"blocks-{importance}-{count}", "layer_removal",
                   f"count: {count}, importance: {importance}")
    for count in [2, 4]:
        yield (f"parts-kl-{count}", "layer_removal",
               f"count: {count}, unit: parts, importance: kl")


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
    parser.add_argument("--autoglm", type=pathlib.Path,
                        default="build/release/apps/autoglm/autoglm")
    parser.add_argument("--model", type=pathlib.Path,
                        default="examples/glm-books")
    parser.add_argument("--jobs", type=int, default=1,
                        help="runs side by side, with one thread each")
    parser.add_argument("--only", default="", metavar="REGEX",
                        help="cells by name, as obs-least_squares-30, "
                        "obs-sensitivity-true-40, blocks-kl-2, parts-kl-4")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    wanted = [cell for cell in cells(args) if re.search(args.only, cell[0])]
    rows = {}
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        runs = {cell[0]: pool.submit(compress, args, cell[0], *cell[1:])
                for cell in wanted}
        for name, run in runs.items():
            rows[name] = run.result()
    print_tables(rows)


if __name__ == "__main__":
    main()
