#!/usr/bin/env python3
"""Quantizes a checkpoint with another tool, to compare it with autoglm.

    bench/rivals.py TOOL MODEL CALIBRATION_IDS OUT \\
        --bits 4 --group-size 64 [--asymmetric]

TOOL is one of
    autoround  auto-round, default settings; --iterations 1000 is its best
               preset
    gptq       llm-compressor, GPTQModifier, default settings
    awq        llm-compressor, AWQModifier and QuantizationModifier, default
               settings
    rtn        llm-compressor, QuantizationModifier alone: nearest rounding

MODEL is a folder transformers can read. CALIBRATION_IDS is a safetensors file
with one int64 tensor `ids` [windows, length], prefix tokens included. Every
linear layer of the blocks is quantized; embedding and head are not. OUT, a new
folder, becomes a dense fp32 checkpoint that holds code times scale without
further rounding:

    autoglm eval OUT --reference MODEL --data TEXT

The last line printed is one JSON object: settings, versions, seconds.
Needs: torch transformers safetensors auto-round llmcompressor
"""
import argparse
import importlib.metadata
import json
import os
import pathlib
import shutil
import time

PACKAGES = ("torch", "transformers", "auto-round", "llmcompressor",
            "compressed-tensors")
WINDOWS_AT_A_TIME = 8  # auto-round's default batch


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tool", choices=("autoround", "gptq", "awq", "rtn"))
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("calibration_ids", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--asymmetric", action="store_true")
    parser.add_argument("--iterations", type=int, default=200,
                        help="autoround: steps per block")
    parser.add_argument("--fp32", action="store_true",
                        help="compute in fp32, not as the tool would "
                             "(autoround: bf16 autocast; others: the "
                             "checkpoint's dtype)")
    parser.add_argument("--eager", action="store_true",
                        help="autoround: no torch.compile")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def block_linears(model):
    """The (name, module) pairs that are quantized."""
    import torch
    return [(name, module) for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and ".layers." in name]


def dequantize(weight, scale, zero, lowest, bits, group_size):
    """The point of the grid nearest to a weight, and how far off it was.

    weight [out, in] of any dtype; scale and zero [out, in / group_size]; codes
    go from `lowest` to `lowest` + 2^bits - 1. Returns fp32 [out, in] and the
    largest distance in steps.
    """
    groups = weight.float().unflatten(1, (-1, group_size))
    scale = scale.float().unsqueeze(-1)
    zero = zero.float().unsqueeze(-1)
    codes = (groups / scale + zero).round().clamp(lowest, lowest + 2**bits - 1)
    dense = (codes - zero) * scale
    distance = ((groups - dense) / scale).nan_to_num(0).abs().max().item()
    return dense.nan_to_num(0).flatten(1), distance


def check_on_grid(name, distance, bits):
    # The tools leave code times scale in bf16, whose 8 bits move the furthest
    # of 2^bits codes by up to 2^(bits - 9) steps.
    if distance > 2.0 ** (bits - 8):
        raise SystemExit(f"{name}: a weight lies {distance:.3f} steps off its "
                         "grid; this tool's output is not understood")


def run_autoround(model, ids, args):
    import torch
    from auto_round import AutoRound
    from transformers import AutoTokenizer
    eager = {"enable_torch_compile": False} if args.eager else {}
    rounder = AutoRound(
        model, AutoTokenizer.from_pretrained(args.model), scheme="W4A16",
        bits=args.bits, group_size=args.group_size, sym=not args.asymmetric,
        iters=args.iterations, batch_size=WINDOWS_AT_A_TIME,
        seqlen=ids.shape[1], nsamples=ids.shape[0], amp=not args.fp32,
        dataset=torch.utils.data.DataLoader(ids, batch_size=WINDOWS_AT_A_TIME),
        device_map="cpu", **eager)
    began = time.perf_counter()
    model, _ = rounder.quantize()
    seconds = time.perf_counter() - began
    note = {"autocast": bool(rounder.model_context.amp),
            "dtype": str(rounder.model_context.amp_dtype),
            "compiled": bool(rounder.compress_context.enable_torch_compile)}
    dense = {}
    for name, module in block_linears(model):
        zero = torch.as_tensor(module.zp).expand_as(module.scale)
        dense[name], distance = dequantize(
            module.weight.detach(), module.scale, zero, 0, args.bits,
            args.group_size)
        check_on_grid(name, distance, args.bits)
    return model, dense, seconds, note


def llmcompressor_recipe(args):
    from compressed_tensors.quantization import (QuantizationArgs,
                                                 QuantizationScheme)
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQMapping, AWQModifier
    weights = QuantizationArgs(num_bits=args.bits, type="int", strategy="group",
                               group_size=args.group_size,
                               symmetric=not args.asymmetric)
    scheme = dict(ignore=["lm_head"], config_groups={
        "blocks": QuantizationScheme(targets=["Linear"], weights=weights)})
    if args.tool == "gptq":
        return [GPTQModifier(**scheme)]
    if args.tool == "rtn":
        return [QuantizationModifier(**scheme)]
    # It has no entry for `glm`. This is its default with gate and up in one
    # matrix, as it has it for Phi-3; value and output do not fit together where
    # heads share values.
    mappings = [
        AWQMapping("re:.*input_layernorm$",
                   ["re:.*q_proj$", "re:.*k_proj$", "re:.*v_proj$"]),
        AWQMapping("re:.*v_proj$", ["re:.*o_proj$"]),
        AWQMapping("re:.*post_attention_layernorm$", ["re:.*gate_up_proj$"]),
        AWQMapping("re:.*gate_up_proj$", ["re:.*down_proj$"])]
    return [AWQModifier(mappings=mappings), QuantizationModifier(**scheme)]


def run_llmcompressor(model, ids, args):
    import datasets
    import torch
    from llmcompressor import oneshot
    from llmcompressor.pipelines.cache import IntermediatesCache
    if not torch.accelerator.is_available():
        # AWQModifier pins memory for a GPU even where there is none, and fails.
        IntermediatesCache.pin_memory = lambda *unused: None
    data = datasets.Dataset.from_dict({
        "input_ids": ids.tolist(),
        "attention_mask": [[1] * ids.shape[1]] * ids.shape[0]})
    recipe = llmcompressor_recipe(args)
    began = time.perf_counter()
    oneshot(model=model, dataset=data, recipe=recipe,
            batch_size=WINDOWS_AT_A_TIME, max_seq_length=ids.shape[1],
            num_calibration_samples=ids.shape[0])
    seconds = time.perf_counter() - began
    dense = {}
    for name, module in block_linears(model):
        dense[name], distance = dequantize(
            module.weight.detach(), module.weight_scale.detach(),
            module.weight_zero_point.detach(), -2 ** (args.bits - 1), args.bits,
            args.group_size)
        if args.tool == "gptq":  # the others leave the rounding to the export
            check_on_grid(name, distance, args.bits)
    return model, dense, seconds, {"dtype": str(model.dtype)}


def write(model, dense, args):
    """A dense fp32 checkpoint with MODEL's tokenizer."""
    from safetensors.torch import load_file, save_file
    wanted = set()
    for file in args.model.glob("*.safetensors"):
        wanted |= set(load_file(file))
    state = {}
    for key, value in model.state_dict().items():
        if key in wanted:
            value = dense.get(key.removesuffix(".weight"), value)
            state[key] = value.detach().float().contiguous()
    if set(state) != wanted:
        raise SystemExit(f"missing: {sorted(wanted - set(state))}")
    args.out.mkdir(parents=True)
    save_file(state, args.out / "model.safetensors", {"format": "pt"})
    config = json.loads((args.model / "config.json").read_text())
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"
    (args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json",
                 "generation_config.json"):
        if (args.model / name).exists():
            shutil.copy(args.model / name, args.out / name)


def main():
    args = parse_arguments()
    if args.out.exists():
        raise SystemExit(f"{args.out}: already there")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    began = time.perf_counter()
    import torch
    import transformers
    from safetensors.torch import load_file
    torch.set_num_threads(args.threads)
    ids = load_file(args.calibration_ids)["ids"]
    dtype = torch.float32 if args.fp32 else "auto"
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model,
                                                             dtype=dtype)
    names = [name for name, _ in block_linears(model)]
    run = run_autoround if args.tool == "autoround" else run_llmcompressor
    model, dense, seconds, note = run(model, ids, args)
    if sorted(dense) != sorted(names):
        raise SystemExit(f"quantized {len(dense)} of {len(names)} matrices")
    total = time.perf_counter() - began
    write(model, dense, args)
    print(json.dumps({
        "tool": args.tool, "bits": args.bits, "group_size": args.group_size,
        "symmetric": not args.asymmetric, "iterations":
            args.iterations if args.tool == "autoround" else None,
        "threads": torch.get_num_threads(), **note,
        "seconds": round(seconds, 2),
        "seconds_with_imports_and_loading": round(total, 2),
        "versions": {name: importlib.metadata.version(name)
                     for name in PACKAGES}}))


if __name__ == "__main__":
    main()
