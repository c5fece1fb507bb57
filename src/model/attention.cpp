#include "model/attention.h"

#include <cmath>
#include <limits>

#include "autoglm/core/error.h"
#include "model/coded_heads.h"
#include "model/cpu_stream.h"
#include "model/device_stream.h"

namespace autoglm {
namespace {

// Of the norms over the low-rank vectors and the indexer's keys; written into
// the published code, whatever config.json says of the others.
constexpr double kLatentEpsilon = 1e-6;

at::Tensor apply(const Linear& linear, const at::Tensor& x) {
  return apply_linear(x, linear.weight, linear.bias);
}

// [B, T, heads * D] -> [B, heads, T, D].
at::Tensor split_heads(const at::Tensor& x, std::int64_t head_size) {
  return x.unflatten(-1, {x.size(-1) / head_size, head_size}).transpose(1, 2);
}

// Turns the first `size` dims of every head; the rest passes.
at::Tensor rotate_front(const at::Tensor& x, const AttentionContext& context,
                        Rotary rotary, std::int64_t size) {
  if (size == 0 || rotary == Rotary::kNone) return x;
  if (at::Tensor y = device_rotate(x, context, rotary, size); y.defined())
    return y;
  const std::int64_t rest = x.size(-1) - size;
  if (rest == 0) return rotate(x, context, rotary);
  return at::cat({rotate(x.narrow(-1, 0, size), context, rotary),
                  x.narrow(-1, size, rest)},
                 -1);
}

// Appends along the tokens. The storage grows by half at a time, so that a
// long generation copies each key a constant number of times; `expected` tokens
// have room from the start.
void append(at::Tensor& cached, const at::Tensor& added,
            std::int64_t expected) {
  const std::int64_t old = cached.defined() ? cached.size(2) : 0;
  const std::int64_t total = old + added.size(2);
  // The capacity hides in the strides: a narrowed view of a longer buffer.
  const std::int64_t capacity =
      cached.defined() ? cached.stride(1) / cached.stride(2) : 0;
  if (total > capacity) {
    auto shape = added.sizes().vec();
    shape[2] = total <= expected
                   ? expected
                   : std::max<std::int64_t>(64, total + total / 2);
    const at::Tensor buffer = at::empty(shape, added.options());
    if (old > 0) buffer.narrow(2, 0, old).copy_(cached);
    cached = buffer.narrow(2, 0, total);
  } else {
    cached = cached.as_strided(
        {cached.size(0), cached.size(1), total, cached.size(3)},
        cached.strides(), cached.storage_offset());
  }
  cached.narrow(2, old, added.size(2)).copy_(added);
}

// Adds keys or values to the cached ones, in the form in which these are kept:
// at the place that the device knows, or behind all others.
void extend(at::Tensor& cached, const at::Tensor& added, int bits,
            const KvCache& cache) {
  const at::Tensor kept = bits > 0 ? encode_heads(added, bits) : added;
  if (cache.slot.defined())
    cached.index_copy_(2, cache.slot, kept);
  else
    append(cached, kept, cache.expected);
}

// Queries, keys and values of the new tokens, [B, heads, T, D] each.
struct Heads {
  at::Tensor query, key, value;
};

Heads grouped_heads(const Architecture& a, const Attention& attention,
                    const at::Tensor& x) {
  const std::int64_t size = a.head_size;
  if (!attention.query_key_value.present()) {
    const std::vector<at::Tensor> all =
        apply_linears(x, {&attention.query, &attention.key, &attention.value});
    return {split_heads(all[0], size), split_heads(all[1], size),
            split_heads(all[2], size)};
  }
  const at::Tensor all = apply(attention.query_key_value, x);
  if (a.qkv == QkvLayout::kPerHead) {
    const at::Tensor parts = split_heads(all, 3 * size);
    return {parts.narrow(-1, 0, size), parts.narrow(-1, size, size),
            parts.narrow(-1, 2 * size, size)};
  }
  const std::int64_t query = columns(attention.output.weight);
  const std::int64_t key = (all.size(-1) - query) / 2;
  return {split_heads(all.narrow(-1, 0, query), size),
          split_heads(all.narrow(-1, query, key), size),
          split_heads(all.narrow(-1, query + key, key), size)};
}

Heads grouped_attention(const Architecture& a, const Attention& attention,
                        const at::Tensor& x, const AttentionContext& context) {
  Heads heads = grouped_heads(a, attention, x);
  if (attention.query_norm.gain.defined())
    heads.query = apply_norm(attention.query_norm, heads.query, a.norm_epsilon);
  if (attention.key_norm.gain.defined())
    heads.key = apply_norm(attention.key_norm, heads.key, a.norm_epsilon);
  heads.query = rotate_front(heads.query, context, a.rotary, a.rotary_size);
  heads.key = rotate_front(heads.key, context, a.rotary, a.rotary_size);
  return heads;
}

// The low-rank vectors after their norms; `query` is x where queries come from
// one matrix.
struct LatentVectors {
  at::Tensor query;       // [B, T, query rank]
  at::Tensor key_value;   // [B, T, kv rank]
  at::Tensor rotary_key;  // [B, 1, T, rope], not turned yet
};

LatentVectors latent_vectors(const Architecture& a, const Attention& attention,
                             const at::Tensor& x) {
  const LatentSizes& sizes = a.latent;
  std::vector<const Linear*> readers = {&attention.key_value_a};
  if (attention.query_a.present()) readers.push_back(&attention.query_a);
  const std::vector<at::Tensor> read = apply_linears(x, readers);
  const at::Tensor& both = read[0];
  LatentVectors out;
  out.query = readers.size() > 1
                  ? apply_norm(attention.query_a_norm, read[1], kLatentEpsilon)
                  : x;
  out.key_value = apply_norm(attention.key_value_a_norm,
                             both.narrow(-1, 0, sizes.kv_rank), kLatentEpsilon);
  out.rotary_key = both.narrow(-1, sizes.kv_rank, sizes.rope).unsqueeze(1);
  return out;
}

Heads latent_heads(const Architecture& a, const Attention& attention,
                   const LatentVectors& latent,
                   const AttentionContext& context) {
  const LatentSizes& sizes = a.latent;
  const at::Tensor query = split_heads(
      apply(attention.query_b.present() ? attention.query_b : attention.query,
            latent.query),
      a.head_size);
  const at::Tensor key_value =
      split_heads(apply(attention.key_value_b, latent.key_value),
                  sizes.nope + a.value_size);
  const at::Tensor turned_query =
      rotate(query.narrow(-1, sizes.nope, sizes.rope), context, a.rotary);
  const at::Tensor turned_key = rotate(latent.rotary_key, context, a.rotary)
                                    .expand({-1, query.size(1), -1, -1});
  return {at::cat({query.narrow(-1, 0, sizes.nope), turned_query}, -1),
          at::cat({key_value.narrow(-1, 0, sizes.nope), turned_key}, -1),
          key_value.narrow(-1, sizes.nope, a.value_size)};
}

// Every token's additive view of all earlier ones; undefined: sees all.
at::Tensor visible(const at::Tensor& query, std::int64_t all,
                   const AttentionContext& context) {
  if (context.bias.defined()) return context.bias;
  const std::int64_t tokens = query.size(-2);
  if (tokens == 1) return {};
  return additive_mask(
      at::ones({1, all}, at::TensorOptions(at::kBool).device(query.device())),
      {}, tokens);
}

// Scores all tokens for each query in fp32 and keeps the best `top` of them.
at::Tensor select_tokens(const Architecture& a, const Indexer& indexer,
                         std::int64_t layer, const at::Tensor& x,
                         const at::Tensor& query_vector,
                         const AttentionContext& context) {
  const IndexerSizes& sizes = a.indexer;
  const auto linear = [](const at::Tensor& input, const at::Tensor& weight) {
    return at::linear(input, weight.to(input.scalar_type()));
  };
  const at::Tensor query =
      rotate_front(split_heads(linear(query_vector, indexer.query), sizes.size),
                   context, a.rotary, a.latent.rope);
  at::Tensor key = rotate_front(
      apply_norm(indexer.key_norm, linear(x, indexer.key), kLatentEpsilon)
          .unsqueeze(1),
      context, a.rotary, a.latent.rope);
  if (context.cache != nullptr) {
    at::Tensor& cached =
        context.cache->index_keys.at(static_cast<std::size_t>(layer));
    append(cached, key, context.cache->expected);
    key = cached;
  }
  const std::int64_t all = key.size(2);
  if (all <= sizes.top) return {};
  const at::Tensor weights =
      linear(x, indexer.head_weights).to(at::kFloat).transpose(1, 2) /
      std::sqrt(static_cast<double>(sizes.heads));  // [B, heads, T]
  const at::Tensor each = at::relu(
      at::matmul(query.to(at::kFloat), key.to(at::kFloat).transpose(-1, -2)) /
      std::sqrt(static_cast<double>(sizes.size)));
  at::Tensor scores = (each * weights.unsqueeze(-1)).sum(1, /*keepdim=*/true);
  if (const at::Tensor bias = visible(x, all, context); bias.defined())
    scores = scores + bias;
  const at::Tensor chosen = std::get<1>(scores.topk(sizes.top, -1));
  return at::full_like(scores, -std::numeric_limits<float>::infinity())
      .scatter(-1, chosen, 0.0);
}

// What is added to the scores of `all` tokens; undefined: nothing.
at::Tensor score_bias(const at::Tensor& query, std::int64_t all,
                      const AttentionContext& context) {
  if (!context.selection.defined()) return context.bias;
  const at::Tensor own = visible(query, all, context);
  return own.defined() ? own + context.selection : context.selection;
}

at::Tensor attend(const at::Tensor& query, at::Tensor key, at::Tensor value,
                  const AttentionContext& context) {
  const at::Tensor seen = score_bias(query, key.size(2), context);
  std::optional<at::Tensor> bias;
  if (seen.defined()) bias = seen.to(query.scalar_type());
  if (!bias && query.size(2) > 1)
    if (at::Tensor y = cpu_prompt_attention(query, key, value); y.defined())
      return y;
  const std::int64_t repeat = query.size(1) / key.size(1);
  if (repeat > 1 && query.size(2) == 1)
    // One new token: the queries that share a key are taken as so many tokens,
    // which spares a copy of the cache for each of them.
    return at::scaled_dot_product_attention(
               query.reshape({-1, key.size(1), repeat, query.size(3)}), key,
               value, bias)
        .reshape({query.size(0), query.size(1), 1, value.size(3)});
  if (repeat > 1) {
    key = key.repeat_interleave(repeat, 1);
    value = value.repeat_interleave(repeat, 1);
  }
  const bool causal = !bias && query.size(2) > 1;
  return at::scaled_dot_product_attention(query, key, value, bias, 0.0, causal);
}

// The new tokens' attention to all tokens of the cache, which they join.
at::Tensor attend_cache(const Heads& heads, std::size_t layer, int bits,
                        const AttentionContext& context) {
  KvCache& cache = *context.cache;
  at::Tensor &keys = cache.keys.at(layer), &values = cache.values.at(layer);
  extend(keys, heads.key, bits, cache);
  extend(values, heads.value, bits, cache);
  if (at::Tensor y = device_decode_attention(
          heads.query, keys, values,
          score_bias(heads.query, keys.size(2), context), cache.filled, bits);
      y.defined())
    return y;
  if (bits == 0) return attend(heads.query, keys, values, context);
  const auto decoded = [&](const at::Tensor& coded, const at::Tensor& like) {
    return decode_heads(coded, like.size(-1), bits, like.scalar_type());
  };
  return attend(heads.query, decoded(keys, heads.key),
                decoded(values, heads.value), context);
}

}  // namespace

at::Tensor attention_values(const Architecture& a, const Attention& attention,
                            std::int64_t layer, const at::Tensor& x,
                            AttentionContext& context,
                            std::optional<Site> stop) {
  Heads heads;
  if (a.is_latent()) {
    const LatentVectors latent = latent_vectors(a, attention, x);
    if (stop == Site::kQueryB) return latent.query;
    if (stop == Site::kKeyValueB) return latent.key_value;
    if (attention.indexer.query.defined())
      context.selection =
          select_tokens(a, attention.indexer, layer, x, latent.query, context);
    heads = latent_heads(a, attention, latent, context);
  } else {
    heads = grouped_attention(a, attention, x, context);
  }
  context.done("query, key, value");
  at::Tensor mixed;
  if (context.cache != nullptr) {
    mixed = attend_cache(heads, static_cast<std::size_t>(layer),
                         a.kv_cache_bits, context);
  } else {
    if (a.kv_cache_bits > 0) {
      // What a cache would give back, so that every measure sees its effect.
      heads.key = round_heads(heads.key, a.kv_cache_bits);
      heads.value = round_heads(heads.value, a.kv_cache_bits);
    }
    mixed = attend(heads.query, heads.key, heads.value, context);
  }
  context.done("attention");
  return mixed.transpose(1, 2).flatten(2);
}

}  // namespace autoglm
