#!/usr/bin/env python3
"""Every method of the pass `quantization` at every width, as a Markdown table.

    bench/quantization_table.py WORK CALIBRATION EVALUATION \\
        [--autoglm build/release/apps/autoglm/autoglm] [--bits 8 4 3 2] \\
        [--model examples/glm-books] [--methods rtn gptq ...] \\
        [--folds awq] [--activations static]

One run of `autoglm compress` per row, one after the other: 128 windows of 256
tokens of CALIBRATION, measured over 200 windows of EVALUATION; head and
embedding stay as they are; symmetric groups of 64, at 8 bits whole rows. Rows
whose record is in WORK already are not run again. Seconds are the pass's own,
memory the largest resident size of the whole run.
"""
import argparse
import json
import os
import pathlib
import subprocess

METHODS = {
    "rtn": "method: rtn",
    "mse": "method: mse",
    "gptq": "method: gptq",
    "adaquant, layer": "method: adaquant, mode: layer",
    "adaquant, block": "method: adaquant, mode: block",
}


def run(args, bits, method):
    """The record of one row, with the peak memory in bytes."""
    name = f"w{bits}-" + method.replace(", ", "-")
    more = ""
    for option in ("folds", "activations"):
        value = getattr(args, option)
        if value != "none":
            name += f"-{value}"
            more += f", {option}: {value}"
    kept = args.work / f"{name}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    group = "" if bits == 8 else ", group_size: 64"
    config = args.work / f"{name}.yaml"
    config.write_text(f"""\
model: {args.model.resolve()}
output: {args.work.resolve()}/{name}
data:
  calibration: {{file: {args.calibration.resolve()}, windows: 128, length: 256}}
  evaluation: {{file: {args.evaluation.resolve()}, windows: 200, length: 256}}
compression:
  - type: quantization
    params: {{bits: {bits}{group}, {METHODS[method]}{more}, head_bits: 0, embedding_bits: 0}}
""")
    child = subprocess.Popen([args.autoglm, "-q", "compress", config, "--force",
                              "--fresh"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        raise SystemExit(f"{name}: autoglm failed")
    record = json.loads(
        (args.work / name / "autoglm" / "record.json").read_text())
    step = record["steps"][0]
    row = {"score": step["after"]["scorecard"], "seconds": step["seconds"],
           "memory": usage.ru_maxrss * 1024,
           "bits": bits_per_weight(step["after"]["linears"])}
    kept.write_text(json.dumps(row))
    return row


def bits_per_weight(linears):
    """Of the matrices of the blocks, scales counted."""
    mine = [entry for entry in linears if entry["name"].startswith("layers.")]
    return (8 * sum(entry["bytes"] for entry in mine) /
            sum(entry["out"] * entry["in"] for entry in mine))


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
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4, 3, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS),
                        choices=METHODS)
    parser.add_argument("--folds", default="none",
                        choices=["none", "awq", "smoothquant"])
    parser.add_argument("--activations", default="none",
                        choices=["none", "dynamic", "static"])
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    print("| bits | method | bits per weight | KL, nats | per `rtn` | top-1 | "
          "perplexity | pass | memory |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for bits in args.bits:
        nearest = None
        for method in args.methods:
            row = run(args, bits, method)
            score = row["score"]
            nearest = nearest or score["kl"]
            print(f"| {bits} | {method} | {row['bits']:.3f} | "
                  f"{score['kl']:.3g} | {score['kl'] / nearest:.3f} | "
                  f"{100 * score['top1_agreement']:.2f} % | "
                  f"{score['perplexity']:.3f} | {row['seconds']:.0f} s | "
                  f"{row['memory'] / 1e6:.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
