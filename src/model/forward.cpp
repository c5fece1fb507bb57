#include "autoglm/model/forward.h"

#include <limits>
#include <optional>

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

// Variant A of the GLM family (transformers): the cast comes before the gain.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gain,
                    double epsilon) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor scale =
      at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + epsilon);
  return gain.to(x.scalar_type()) * (wide * scale).to(x.scalar_type());
}

// x: [B, heads, T, D]; pairs (2i, 2i+1) of the leading 2 * |angles| dims turn.
at::Tensor rotate(const at::Tensor& x, const AttentionContext& context) {
  const std::int64_t half = context.cosine.size(-1);
  if (half == 0) return x;
  const at::Tensor turning =
      x.narrow(-1, 0, 2 * half).to(at::kFloat).unflatten(-1, {half, 2});
  const at::Tensor even = turning.select(-1, 0);
  const at::Tensor odd = turning.select(-1, 1);
  const at::Tensor cosine = context.cosine.unsqueeze(1);  // over the heads
  const at::Tensor sine = context.sine.unsqueeze(1);
  const at::Tensor turned =
      at::stack({even * cosine - odd * sine, odd * cosine + even * sine}, -1)
          .flatten(-2)
          .to(x.scalar_type());
  const std::int64_t rest = x.size(-1) - 2 * half;
  if (rest == 0) return turned;
  return at::cat({turned, x.narrow(-1, 2 * half, rest)}, -1);
}

// [B, T, heads * D] -> [B, heads, T, D].
at::Tensor split_heads(const at::Tensor& x, std::int64_t head_size) {
  return x.unflatten(-1, {x.size(-1) / head_size, head_size}).transpose(1, 2);
}

