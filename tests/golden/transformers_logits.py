"""Logits of a checkpoint by transformers beside those of `autoglm logits`.

usage: transformers_logits.py AUTOGLM MODEL_DIR [MODEL_DIR ...]

Loads each checkpoint with AutoModelForCausalLM in fp32 (a quantized one
through the compressed-tensors package, which unpacks it), runs 2 x 48 ids
made from a fixed seed, and prints the largest absolute difference of the
logits. transformers_logits.txt keeps what it printed and how the checkpoints
were made.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM


def ours(program, model, ids):
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "ids"), Path(folder, "logits")
        save_file({"input_ids": ids}, source)
        subprocess.run([program, "--device", "cpu", "logits", model, "--input",
                        source, "--output", target], check=True,
                       stdout=subprocess.DEVNULL)
        return load_file(target)["logits"]


def theirs(model, ids):
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        return loaded(ids).logits


def main():
    program, *models = sys.argv[1:]
    torch.manual_seed(0)
    for model in models:
        vocabulary = json.loads(Path(model, "config.json").read_text())[
            "vocab_size"]
        ids = torch.randint(16, vocabulary, (2, 48))
        found, expected = ours(program, model, ids), theirs(model, ids)
        difference = (found - expected).abs().max().item()
        print(f"{model}: largest difference {difference:.2e} "
              f"of logits up to {expected.abs().max().item():.1f}")


if __name__ == "__main__":
    main()
