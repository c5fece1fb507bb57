#include "passes/pruning/hidden_width.h"

#include <ATen/core/grad_mode.h>

#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "passes/expert_inputs.h"
#include "passes/pruning/coupled_rows.h"
#include "passes/pruning/hidden_channels.h"
#include "passes/pruning/hidden_fit.h"
#include "passes/pruning/hidden_gains.h"
#include "passes/pruning/hidden_scores.h"

namespace autoglm {
namespace {

constexpr std::int64_t kBatch = 8;  // windows at once

at::Tensor counts(const Linear& linear) {
  return at::arange(columns(linear.weight),
                    at::TensorOptions(at::kLong).device(device(linear.weight)));
}

void write_errors(Json& note, const std::string& name, double before,
                  double after) {
  note[name + "_cut"] = before;
  note[name] = after;
}

// The original model and the narrow one side by side, block by block.
class HiddenWalk {
 public:
  HiddenWalk(const Model& original, Model narrow, const at::Tensor& kept,
             const PruningMethod& method, const at::Tensor& windows);
  Model run(Json& note);

 private:
  /// What something is in the original model [b, T, H] and now [b, T, n].
  using Values = std::function<std::pair<at::Tensor, at::Tensor>(std::size_t)>;

  void block(std::size_t i, Json& note);
  void part(const BlockVisit& visit, Block& now, Part part, Json& note);
  void fit_readers(const BlockVisit& visit, Block& now, Part part,
                   const Values& given, Json& note);
  void fit_writers(const BlockVisit& visit, Block& now, Part part, Json& note);
  void finish(Json& note);

  Values site_values(const BlockVisit& visit, const Block& now,
                     Site site) const;
  void fit_norm(Norm& norm, const Norm& original, const Values& given) const;
  SplitMoments moments(const Values& given) const;
  bool repairs() const { return method_.repair != RepairKind::kNone; }