// Appends along the tokens. The storage grows by half at a time, so that a
// long generation copies each key a constant number of times.
void append(at::Tensor& cached, const at::Tensor& added) {
  const std::int64_t old = cached.defined() ? cached.size(2) : 0;
  const std::int64_t total = old + added.size(2);
  // The capacity hides in the strides: a narrowed view of a longer buffer.
  const std::int64_t capacity =
      cached.defined() ? cached.stride(1) / cached.stride(2) : 0;
  if (total > capacity) {
    auto shape = added.sizes().vec();
    shape[2] = std::max<std::int64_t>(64, total + total / 2);
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

at::Tensor attend(const at::Tensor& query, at::Tensor key, at::Tensor value,
                  const AttentionContext& context) {
  const std::int64_t repeat = query.size(1) / key.size(1);
  if (repeat > 1) {
    key = key.repeat_interleave(repeat, 1);
    value = value.repeat_interleave(repeat, 1);
  }
  std::optional<at::Tensor> bias;
  if (context.bias.defined()) bias = context.bias.to(query.scalar_type());
  const bool causal = !bias && query.size(2) > 1;
  return at::scaled_dot_product_attention(query, key, value, bias, 0.0, causal);
}

// What the output projection receives.
at::Tensor attention_values(const Model& model, const Attention& attention,
                            std::int64_t layer, const at::Tensor& x,
                            const AttentionContext& context) {
  const std::int64_t head_size = model.architecture.head_size;
  const auto project = [&](const Linear& linear) {
    return split_heads(apply_linear(x, linear.weight, linear.bias), head_size);
  };
  const at::Tensor query = rotate(project(attention.query), context);
  at::Tensor key = rotate(project(attention.key), context);
  at::Tensor value = project(attention.value);
  if (context.cache != nullptr) {
    const auto index = static_cast<std::size_t>(layer);
    KvCache& cache = *context.cache;
    append(cache.keys.at(index), key);
    append(cache.values.at(index), value);
    key = cache.keys[index];
    value = cache.values[index];
  }
  return attend(query, key, value, context).transpose(1, 2).flatten(2);
}

// What the down projection receives.
at::Tensor mlp_values(const Mlp& mlp, const at::Tensor& x) {
  const std::int64_t ffn = columns(mlp.down.weight);
  const at::Tensor gate_up =
      apply_linear(x, mlp.gate_up.weight, mlp.gate_up.bias);
  return at::silu(gate_up.narrow(-1, 0, ffn)) * gate_up.narrow(-1, ffn, ffn);
}

// The residual stream with the projection of `values` added, through the norm
// that some families put after a part.
at::Tensor add_part(const at::Tensor& x, const at::Tensor& values,
                    const Linear& projection, const at::Tensor& norm,
                    double epsilon) {
  const at::Tensor out =
      apply_linear(values, projection.weight, projection.bias);
  return x + (norm.defined() ? rms_norm(out, norm, epsilon) : out);
}

// What the matrices at `stop` receive, or what the block returns.
at::Tensor run_until(const Model& model, const Block& block, std::int64_t layer,
                     const at::Tensor& x, const AttentionContext& context,
                     std::optional<Site> stop) {
  const double epsilon = model.architecture.norm_epsilon;
  const at::Tensor attention_in = rms_norm(x, block.input_norm, epsilon);
  if (stop == Site::kAttention) return attention_in;
  const at::Tensor mixed =
      attention_values(model, block.attention, layer, attention_in, context);
  if (stop == Site::kOutput) return mixed;
  const at::Tensor middle = add_part(x, mixed, block.attention.output,
                                     block.after_attention_norm, epsilon);
  const at::Tensor mlp_in = rms_norm(middle, block.middle_norm, epsilon);
  if (stop == Site::kMlp) return mlp_in;
  const at::Tensor gated = mlp_values(block.mlp, mlp_in);
  if (stop == Site::kDown) return gated;
  return add_part(middle, gated, block.mlp.down, block.after_mlp_norm, epsilon);
}

// Additive mask [B, 1, T, T_all]: a token sees the real tokens up to itself.
// A padding token sees itself alone, so that its row stays finite.
at::Tensor additive_mask(const at::Tensor& mask_all, std::int64_t tokens) {
  const std::int64_t all = mask_all.size(1);
  const std::int64_t past = all - tokens;
  const auto options = at::TensorOptions(at::kLong).device(mask_all.device());
  const at::Tensor row = at::arange(past, all, options).unsqueeze(1);
  const at::Tensor column = at::arange(all, options).unsqueeze(0);
  const at::Tensor seen =
      (column <= row).unsqueeze(0).logical_and(mask_all.unsqueeze(1));
  const at::Tensor allowed = seen.logical_or((column == row).unsqueeze(0));
  return at::zeros(allowed.sizes(), mask_all.options().dtype(at::kFloat))
      .masked_fill(allowed.logical_not(),
                   -std::numeric_limits<float>::infinity())
      .unsqueeze(1);
}

}  // namespace

AttentionContext attention_context(const Model& model, const at::Tensor& ids,
                                   const at::Tensor& mask,
                                   const at::Tensor& given_positions,
                                   KvCache* cache) {
  const Architecture& a = model.architecture;
  const std::int64_t batch = ids.size(0), tokens = ids.size(1);
  const at::Device device = ids.device();
  const std::int64_t past = cache != nullptr ? cache->length() : 0;
  AttentionContext context;
  context.cache = cache;
  if (cache != nullptr && cache->keys.empty()) {
    cache->keys.resize(model.blocks.size());
    cache->values.resize(model.blocks.size());
  }

  const auto real = at::TensorOptions(at::kBool).device(device);
  at::Tensor mask_all = mask.defined() ? mask.to(at::kBool) : at::Tensor();
  if (cache != nullptr && (mask_all.defined() || cache->mask.defined())) {
    const at::Tensor old =
        cache->mask.defined() ? cache->mask : at::ones({batch, past}, real);
    const at::Tensor added =
        mask_all.defined() ? mask_all : at::ones({batch, tokens}, real);
    mask_all = cache->mask = at::cat({old, added}, 1);
  }

  at::Tensor positions;
  if (given_positions.defined())
    positions = given_positions.to(at::kLong);
  else if (mask_all.defined())
    positions = at::clamp_min(mask_all.to(at::kLong).cumsum(1) - 1, 0)
                    .narrow(1, mask_all.size(1) - tokens, tokens);
  else
    positions = at::arange(past, past + tokens,
                           at::TensorOptions(at::kLong).device(device))
                    .unsqueeze(0);
  const std::int64_t half = a.rotary_size / 2;
  const at::Tensor exponent =
      at::arange(half, at::TensorOptions(at::kFloat).device(device)) *
      (-2.0 / static_cast<double>(std::max<std::int64_t>(1, a.rotary_size)));
  const at::Tensor frequency = at::pow(a.rotary_base, exponent);
  const at::Tensor angle = positions.to(at::kFloat).unsqueeze(-1) * frequency;
  context.cosine = angle.cos();
  context.sine = angle.sin();

  if (mask_all.defined())
    context.bias = additive_mask(mask_all, tokens);
  else if (past > 0 && tokens > 1)
    context.bias = additive_mask(at::ones({1, past + tokens}, real), tokens);
  return context;
}

at::Tensor embed(const Model& model, const at::Tensor& ids,
                 at::ScalarType dtype) {
  return select_rows(model.embedding, ids, dtype);
}

at::Tensor block_forward(const Model& model, const Block& block,
                         std::int64_t layer, const at::Tensor& x,
                         const AttentionContext& context) {
  return run_until(model, block, layer, x, context, std::nullopt);
}

at::Tensor site_input(const Model& model, const Block& block,
                      std::int64_t layer, const at::Tensor& x,
                      const AttentionContext& context, Site site) {
  return run_until(model, block, layer, x, context, site);
}

at::Tensor text_states(const Model& model, const at::Tensor& ids,
                       std::int64_t prefix, at::ScalarType dtype) {
  const AttentionContext context = attention_context(model, ids);
  at::Tensor x = embed(model, ids, dtype);
  for (std::size_t i = 0; i < model.blocks.size(); ++i)
    x = block_forward(model, model.blocks[i], static_cast<std::int64_t>(i), x,
                      context);
  const std::int64_t first = std::max<std::int64_t>(0, prefix - 1);
  return x.narrow(1, first, ids.size(1) - 1 - first).flatten(0, 1);
}

at::Tensor final_hidden(const Model& model, const at::Tensor& x) {
  return rms_norm(x, model.final_norm, model.architecture.norm_epsilon);
}

at::Tensor head_forward(const Model& model, const at::Tensor& x) {
  return apply_linear(final_hidden(model, x), head_weight(model),
                      model.head ? model.head->bias : at::Tensor());
}

at::Tensor forward(const Model& model, const at::Tensor& ids,
                   const ForwardOptions& options) {
  AUTOGLM_ENSURE(ids.dim() == 2 && ids.scalar_type() == at::kLong);
  const AttentionContext context = attention_context(
      model, ids, options.mask, options.positions, options.cache);
  at::Tensor x = embed(model, ids, options.dtype);
  if (options.on_hidden) options.on_hidden(x);
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    x = block_forward(model, model.blocks[i], static_cast<std::int64_t>(i), x,
                      context);
    if (options.on_hidden) options.on_hidden(x);
  }
  if (options.last_only) x = x.narrow(1, x.size(1) - 1, 1);
  return head_forward(model, x);
}

}  // namespace autoglm
