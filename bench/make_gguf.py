#!/usr/bin/env python3
"""Writes a GGUF of a published shape with random weights, for llama.cpp.

    bench/make_gguf.py glm-4-9b-0414 out/q4.gguf --layers 4 --type q4_0
    bench/make_gguf.py glm-4-9b out/bf16.gguf --layers 4 --type bf16

to be measured beside `autoglm bench --shape glm-4-9b --layers 4 --bits 4
--group-size 64 --head-bits 8`, whose blocks are those of glm-4-9b-0414:

    llama-bench -m out/q4.gguf -t 2 -p 128,512 -n 0
    llama-bench -m out/q4.gguf -t 2 -p 0 -n 32 -d 0,2048

glm-4-9b has a bias on query, key and value, and no norms after attention and
MLP. --layers takes the share of the vocabulary that autoglm takes: 15104 rows
for 4 of 40 blocks. Codes are random and the scales of a matrix are one number:
outputs have unit size. There is no tokenizer; llama-bench draws its tokens. The
line printed at the end counts the bytes of the matrices that a token reads.
Needs: numpy gguf
"""
import argparse
import math
import pathlib

from make_checkpoint import GLM_4_9B

# llama.cpp calls them chatglm and glm4.
MODELS = {"glm-4-9b": dict(GLM_4_9B, model_type="chatglm", attention_bias=True,
                           rms_norm_eps=1.5625e-07),
          "glm-4-9b-0414": GLM_4_9B}

TYPES = ("q4_0", "q8_0", "f16", "bf16")


def block(c, i):
    """Name and shape of every tensor of a block; a matrix is [out, in]."""
    prefix, hidden, size = f"blk.{i}.", c["hidden_size"], c["head_dim"]
    ffn, query = c["intermediate_size"], c["num_attention_heads"] * size
    fused = query + 2 * c["num_key_value_heads"] * size
    out = [("attn_norm.weight", [hidden]), ("ffn_norm.weight", [hidden]),
           ("attn_qkv.weight", [fused, hidden]),
           ("attn_output.weight", [hidden, query]),
           ("ffn_up.weight", [2 * ffn, hidden]),
           ("ffn_down.weight", [hidden, ffn])]
    if c["attention_bias"]:
        out.append(("attn_qkv.bias", [fused]))
    if c["model_type"] == "glm4":
        out += [("post_attention_norm.weight", [hidden]),
                ("post_ffw_norm.weight", [hidden])]
    return [(prefix + name, shape) for name, shape in out]


def tensors(c):
    hidden, vocabulary = c["hidden_size"], c["vocab_size"]
    out = [("token_embd.weight", [vocabulary, hidden])]
    for i in range(c["num_hidden_layers"]):
        out += block(c, i)
    return out + [("output_norm.weight", [hidden]),
                  ("output.weight", [vocabulary, hidden])]


def row_bytes(kind, columns):
    """A row of a matrix: 32 codes and an fp16 scale, or numbers of 16 bits."""
    return columns // 32 * {"q4_0": 18, "q8_0": 34}.get(kind, 64)


def random_matrix(rng, shape, kind):
    """The bytes of uniform numbers with the deviation 1 / sqrt(columns)."""
    import numpy as np
    rows, columns = shape
    size = math.sqrt(3 / columns)
    if kind in ("q4_0", "q8_0"):
        data = rng.integers(0, 256, (rows, row_bytes(kind, columns)), np.uint8)
        scale = np.float16(size / (8 if kind == "q4_0" else 128))
        data.reshape(rows, columns // 32, -1)[:, :, :2] = np.frombuffer(
            scale.tobytes(), np.uint8)
        return data
    values = (2 * rng.random(shape, np.float32) - 1) * np.float32(size)
    if kind == "f16":
        return values.astype(np.float16).view(np.uint8)
    return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)


def write(path, c, kinds, seed):
    import gguf
    import numpy as np
    writer = gguf.GGUFWriter(path, c["model_type"])
    writer.add_file_type(
        gguf.LlamaFileType["MOSTLY_" + kinds["blocks"].upper()])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_rope_dimension_count(
        int(c["head_dim"] * c["partial_rotary_factor"]))
    writer.add_rope_freq_base(c["rope_theta"])
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(c["vocab_size"])

    def kind_of(name):
        return kinds["blocks" if name.startswith("blk.") else "head"]

    for name, shape in tensors(c):
        if len(shape) == 1:
            writer.add_tensor_info(name, shape, np.dtype(np.float32),
                                   4 * shape[0])
            continue
        kind = kind_of(name)
        stored = [shape[0], row_bytes(kind, shape[1])]
        writer.add_tensor_info(name, stored, np.dtype(np.uint8),
                               math.prod(stored),
                               gguf.GGMLQuantizationType[kind.upper()])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(seed)
    for name, shape in tensors(c):
        if len(shape) == 1:
            fill = 0 if name.endswith("bias") else 1
            writer.write_tensor_data(np.full(shape, fill, np.float32))
        else:
            writer.write_tensor_data(random_matrix(rng, shape, kind_of(name)))
    writer.close()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=0,
                        help="so many blocks; all of them where not given")
    parser.add_argument("--type", choices=TYPES, default="q4_0",
                        help="of the blocks' matrices")
    parser.add_argument("--head-type", choices=TYPES, default="q8_0",
                        help="of head and embedding")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    c = dict(MODELS[args.model])
    there = c["num_hidden_layers"]
    layers = args.layers or there
    if not 1 <= layers <= there:
        parser.error(f"{args.model} has 1 to {there} blocks")
    c["num_hidden_layers"] = layers
    c["vocab_size"] = max(64, c["vocab_size"] * layers // there // 64 * 64)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(args.out, c, {"blocks": args.type, "head": args.head_type}, args.seed)
    read = [0, 0]
    for name, shape in tensors(c):
        if len(shape) == 2 and name != "token_embd.weight":
            own = name.startswith("blk.")
            kind = args.type if own else args.head_type
            read[own] += shape[0] * row_bytes(kind, shape[1])
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB; a token reads "
          f"{read[1] / 1e6:.1f} of blocks, {read[0] / 1e6:.1f} of the head")


if __name__ == "__main__":
    main()
