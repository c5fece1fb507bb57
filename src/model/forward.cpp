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

// The residual stream and what the last part adds to it, or nothing: the sum is
// left to the next norm, since a device may make both in one pass.
struct ResidualStream {
  at::Tensor x, added;

  at::Tensor sum() const { return added.defined() ? x + added : x; }
};

NormedSum norm_of(const Norm& norm, const ResidualStream& stream,
                  double epsilon) {
  NormedSum out;
  if (stream.added.defined())
    out = device_norm_of_sum(norm, stream.x, stream.added, epsilon);
  if (!out.sum.defined()) {
    out.sum = stream.sum();
    out.normed = apply_norm(norm, out.sum, epsilon);
  }
  return out;
}

// What the matrices at `stop` receive; or nothing, and the stream has passed
// through the block.
at::Tensor run_until(const Model& model, const Block& block, std::int64_t layer,
                     ResidualStream& stream, AttentionContext& context,
                     std::optional<Site> stop) {
  const Architecture& a = model.architecture;
  if (block.has_attention()) {
    const NormedSum in = norm_of(block.input_norm, stream, a.norm_epsilon);
    if (stop == Site::kAttention) return in.normed;
    context.done("norms");
    const at::Tensor mixed =
        attention_values(a, block.attention, layer, in.normed, context, stop);
    if (stop == Site::kQueryB || stop == Site::kKeyValueB ||
        stop == Site::kOutput)
      return mixed;
    const Linear& output = block.attention.output;
    const at::Tensor out = apply_linear(mixed, output.weight, output.bias);
    context.done("output");
    stream = {part_residual(a, in.sum, in.normed),
              part_output(a, out, block.after_attention_norm)};
  }
  if (!block.has_mlp()) {
    AUTOGLM_ENSURE(!stop);
    return {};
  }
  const NormedSum in = norm_of(block.middle_norm, stream, a.norm_epsilon);
  if (stop == Site::kMlp) return in.normed;
  if (stop == Site::kDown)
    return mlp_values(a, block.is_mixture() ? block.mixture.shared : block.mlp,
                      in.normed);
  context.done("norms");
  at::Tensor out;
  if (block.is_mixture()) {
    out = mixture_forward(a, block.mixture, in.normed);
    context.done("experts");
  } else {
    const at::Tensor values = mlp_values(a, block.mlp, in.normed);
    context.done("gate, up");
    out = apply_linear(values, block.mlp.down.weight, block.mlp.down.bias);
    context.done("down");
  }
  stream = {part_residual(a, in.sum, in.normed),
            part_output(a, out, block.after_mlp_norm)};
  return {};
}

ResidualStream run_blocks(const Model& model, at::Tensor x,
                          AttentionContext& context,
                          const std::function<void(at::Tensor)>& on_hidden) {
  if (on_hidden) on_hidden(x);
  ResidualStream stream = {std::move(x), {}};
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    run_until(model, model.blocks[i], static_cast<std::int64_t>(i), stream,
              context, std::nullopt);
    if (!on_hidden) continue;
    stream = {stream.sum(), {}};
    on_hidden(stream.x);
  }
  return stream;
}

at::Tensor apply_head(const Model& model, const at::Tensor& hidden) {
  return apply_linear(hidden, head_weight(model),
                      model.head ? model.head->bias : at::Tensor());
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
  ResidualStream stream = {x, {}};
  run_until(model, block, layer, stream, context, std::nullopt);
  return stream.sum();
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
  ResidualStream stream = {x, {}};
  return run_until(model, block, layer, stream, own, site);
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
                           context, at_scored)
                    .sum());
}

at::Tensor final_hidden(const Model& model, const at::Tensor& x) {
  return apply_norm(model.final_norm, x, model.architecture.norm_epsilon);
}

at::Tensor head_forward(const Model& model, const at::Tensor& x) {
  return apply_head(model, final_hidden(model, x));
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
  ResidualStream stream =
      run_blocks(model, std::move(x), context, options.on_hidden);
  if (options.last_only)
    for (at::Tensor* part : {&stream.x, &stream.added})
      if (part->defined()) *part = part->narrow(1, part->size(1) - 1, 1);
  const at::Tensor logits = apply_head(
      model, norm_of(model.final_norm, stream, model.architecture.norm_epsilon)
                 .normed);
  context.done("head");
  return logits;
}

}  // namespace autoglm
