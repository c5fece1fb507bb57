#include "autoglm/model/forward.h"

#include "autoglm/core/error.h"
#include "autoglm/model/mlp.h"
#include "model/attention.h"
#include "model/device_stream.h"

namespace autoglm {
namespace {

// What a part adds to the stream: `out`, through the norm that some families
// put after a part.
at::Tensor part_output(const Architecture& a, const at::Tensor& out,
                       const Norm& norm) {
  return norm.gain.defined() ? apply_norm(norm, out, a.norm_epsilon) : out;
}

// The stream that it is added to; `normed` is what the part received.
at::Tensor part_residual(const Architecture& a, const at::Tensor& x,
                         const at::Tensor& normed) {
  return a.normed_residual ? normed * a.residual_scale : x;
}

// x + y and its norm.
NormedSum norm_of_sum(const Norm& norm, const at::Tensor& x,
                      const at::Tensor& y, double epsilon) {
  NormedSum out = device_norm_of_sum(norm, x, y, epsilon);
  if (!out.sum.defined()) {
    out.sum = x + y;
    out.normed = apply_norm(norm, out.sum, epsilon);
  }
  return out;
}

// What the matrices at `stop` receive, or what the block returns.
at::Tensor run_until(const Model& model, const Block& block, std::int64_t layer,
                     const at::Tensor& x, AttentionContext& context,
                     std::optional<Site> stop) {
  const Architecture& a = model.architecture;
  at::Tensor middle = x, mlp_in;
  if (block.has_attention()) {
    const at::Tensor attention_in =
        apply_norm(block.input_norm, x, a.norm_epsilon);
    if (stop == Site::kAttention) return attention_in;
    context.done("norms");
    const at::Tensor mixed = attention_values(a, block.attention, layer,
                                              attention_in, context, stop);
    if (stop == Site::kQueryB || stop == Site::kKeyValueB ||
        stop == Site::kOutput)
      return mixed;
    const Linear& output = block.attention.output;
    const at::Tensor out = apply_linear(mixed, output.weight, output.bias);
    context.done("output");
    const at::Tensor residual = part_residual(a, x, attention_in);
    const at::Tensor added = part_output(a, out, block.after_attention_norm);
    if (!block.has_mlp()) {
      AUTOGLM_ENSURE(!stop);
      return residual + added;
    }
    const NormedSum both =
        norm_of_sum(block.middle_norm, residual, added, a.norm_epsilon);
    middle = both.sum;
    mlp_in = both.normed;
  }
  if (!block.has_mlp()) {
    AUTOGLM_ENSURE(!stop);
    return middle;
  }
  if (!mlp_in.defined())
    mlp_in = apply_norm(block.middle_norm, middle, a.norm_epsilon);
  if (stop == Site::kMlp) return mlp_in;
  if (stop == Site::kDown)
    return mlp_values(a, block.is_mixture() ? block.mixture.shared : block.mlp,
                      mlp_in);
  context.done("norms");
  at::Tensor out;
  if (block.is_mixture()) {
    out = mixture_forward(a, block.mixture, mlp_in);
    context.done("experts");
  } else {
    const at::Tensor values = mlp_values(a, block.mlp, mlp_in);
    context.done("gate, up");
    out = apply_linear(values, block.mlp.down.weight, block.mlp.down.bias);
    context.done("down");
  }
  return part_residual(a, middle, mlp_in) +
         part_output(a, out, block.after_mlp_norm);
}

at::Tensor run_blocks(const Model& model, at::Tensor x,
                      AttentionContext& context,
                      const std::function<void(at::Tensor)>& on_hidden) {
  if (on_hidden) on_hidden(x);
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    x = block_forward(model, model.blocks[i], static_cast<std::int64_t>(i), x,
                      context);
    if (on_hidden) on_hidden(x);
  }
  return x;
}

}  // namespace

at::Tensor apply_norm(const Norm& norm, const at::Tensor& x, double epsilon) {
  if (at::Tensor y = device_norm(norm, x, epsilon); y.defined()) return y;
  const at::Tensor wide = x.to(at::kFloat);
  if (norm.bias.defined())
    return at::layer_norm(wide, {x.size(-1)}, norm.gain.to(at::kFloat),
                          norm.bias.to(at::kFloat), epsilon)
        .to(x.scalar_type());
  // Variant A of the GLM family (transformers): the cast comes before the gain.
  const at::Tensor scale =
      at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + epsilon);
  return norm.gain.to(x.scalar_type()) * (wide * scale).to(x.scalar_type());
}

