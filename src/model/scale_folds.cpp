#include "autoglm/model/scale_folds.h"

#include <algorithm>

#include "autoglm/core/error.h"
#include "autoglm/model/block_parts.h"

namespace autoglm {
namespace {

bool is_dense(const Linear& linear) {
  const auto* dense = std::get_if<DenseWeight>(&linear.weight);
  return dense != nullptr && dense->value.defined();
}

// Rows [first, first + count) of every stretch of `stride` rows.
at::Tensor rows_of_each(const Linear& linear, std::int64_t stride,
                        std::int64_t first, std::int64_t count) {
  const auto options =
      at::TensorOptions(at::kLong).device(device(linear.weight));
  const at::Tensor starts =
      at::arange(first, rows(linear.weight), stride, options);
  return (starts.unsqueeze(1) + at::arange(count, options)).flatten();
}

std::string fold_name(Site site, const std::vector<std::string>& readers) {
  if (site == Site::kAttention) return "attention";
  if (site == Site::kMlp) return "mlp";
  return readers.front();
}

class Folds {
 public:
  Folds(const Architecture& architecture, const Block& block)
      : a_(architecture), block_(block) {}

  std::vector<ScaleFold> find() {
    const bool mixture = block_.is_mixture();
    for (const SiteMatrices& site : block_sites(block_))
      if (!mixture || (site.site != Site::kMlp && site.site != Site::kDown))
        add(site.site, site.names);
    // By itself, for block_sites knows of shared experts alone.
    if (mixture) add_mixture();
    return std::move(out_);
  }

 private:
  void add(Site site, const std::vector<std::string>& readers) {
    ScaleFold fold;
    fold.site = site;
    fold.readers = readers;
    fold.name = fold_name(site, readers);
    switch (site) {
      case Site::kAttention:
        fold.tensors = present({"attention.indexer.key.weight",
                                "attention.indexer.head_weights.weight"});
        return add_norm(std::move(fold), "input_norm");
      case Site::kQueryB:
        fold.tensors = present({"attention.indexer.query.weight"});
        return add_norm(std::move(fold), "attention.query_a_norm");
      case Site::kKeyValueB:
        return add_norm(std::move(fold), "attention.key_value_a_norm");
      case Site::kOutput:
        return add_values(std::move(fold));
      case Site::kMlp:
        return add_norm(std::move(fold), "middle_norm");
      case Site::kDown:
        return add_up(std::move(fold), "mlp.", block_.mlp);
    }
  }

  void add_mixture() {
    ScaleFold inner;
    inner.site = Site::kMlp;
    inner.name = fold_name(Site::kMlp, {});
    inner.tensors = {"mlp.router.weight"};
    std::vector<ScaleFold> downs;
    const auto expert = [&](const std::string& prefix, const Mlp& mlp,
                            std::optional<std::size_t> number) {
      for (const auto& [kind, linear] :
           {std::pair("gate_up", &mlp.gate_up), std::pair("gate", &mlp.gate),
            std::pair("up", &mlp.up)})
        if (linear->present()) inner.readers.push_back(prefix + kind);
      ScaleFold down;
      down.site = Site::kDown;
      down.expert = number;
      down.readers = {prefix + "down"};
      down.name = down.readers.front();
      if (mlp.down.present()) downs.push_back(std::move(down));
    };
    expert("mlp.shared.", block_.mixture.shared, std::nullopt);
    for (std::size_t e = 0; e < block_.mixture.experts.size(); ++e)
      expert(fmt::format("mlp.experts.{}.", e), block_.mixture.experts[e], e);
    add_norm(std::move(inner), "middle_norm");
    for (ScaleFold& down : downs) {
      const std::string prefix =
          down.name.substr(0, down.name.size() - std::string("down").size());
      const Mlp& mlp = down.expert ? block_.mixture.experts[*down.expert]
                                   : block_.mixture.shared;
      add_up(std::move(down), prefix, mlp);
    }
  }

  std::vector<std::string> present(std::vector<std::string> names) {
    std::erase_if(names, [&](const std::string& name) {
      return !find_tensor(block_, name)->defined();
    });
    return names;
  }

  void add_norm(ScaleFold fold, const std::string& norm) {
    // The normed input of a whole part goes on to the stream there.
    const bool added = a_.normed_residual && (fold.site == Site::kAttention ||
                                              fold.site == Site::kMlp);
    const at::Tensor& gain = *find_tensor(block_, norm + ".weight");
    if (added || !gain.defined()) return;
    fold.producer = norm;
    keep(std::move(fold), gain.size(0), /*run=*/gain.size(0));
  }

