#!/usr/bin/env python3
"""Writes the calibration windows that autoglm takes from a text, for other tools.

    bench/calibration_ids.py MODEL TEXT OUT [--windows 128] [--length 256] \\
        [--prefix 4088,4090]

MODEL is a folder with a tokenizer.json, TEXT a UTF-8 file. OUT becomes a
safetensors file with one int64 tensor `ids` [windows, prefix + length]: windows
spread evenly over the text, as autoglm takes them, each after the prefix tokens
(of examples/glm-books: [gMASK] and <sop>).
Needs: tokenizers torch safetensors
"""
import argparse
import pathlib


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--windows", type=int, default=128)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--prefix", default="4088,4090")
    args = parser.parse_args()
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    text = args.text.read_bytes().decode("utf-8")
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    there = len(ids) // args.length
    count = min(args.windows, there)
    if count == 0:
        raise SystemExit(f"{args.text}: shorter than one window")
    prefix = [int(token) for token in args.prefix.split(",") if token]
    windows = []
    for i in range(count):
        begin = i * there // count * args.length
        windows.append(prefix + ids[begin:begin + args.length])
    save_file({"ids": torch.tensor(windows)}, args.out)


if __name__ == "__main__":
    main()