at::Tensor embed(const Model& model, const Weight& table, const at::Tensor& ids,
                 const AttentionContext& context, at::ScalarType dtype) {
  at::Tensor x = select_rows(table, ids, dtype);
  if (model.positions.defined())
    x = x + at::embedding(model.positions, context.positions).to(dtype);
  if (model.block_positions.defined())
    x = x +
        at::embedding(model.block_positions, context.block_positions).to(dtype);
  return x;
}

at::Tensor block_forward(const Model& model, const Block& block,
                         std::int64_t layer, const at::Tensor& x,
                         AttentionContext& context) {
  return run_until(model, block, layer, x, context, std::nullopt);
}

std::vector<SiteMatrices> block_sites(const Block& block) {
  const auto is_present = [](const Linear& linear) { return linear.present(); };
  const Attention& attention = block.attention;
  const bool mixture = block.is_mixture();
  const Mlp& mlp = mixture ? block.mixture.shared : block.mlp;
  const std::string prefix = mixture ? "mlp.shared." : "mlp.";
  std::vector<SiteMatrices> out;
  const auto add = [&](Site site,
                       std::vector<std::pair<std::string, const Linear*>> all) {
    SiteMatrices entry{site, {}};
    for (const auto& [name, linear] : all)
      if (is_present(*linear)) entry.names.push_back(name);
    if (!entry.names.empty()) out.push_back(std::move(entry));
  };
  add(Site::kAttention,
      {{"attention.query", &attention.query},
       {"attention.key", &attention.key},
       {"attention.value", &attention.value},
       {"attention.query_key_value", &attention.query_key_value},
       {"attention.query_a", &attention.query_a},
       {"attention.key_value_a", &attention.key_value_a}});
  add(Site::kQueryB, {{"attention.query_b", &attention.query_b}});
  add(Site::kKeyValueB, {{"attention.key_value_b", &attention.key_value_b}});
  add(Site::kOutput, {{"attention.output", &attention.output}});
  add(Site::kMlp, {{prefix + "gate_up", &mlp.gate_up},
                   {prefix + "gate", &mlp.gate},
                   {prefix + "up", &mlp.up}});
  add(Site::kDown, {{prefix + "down", &mlp.down}});
  return out;
}

at::Tensor site_input(const Model& model, const Block& block,
                      std::int64_t layer, const at::Tensor& x,
                      const AttentionContext& context, Site site) {
  AttentionContext own = context;
  return run_until(model, block, layer, x, own, site);
}

at::Tensor text_positions(const at::Tensor& x, std::int64_t prefix) {
  const std::int64_t first = std::max<std::int64_t>(0, prefix - 1);
  return x.narrow(1, first, x.size(1) - 1 - first);
}

at::Tensor text_states(const Model& model, const at::Tensor& ids,
                       std::int64_t prefix, at::ScalarType dtype,
                       const std::function<void(at::Tensor)>& on_hidden) {
  AttentionContext context = attention_context(model, ids);
  const auto scored = [&](const at::Tensor& x) {
    return text_positions(x, prefix).flatten(0, 1);
  };
  std::function<void(at::Tensor)> at_scored;
  if (on_hidden) at_scored = [&](const at::Tensor& x) { on_hidden(scored(x)); };
  return scored(run_blocks(model,
                           embed(model, model.embedding, ids, context, dtype),
                           context, at_scored));
}

at::Tensor final_hidden(const Model& model, const at::Tensor& x) {
  return apply_norm(model.final_norm, x, model.architecture.norm_epsilon);
}

at::Tensor head_forward(const Model& model, const at::Tensor& x) {
  return apply_linear(final_hidden(model, x), head_weight(model),
                      model.head ? model.head->bias : at::Tensor());
}

at::Tensor forward(const Model& model, const at::Tensor& ids,
                   const ForwardOptions& options) {
  AUTOGLM_ENSURE(ids.dim() == 2 && ids.scalar_type() == at::kLong);
  AttentionContext context = attention_context(
      model, ids, options.mask, options.positions, options.cache);
  context.on_part = options.on_part;
  return forward_in(model, ids, context, options);
}

at::Tensor forward_in(const Model& model, const at::Tensor& ids,
                      AttentionContext& context,
                      const ForwardOptions& options) {
  at::Tensor x = embed(model, model.embedding, ids, context, options.dtype);
  context.done("embedding");
  x = run_blocks(model, x, context, options.on_hidden);
  if (options.last_only) x = x.narrow(1, x.size(1) - 1, 1);
  const at::Tensor logits = head_forward(model, x);
  context.done("head");
  return logits;
}

}  // namespace autoglm