  const Model& original_;
  Model narrow_;
  at::Tensor kept_;
  const PruningMethod& method_;
  Stream x_, z_;
  Contexts original_contexts_, contexts_;
};

HiddenWalk::HiddenWalk(const Model& original, Model narrow,
                       const at::Tensor& kept, const PruningMethod& method,
                       const at::Tensor& windows)
    : original_(original),
      narrow_(std::move(narrow)),
      kept_(kept),
      method_(method) {
  for (const at::Tensor& ids : windows.split(kBatch)) {
    original_contexts_.push_back(attention_context(original_, ids));
    contexts_.push_back(attention_context(narrow_, ids));
    x_.push_back(embed(original_, original_.embedding, ids,
                       original_contexts_.back(), at::kFloat));
    z_.push_back(
        embed(narrow_, narrow_.embedding, ids, contexts_.back(), at::kFloat));
  }
}

HiddenWalk::Values HiddenWalk::site_values(const BlockVisit& visit,
                                           const Block& now, Site site) const {
  return [&, site](std::size_t b) {
    return std::pair(
        site_input(original_, visit.original, visit.layer,
                   visit.original_input[b], visit.original_contexts[b], site),
        site_input(narrow_, now, visit.layer, visit.compressed_input[b],
                   visit.compressed_contexts[b], site));
  };
}

// The factor of the gain with which what the norm gives is nearest to what it
// gave, biases aside.
void HiddenWalk::fit_norm(Norm& norm, const Norm& original,
                          const Values& given) const {
  double cross = 0, square = 0;
  for (std::size_t b = 0; b < x_.size(); ++b) {
    check_interrupted();
    auto [x, z] = given(b);
    x = pick(x, -1, kept_);
    if (norm.bias.defined()) {
      x = x - pick(original.bias, 0, kept_);
      z = z - norm.bias;
    }
    cross += (x * z).sum(at::kDouble).item<double>();
    square += z.square().sum(at::kDouble).item<double>();
  }
  if (cross > 0 && square > 0) norm.gain = norm.gain * (cross / square);
}

SplitMoments HiddenWalk::moments(const Values& given) const {
  return split_moments(x_.size(), [&](std::size_t b) {
    auto [x, z] = given(b);
    return std::pair(x, at::zeros_like(x).index_copy(-1, kept_, z));
  });
}

void HiddenWalk::fit_readers(const BlockVisit& visit, Block& now, Part part,
                             const Values& given, Json& note) {
  HiddenFit fit(moments(given), kept_, method_.repair, method_.new_biases);
  const bool attention = part == Part::kAttention;
  const auto reads = [&](const std::string& name) {
    return hidden_role(name) == HiddenRole::kReads &&
           name.starts_with("attention.") == attention;
  };
  visit_block(
      visit.original,
      [&](const std::string& name, const Linear& linear) {
        if (reads(name)) *find_linear(now, name) = fit.fitted(linear);
      },
      [&](const std::string& name, const at::Tensor& weight) {
        if (reads(name)) *find_tensor(now, name) = fit.fitted(weight);
      });
  write_errors(note, attention ? "attention_input_error" : "mlp_input_error",
               fit.error_before(), fit.error_after());
}

void HiddenWalk::fit_writers(const BlockVisit& visit, Block& now, Part part,
                             Json& note) {
  const auto fit = [&](Linear& linear, const SplitMoments& data) {
    return *keep_columns(linear, counts(linear), &data, method_.repair,
                         method_.new_biases);
  };
  const auto fit_in_stream = [&](Linear& linear, const char* name) {
    const Repair repair = fit(
        linear, reader_moments(narrow_, visit, now, part, at::Tensor(), kept_));
    write_errors(note, name, repair.error_before, repair.error_after);
  };
  if (part == Part::kAttention)
    return fit_in_stream(now.attention.output, "attention_error");
  if (!now.is_mixture()) return fit_in_stream(now.mlp.down, "mlp_error");
  const ExpertInputs inputs(narrow_, visit, now);
  for (std::size_t e = 0; e < now.mixture.experts.size(); ++e) {
    Mlp& expert = now.mixture.experts[e];
    const auto data = inputs.down(e, visit.original.mixture.experts[e], expert);
    if (data) fit(expert.down, *data);
  }
  // It makes up for the others too.
  if (now.mixture.shared.down.present())
    fit_in_stream(now.mixture.shared.down, "shared_error");
}

void HiddenWalk::part(const BlockVisit& visit, Block& now, Part part,
                      Json& note) {
  const bool attention = part == Part::kAttention;
  const auto given =
      site_values(visit, now, attention ? Site::kAttention : Site::kMlp);
  const Block& before = visit.original;
  fit_norm(attention ? now.input_norm : now.middle_norm,
           attention ? before.input_norm : before.middle_norm, given);
  if (repairs()) {
    fit_readers(visit, now, part, given, note);
    fit_writers(visit, now, part, note);
  }
  Norm& behind = attention ? now.after_attention_norm : now.after_mlp_norm;
  if (!behind.gain.defined()) return;
  const Norm& original =
      attention ? before.after_attention_norm : before.after_mlp_norm;
  const double epsilon = narrow_.architecture.norm_epsilon;
  const auto inner =
      site_values(visit, now, attention ? Site::kOutput : Site::kDown);
  const auto written = [&](const Block& block, const at::Tensor& values) {
    const Linear& linear = attention ? block.attention.output : block.mlp.down;
    return apply_linear(values, linear.weight, linear.bias);
  };
  fit_norm(behind, original, [&](std::size_t b) {
    const auto [x, z] = inner(b);
    return std::pair(apply_norm(original, written(before, x), epsilon),
                     apply_norm(behind, written(now, z), epsilon));
  });
}

void HiddenWalk::block(std::size_t i, Json& note) {
  const auto layer = static_cast<std::int64_t>(i);
  const Block& before = original_.blocks[i];
  Block now = narrow_.blocks[i];
  Stream output;
  for (std::size_t b = 0; b < x_.size(); ++b) {
    check_interrupted();
    output.push_back(
        block_forward(original_, before, layer, x_[b], original_contexts_[b]));
  }
  const BlockVisit visit = {
      layer, before, x_, output, z_, original_contexts_, contexts_};
  if (now.has_attention()) part(visit, now, Part::kAttention, note);
  if (now.has_mlp()) part(visit, now, Part::kMlp, note);
  for (std::size_t b = 0; b < z_.size(); ++b) {
    check_interrupted();
    z_[b] = block_forward(narrow_, now, layer, z_[b], contexts_[b]);
  }
  x_ = std::move(output);
  narrow_.blocks[i] = now;
}

void HiddenWalk::finish(Json& note) {
  const Values given = [&](std::size_t b) {
    return std::pair(final_hidden(original_, x_[b]),
                     final_hidden(narrow_, z_[b]));
  };
  fit_norm(narrow_.final_norm, original_.final_norm, given);
  if (!repairs()) return;
  if (original_.head) {
    HiddenFit fit(moments(given), kept_, method_.repair, method_.new_biases);
    narrow_.head = fit.fitted(*original_.head);
    write_errors(note, "head_error", fit.error_before(), fit.error_after());
  } else if (method_.repair == RepairKind::kLeastSquares) {
    const at::Tensor gains = fitted_gains(
        to_dense(original_.embedding, at::kFloat), moments(given), kept_);
    Norm& norm = narrow_.final_norm;
    if (gains.defined())
      norm.gain = (norm.gain * gains).to(norm.gain.scalar_type());
  }
}

Model HiddenWalk::run(Json& note) {
  const at::NoGradGuard no_grad;
  Progress progress("hidden width", original_.architecture.layers(), "blocks");
  Json layers = Json::array();
  for (std::size_t i = 0; i < original_.blocks.size(); ++i) {
    Json own = {{"layer", i}};
    block(i, own);
    layers.push_back(std::move(own));
    progress.step();
  }
  finish(note);
  if (repairs()) note["layers"] = std::move(layers);
  return std::move(narrow_);
}

}  // namespace

void check_hidden_dense(const Model& model) {
  for (const NamedLinear& linear : named_linears(model))
    if (!std::holds_alternative<DenseWeight>(weight_of(model, linear.name)))
      fail(ErrorKind::kConfig,
           fmt::format("structured_pruning: {} is quantized; put pruning "
                       "before quantization",
                       linear.name));
}

Model narrow_stream(const Model& model, const PassContext& context,
                    const PruningMethod& method, std::int64_t left,
                    Json& note) {
  const at::NoGradGuard no_grad;
  const at::Tensor windows =
      context.calibration.defined()
          ? context.calibration.to(device(model.embedding))
          : at::Tensor();
  const at::Tensor scores =
      hidden_scores(model, windows, context.prefix, method.importance, left,
                    derive_seed(context.seed, "hidden"));
  const at::Tensor kept = largest(scores, left);
  const at::Tensor gone =
      largest(-scores, model.architecture.hidden - left).cpu();
  note["width"] = left;
  note["removed"] = std::vector<std::int64_t>(
      gone.const_data_ptr<std::int64_t>(),
      gone.const_data_ptr<std::int64_t>() + gone.numel());
  Model narrow = keep_hidden(model, kept);
  if (windows.defined())
    return HiddenWalk(model, std::move(narrow), kept, method, windows)
        .run(note);
  scale_norms(model, kept, narrow);
  return narrow;
}

}  // namespace autoglm