  void add_values(ScaleFold fold) {
    const Attention& attention = block_.attention;
    const std::int64_t inputs = columns(attention.output.weight);
    const std::int64_t heads = inputs / a_.value_size;
    if (a_.is_latent()) {
      fold.producer = "attention.key_value_b";
      fold.rows =
          rows_of_each(attention.key_value_b, a_.latent.nope + a_.value_size,
                       a_.latent.nope, a_.value_size);
    } else if (attention.query_key_value.present()) {
      const Linear& fused = attention.query_key_value;
      const std::int64_t all = rows(fused.weight), size = a_.head_size;
      fold.producer = "attention.query_key_value";
      const std::int64_t values = (all - heads * size) / 2;
      fold.rows = a_.qkv == QkvLayout::kPerHead
                      ? rows_of_each(fused, 3 * size, 2 * size, size)
                      : rows_of_each(fused, all, all - values, values);
    } else {
      const std::int64_t values = rows(attention.value.weight);
      fold.producer = "attention.value";
      fold.rows = rows_of_each(attention.value, values, 0, values);
    }
    const std::int64_t channels = fold.rows.size(0);
    fold.repeat = inputs / channels;
    keep(std::move(fold), channels, /*run=*/a_.value_size);
  }

  void add_up(ScaleFold fold, const std::string& prefix, const Mlp& mlp) {
    const std::int64_t ffn = columns(mlp.down.weight);
    if (mlp.gate_up.present()) {
      fold.producer = prefix + "gate_up";
      fold.rows = rows_of_each(mlp.gate_up, 2 * ffn, ffn, ffn);
    } else if (mlp.gate.present()) {
      fold.producer = prefix + "up";
      fold.rows = rows_of_each(mlp.up, ffn, 0, ffn);
    } else {
      return;
    }
    keep(std::move(fold), ffn, /*run=*/ffn);
  }

  void keep(ScaleFold fold, std::int64_t channels, std::int64_t run) {
    const auto dense = [&](const std::string& name) {
      return is_dense(*find_linear(block_, name));
    };
    if (!std::all_of(fold.readers.begin(), fold.readers.end(), dense)) return;
    if (fold.rows.defined() && !dense(fold.producer)) return;
    fold.channels = channels;
    fold.run = run;
    out_.push_back(std::move(fold));
  }

  const Architecture& a_;
  Block block_;  // a copy: its parts are found by name, as if to change them
  std::vector<ScaleFold> out_;
};

at::Tensor times(const at::Tensor& tensor, const at::Tensor& factor) {
  return (tensor.to(at::kFloat) * factor).to(tensor.scalar_type());
}

Weight times(const Weight& weight, const at::Tensor& factor,
             FoldedMatrices matrices) {
  const at::Tensor value = std::get<DenseWeight>(weight).value;
  return DenseWeight{
      times(matrices == FoldedMatrices::kFloat ? value.to(at::kFloat) : value,
            factor)};
}

// Rows and biases of the channels per scale.
void divide_rows(Linear& linear, const at::Tensor& channels,
                 const at::Tensor& scales, FoldedMatrices matrices) {
  const at::Tensor factor = at::ones({rows(linear.weight)}, scales.options())
                                .index_copy(0, channels, scales.reciprocal());
  linear.weight = times(linear.weight, factor.unsqueeze(1), matrices);
  if (linear.bias.defined()) linear.bias = times(linear.bias, factor);
}

// Returns what the gains were really divided by.
at::Tensor divide_norm(at::Tensor& gain, at::Tensor& bias,
                       const at::Tensor& scales) {
  const at::Tensor before = gain.to(at::kFloat);
  gain = times(gain, scales.reciprocal());
  const at::Tensor after = gain.to(at::kFloat);
  const at::Tensor taken = at::where(after == 0, scales, before / after);
  if (bias.defined()) bias = times(bias, taken.reciprocal());
  return taken;
}

}  // namespace

at::Tensor ScaleFold::for_inputs(const at::Tensor& scales) const {
  return scales.view({-1, run}).repeat_interleave(repeat, 0).flatten();
}

at::Tensor ScaleFold::greatest_of_inputs(const at::Tensor& values) const {
  return values.view({-1, repeat, run}).amax(1).flatten();
}

at::Tensor ScaleFold::mean_of_inputs(const at::Tensor& values) const {
  return values.view({-1, repeat, run}).mean(1).flatten();
}

std::vector<ScaleFold> scale_folds(const Architecture& architecture,
                                   const Block& block) {
  return Folds(architecture, block).find();
}

Block apply_fold(const Block& block, const ScaleFold& fold,
                 const at::Tensor& scales, FoldedMatrices matrices) {
  AUTOGLM_ENSURE(scales.dim() == 1 && scales.size(0) == fold.channels);
  Block out = block;
  at::Tensor taken = scales;
  if (fold.rows.defined())
    divide_rows(*find_linear(out, fold.producer), fold.rows, scales, matrices);
  else
    taken = divide_norm(*find_tensor(out, fold.producer + ".weight"),
                        *find_tensor(out, fold.producer + ".bias"), scales);
  const at::Tensor inputs = fold.for_inputs(taken);
  for (const std::string& name : fold.readers) {
    Weight& weight = find_linear(out, name)->weight;
    weight = times(weight, inputs, matrices);
  }
  for (const std::string& name : fold.tensors) {
    at::Tensor& tensor = *find_tensor(out, name);
    tensor = times(tensor, inputs);
  }
  return out;
}

}  // namespace autoglm
