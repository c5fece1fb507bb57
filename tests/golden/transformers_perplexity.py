"""Perplexity of a GLM checkpoint by transformers, for `autoglm eval` to match.

usage: transformers_perplexity.py MODEL_DIR TEXT_FILE [--windows N [N ...]]
                                  [--length T] [--batch B] [--threads N]

The text is encoded whole by the `tokenizers` library and cut from its start
into windows of T text tokens, each behind the tokens that the tokenizer's
post-processor puts before a text ([gMASK]<sop>). The prefix is never
predicted, every text token is. Weights and arithmetic are fp32, sums fp64.
Prints a JSON document on stdout with one entry per N, and a line per entry on
stderr; transformers_perplexity.json and .txt keep both, made in the
repository's root by

    python tests/golden/transformers_perplexity.py examples/glm-books \\
        examples/data/evaluation.txt --windows 20 200
"""
import argparse
import json
import math
import os
import sys

# Everything is read from MODEL_DIR; nothing is looked up elsewhere.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer
from transformers import GlmForCausalLM


def byte_counts(tokenizer, ids, text):
    """UTF-8 bytes that each id stands for.

    A byte-level BPE writes one character per byte, so a token's length is its
    byte count; the total must then be the text's.
    """
    counts = [len(tokenizer.id_to_token(i)) for i in ids]
    if sum(counts) != len(text.encode("utf-8")):
        sys.exit("the tokens' bytes do not add up to the text's: the "
                 "tokenizer is not byte-level, or the text holds added tokens")
    return counts


def main():
    parser = argparse.ArgumentParser(
        usage=__doc__.split("usage: ")[1])
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--windows", type=int, nargs="+", default=[200])
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    tokenizer = Tokenizer.from_file(os.path.join(args.model, "tokenizer.json"))
    with open(args.text, encoding="utf-8", newline="") as file:
        text = file.read()
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    sizes = byte_counts(tokenizer, ids, text)
    prefix = tokenizer.encode("", add_special_tokens=True).ids
    if not prefix:
        sys.exit("the tokenizer puts no prefix before a text")
    wanted = sorted(set(args.windows))
    if wanted[0] < 1 or wanted[-1] * args.length > len(ids):
        sys.exit(f"between 1 and {len(ids) // args.length} windows of "
                 f"{args.length} tokens fit into the text")

    model = GlmForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    model.eval()
    nll = []   # per window
    hits = []
    with torch.no_grad():
        for begin in range(0, wanted[-1], args.batch):
            end = min(begin + args.batch, wanted[-1])
            body = torch.tensor(ids[begin * args.length:end * args.length])
            body = body.view(end - begin, args.length)
            head = torch.tensor(prefix).expand(end - begin, -1)
            logits = model(torch.cat([head, body], 1)).logits
            # Position p predicts token p + 1: the last prefix token predicts
            # the first text token, the last text token predicts nothing.
            logits = logits[:, len(prefix) - 1:-1].float()
            log_p = torch.log_softmax(logits, -1)
            picked = log_p.gather(2, body.unsqueeze(-1)).squeeze(-1)
            nll += (-picked.double().sum(1)).tolist()
            hits += (logits.argmax(-1) == body).sum(1).tolist()

    results = []
    for count in wanted:
        tokens = count * args.length
        loss = math.fsum(nll[:count])
        text_bytes = sum(sizes[:tokens])
        result = {
            "windows": count,
            "length": args.length,
            "tokens": tokens,
            "text_bytes": text_bytes,
            "perplexity": math.exp(loss / tokens),
            "bits_per_byte": loss / math.log(2) / text_bytes,
            "accuracy": sum(hits[:count]) / tokens,
        }
        results.append(result)
        print(f"{count} windows of {args.length} tokens: perplexity "
              f"{result['perplexity']:.6f}, {result['bits_per_byte']:.6f} "
              f"bits/byte, accuracy {result['accuracy']:.6f}", file=sys.stderr)
    json.dump({
        "model": os.path.normpath(args.model),
        "data": args.text,
        "dtype": "fp32",
        "prefix": prefix,
        "first_ids": ids[:16],
        "versions": {"torch": torch.__version__.split("+")[0],
                     "transformers": transformers.__version__,
                     "tokenizers": tokenizers.__version__},
        "results": results,
    }, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
