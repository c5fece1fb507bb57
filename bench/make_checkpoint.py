#!/usr/bin/env python3
"""Writes a checkpoint of a published model's shape without its weights.

    bench/make_checkpoint.py glm-4-9b out/shape-9b            sparse: all zeros
    bench/make_checkpoint.py glm-4.5-air out/shape-air
    bench/make_checkpoint.py glm-2gb out/random-2gb --random  small random values

A sparse file takes no room on the disk, so the sizes are those of the real
model: for measuring what reading, planning and inspecting cost. Shapes are
those of the published config.json files.
"""
import argparse
import json
import os
import pathlib
import struct

SHARD = 5_000_000_000

GLM_4_9B = dict(
    model_type="glm4", architectures=["Glm4ForCausalLM"], hidden_size=4096,
    num_hidden_layers=40, num_attention_heads=32, num_key_value_heads=2,
    head_dim=128, intermediate_size=13696, vocab_size=151552,
    max_position_embeddings=32768, rms_norm_eps=1e-5, rope_theta=10000.0,
    partial_rotary_factor=0.5, attention_bias=False, tie_word_embeddings=False,
    hidden_act="silu", torch_dtype="bfloat16", eos_token_id=[151329, 151336])

GLM_45_AIR = dict(
    model_type="glm4_moe", architectures=["Glm4MoeForCausalLM"],
    hidden_size=4096, num_hidden_layers=46, num_attention_heads=96,
    num_key_value_heads=8, head_dim=128, intermediate_size=10944,
    moe_intermediate_size=1408, n_routed_experts=128, num_experts_per_tok=8,
    n_shared_experts=1, first_k_dense_replace=1, n_group=1, topk_group=1,
    norm_topk_prob=True, routed_scaling_factor=1.0, use_qk_norm=False,
    vocab_size=151552, max_position_embeddings=131072, rms_norm_eps=1e-5,
    rope_theta=1000000, partial_rotary_factor=0.5, attention_bias=True,
    tie_word_embeddings=False, num_nextn_predict_layers=1, hidden_act="silu",
    torch_dtype="bfloat16", eos_token_id=[151329, 151336, 151338])

# The GLM-4-9B block in a model of 2 GB.
GLM_2GB = dict(GLM_4_9B, num_hidden_layers=4, vocab_size=16384,
               max_position_embeddings=8192)

MODELS = {"glm-4-9b": GLM_4_9B, "glm-4.5-air": GLM_45_AIR, "glm-2gb": GLM_2GB}


def mlp(prefix, hidden, ffn):
    return [(prefix + "gate_proj.weight", [ffn, hidden]),
            (prefix + "up_proj.weight", [ffn, hidden]),
            (prefix + "down_proj.weight", [hidden, ffn])]


def attention(c, prefix):
    hidden, size = c["hidden_size"], c["head_dim"]
    query = c["num_attention_heads"] * size
    key = c["num_key_value_heads"] * size
    out = []
    for name, rows in (("q_proj", query), ("k_proj", key), ("v_proj", key)):
        out.append((prefix + name + ".weight", [rows, hidden]))
        if c["attention_bias"]:
            out.append((prefix + name + ".bias", [rows]))
    return out + [(prefix + "o_proj.weight", [hidden, query])]


def block(c, i):
    prefix, hidden = f"model.layers.{i}.", c["hidden_size"]
    norms = ["input_layernorm", "post_attention_layernorm"]
    if c["model_type"] == "glm4":
        norms += ["post_self_attn_layernorm", "post_mlp_layernorm"]
    out = [(prefix + norm + ".weight", [hidden]) for norm in norms]
    out += attention(c, prefix + "self_attn.")
    if c["model_type"] == "glm4":
        ffn = c["intermediate_size"]
        return out + [(prefix + "mlp.gate_up_proj.weight", [2 * ffn, hidden]),
                      (prefix + "mlp.down_proj.weight", [hidden, ffn])]
    if i < c["first_k_dense_replace"]:
        return out + mlp(prefix + "mlp.", hidden, c["intermediate_size"])
    experts, ffn = c["n_routed_experts"], c["moe_intermediate_size"]
    out += [(prefix + "mlp.gate.weight", [experts, hidden]),
            (prefix + "mlp.gate.e_score_correction_bias", [experts])]
    for e in range(experts):
        out += mlp(f"{prefix}mlp.experts.{e}.", hidden, ffn)
    return out + mlp(prefix + "mlp.shared_experts.", hidden,
                     ffn * c["n_shared_experts"])


def tensors(c):
    hidden, vocabulary = c["hidden_size"], c["vocab_size"]
    out = [("model.embed_tokens.weight", [vocabulary, hidden])]
    for i in range(c["num_hidden_layers"]):
        out += block(c, i)
    for k in range(c.get("num_nextn_predict_layers", 0)):
        i = c["num_hidden_layers"] + k
        prefix = f"model.layers.{i}."
        out += block(c, i)
        out += [(prefix + "eh_proj.weight", [hidden, 2 * hidden]),
                (prefix + "enorm.weight", [hidden]),
                (prefix + "hnorm.weight", [hidden]),
                (prefix + "shared_head.norm.weight", [hidden]),
                (prefix + "shared_head.head.weight", [vocabulary, hidden]),
                (prefix + "embed_tokens.weight", [vocabulary, hidden])]
    return out + [("model.norm.weight", [hidden]),
                  ("lm_head.weight", [vocabulary, hidden])]


def size_of(shape):
    count = 2  # bf16
    for n in shape:
        count *= n
    return count


def random_values(size):
    """bf16 numbers between 2^-7 and 2^-5, of both signs."""
    data = bytearray(os.urandom(size))
    signs = bytes((b & 0x80) | 0x3C for b in range(256))
    data[1::2] = data[1::2].translate(signs)
    return data


def write_shard(path, entries, random):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in entries:
        end = offset + size_of(shape)
        header[name] = {"dtype": "BF16", "shape": shape,
                        "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if not random:
            file.truncate(8 + len(text) + offset)
            return
        left = offset
        while left > 0:
            step = min(left, 1 << 24)
            file.write(random_values(step))
            left -= step


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--random", action="store_true",
                        help="real values instead of a sparse file")
    args = parser.parse_args()
    config = MODELS[args.model]
    args.folder.mkdir(parents=True, exist_ok=True)
    shards, sizes = [[]], [0]
    for name, shape in tensors(config):
        size = size_of(shape)
        if sizes[-1] > 0 and sizes[-1] + size > SHARD:
            shards.append([])
            sizes.append(0)
        shards[-1].append((name, shape))
        sizes[-1] += size
    weight_map = {}
    for i, entries in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_shard(args.folder / file, entries, args.random)
        for name, _ in entries:
            weight_map[name] = file
    index = {"metadata": {"total_size": sum(sizes)}, "weight_map": weight_map}
    (args.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (args.folder / "config.json").write_text(json.dumps(config, indent=2))
    print(f"{args.folder}: {len(weight_map)} tensors, {sum(sizes) / 1e9:.1f} GB "
          f"in {len(shards)} files")


if __name__ == "__main__":
    main()
