#include "autoglm/model/family.h"

#include <algorithm>

namespace autoglm {
namespace {

using Names = std::vector<std::pair<std::string_view, std::string_view>>;

Names joined(Names first, const Names& more) {
  first.insert(first.end(), more.begin(), more.end());
  return first;
}

const Names kGroupedAttention = {
    {"attention.query", "self_attn.q_proj"},
    {"attention.key", "self_attn.k_proj"},
    {"attention.value", "self_attn.v_proj"},
    {"attention.output", "self_attn.o_proj"},
};

const Names kTwoNorms = {
    {"input_norm", "input_layernorm"},
    {"middle_norm", "post_attention_layernorm"},
};

const Names kMixture = {
    {"mlp.gate", "mlp.gate_proj"},
    {"mlp.up", "mlp.up_proj"},
    {"mlp.down", "mlp.down_proj"},
    {"mlp.router", "mlp.gate"},
    {"mlp.experts.{}.gate", "mlp.experts.{}.gate_proj"},
    {"mlp.experts.{}.up", "mlp.experts.{}.up_proj"},
    {"mlp.experts.{}.down", "mlp.experts.{}.down_proj"},
    {"mlp.shared.gate", "mlp.shared_experts.gate_proj"},
    {"mlp.shared.up", "mlp.shared_experts.up_proj"},
    {"mlp.shared.down", "mlp.shared_experts.down_proj"},
};

// The 2021 block, which ChatGLM-6B kept.
const Names kFusedAttention = {
    {"input_norm", "input_layernorm"},
    {"middle_norm", "post_attention_layernorm"},
    {"attention.query_key_value", "attention.query_key_value"},
    {"attention.output", "attention.dense"},
    {"mlp.up", "mlp.dense_h_to_4h"},
    {"mlp.down", "mlp.dense_4h_to_h"},
};

bool says(const Json& config, const char* key) { return config.contains(key); }

// GLM-base to GLM-10B, 2021.
FamilyTable glm_2021_table() {
  FamilyTable t;
  t.name = "glm-2021";
  t.model_type = "glm";
  t.claims = [](const Json& c) {
    return says(c, "num_layers") && !says(c, "num_hidden_layers");
  };
  t.keys.layers = "num_layers";
  t.keys.kv_heads = "";
  t.keys.ffn = "inner_hidden_size";  // of our own: the published code has 4 H
  t.keys.epsilon = "";               // 1e-5, written into the published code
  t.keys.max_positions = "max_sequence_length";
  t.rotary = Rotary::kNone;
  t.qkv = QkvLayout::kBlocks;
  t.mlp = MlpKind::kGeluErf;
  t.layer_norm = true;
  t.linear_bias = true;
  t.always_tied = true;
  t.roots = {"", "glm."};
  t.embedding = "word_embeddings";
  t.positions = "transformer.position_embeddings";
  t.block_positions = "transformer.block_position_embeddings";
  t.final_norm = "transformer.final_layernorm";
  t.block = "transformer.layers.{}";
  t.names = kFusedAttention;
  return t;
}

// ChatGLM-6B, the first generation.
FamilyTable chatglm_6b_table() {
  FamilyTable t;
  t.name = "chatglm-6b";
  t.model_type = "chatglm";
  t.claims = [](const Json& c) {
    return says(c, "inner_hidden_size") || says(c, "position_encoding_2d");
  };
  t.keys.layers = "num_layers";
  t.keys.kv_heads = "";
  t.keys.ffn = "inner_hidden_size";
  t.keys.epsilon = "layernorm_epsilon";
  t.keys.max_positions = "max_sequence_length";
  t.rotary = Rotary::kTwoDimensional;
  t.rotary_share = 1;
  t.qkv = QkvLayout::kPerHead;
  t.mlp = MlpKind::kGeluTanh;
  t.layer_norm = true;
  t.linear_bias = true;
  t.roots = {"transformer.", ""};
  t.embedding = "word_embeddings";
  t.final_norm = "final_layernorm";
  t.head = "lm_head";
  t.block = "layers.{}";
  t.names = kFusedAttention;
  t.buffers = {".rotary_emb.inv_freq"};
  return t;
}

// ChatGLM2-6B, ChatGLM3-6B, GLM-4-9B with their published code.
FamilyTable chatglm_table() {
  FamilyTable t;
  t.name = "chatglm";
  t.model_type = "chatglm";
  t.claims = [](const Json& c) { return !chatglm_6b_table().claims(c); };
  t.keys.layers = "num_layers";
  t.keys.vocabulary = "padded_vocab_size";
  t.keys.kv_heads = "multi_query_group_num";
  t.keys.head_size = "kv_channels";
  t.keys.ffn = "ffn_hidden_size";
  t.keys.epsilon = "layernorm_epsilon";
  t.keys.max_positions = "seq_length";
  t.qkv = QkvLayout::kBlocks;
  t.roots = {"transformer.", ""};
  t.embedding = "embedding.word_embeddings";
  t.final_norm = "encoder.final_layernorm";
  t.head = "output_layer";
  t.head_below_root = true;
  t.block = "encoder.layers.{}";
  t.names =
      joined(kTwoNorms,
             {{"attention.query_key_value", "self_attention.query_key_value"},
              {"attention.output", "self_attention.dense"},
              {"mlp.gate_up", "mlp.dense_h_to_4h"},
              {"mlp.down", "mlp.dense_4h_to_h"}});
  t.buffers = {"rotary_pos_emb.inv_freq"};
  return t;
}

// GLM-4-9B-hf and GLM-Edge.
FamilyTable glm_table() {
  FamilyTable t;
  t.name = "glm";
  t.model_type = "glm";
  t.claims = [](const Json& c) { return !glm_2021_table().claims(c); };
  t.keys.default_epsilon = 1.5625e-7;
  t.roots = {"model.", ""};
  t.embedding = "embed_tokens";
  t.final_norm = "norm";
  t.head = "lm_head";
  t.block = "layers.{}";
  t.names = joined(
      kTwoNorms, joined(kGroupedAttention, {{"mlp.gate_up", "mlp.gate_up_proj"},
                                            {"mlp.down", "mlp.down_proj"}}));
  t.buffers = {"rotary_emb.inv_freq"};
  return t;
}

// GLM-4-0414 and GLM-Z1: a norm after each part as well.
FamilyTable glm4_table() {
  FamilyTable t = glm_table();
  t.name = "glm4";
  t.model_type = "glm4";
  t.claims = nullptr;
  t.names =
      joined(t.names, {{"after_attention_norm", "post_self_attn_layernorm"},
                       {"after_mlp_norm", "post_mlp_layernorm"}});
  return t;
}

// GLM-4.5 to GLM-4.7.
FamilyTable glm4_moe_table() {
  FamilyTable t = glm_table();
  t.name = "glm4_moe";
  t.model_type = "glm4_moe";
  t.claims = nullptr;
  t.keys.default_epsilon = 1e-5;
  t.rotary = Rotary::kHalf;
  t.mlp = MlpKind::kGated;
  t.mixture = true;
  t.names = joined(joined(kTwoNorms, joined(kGroupedAttention, kMixture)),
                   {{"attention.query_norm", "self_attn.q_norm"},
                    {"attention.key_norm", "self_attn.k_norm"}});
  return t;
}

// GLM-4.7-Flash.
FamilyTable glm4_moe_lite_table() {
  FamilyTable t = glm4_moe_table();
  t.name = "glm4_moe_lite";
  t.model_type = "glm4_moe_lite";
  t.rotary = Rotary::kInterleaved;
  t.rotary_share = 1;
  t.latent = true;
  t.names = joined(joined(kTwoNorms, kMixture),
                   {{"attention.query", "self_attn.q_proj"},
                    {"attention.query_a", "self_attn.q_a_proj"},
                    {"attention.query_a_norm", "self_attn.q_a_layernorm"},
                    {"attention.query_b", "self_attn.q_b_proj"},
                    {"attention.key_value_a", "self_attn.kv_a_proj_with_mqa"},
                    {"attention.key_value_a_norm", "self_attn.kv_a_layernorm"},
                    {"attention.key_value_b", "self_attn.kv_b_proj"},
                    {"attention.output", "self_attn.o_proj"}});
  return t;
}

// GLM-5.
FamilyTable glm_moe_dsa_table() {
  FamilyTable t = glm4_moe_lite_table();
  t.name = "glm_moe_dsa";
  t.model_type = "glm_moe_dsa";
  t.sparse = true;
  t.names = joined(
      t.names,
      {{"attention.indexer.query", "self_attn.indexer.wq_b"},
       {"attention.indexer.key", "self_attn.indexer.wk"},
       {"attention.indexer.key_norm", "self_attn.indexer.k_norm"},
       {"attention.indexer.head_weights", "self_attn.indexer.weights_proj"}});
  return t;
}

}  // namespace

bool FamilyTable::has(std::string_view part) const {
  return std::any_of(names.begin(), names.end(),
                     [&](const auto& entry) { return entry.first == part; });
}

const std::vector<FamilyTable>& family_tables() {
  static const std::vector<FamilyTable> tables = {
      glm_2021_table(),      chatglm_6b_table(), chatglm_table(),
      glm_table(),           glm4_table(),       glm4_moe_table(),
      glm4_moe_lite_table(), glm_moe_dsa_table()};
  return tables;
}

}  // namespace autoglm
