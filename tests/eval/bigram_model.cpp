#include "tests/eval/bigram_model.h"

#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/model/checkpoint.h"

namespace autoglm::test {

Model bigram_model(const std::vector<std::vector<double>>& probabilities) {
  constexpr std::int64_t kTokens = 4;
  AUTOGLM_ENSURE(probabilities.size() == kTokens);
  Model model;
  for (const FamilyTable& family : family_tables())
    if (family.name == "glm") model.architecture.family = &family;
  model.architecture.vocabulary = kTokens;
  model.architecture.hidden = kTokens;
  model.architecture.head_size = 2;
  model.architecture.max_positions = 64;
  model.embedding = DenseWeight{at::eye(kTokens)};
  // The root mean square of a one-hot row of four is 1/2: the norm doubles it
  // and the gain halves it again, both exactly.
  model.final_norm.gain = at::full({kTokens}, 0.5);
  at::Tensor head = at::empty({kTokens, kTokens});
  auto value = head.accessor<float, 2>();
  for (std::int64_t t = 0; t < kTokens; ++t)
    for (std::int64_t v = 0; v < kTokens; ++v)
      value[v][t] = static_cast<float>(
          std::log(probabilities[static_cast<std::size_t>(t)].at(
              static_cast<std::size_t>(v))));
  model.head = Linear{DenseWeight{head}, {}};
  return model;
}

TokenWindows windows_of(std::vector<TokenId> prefix,
                        std::vector<std::vector<TokenId>> windows,
                        std::uint64_t text_bytes) {
  TokenWindows out;
  out.prefix = std::move(prefix);
  out.length = static_cast<std::int64_t>(windows.at(0).size());
  out.windows = std::move(windows);
  out.text_bytes = text_bytes;
  out.source = "by hand";
  return out;
}

Model short_example(std::size_t layers) {
  Model model = read_checkpoint(std::filesystem::path(AUTOGLM_SOURCE_DIR) /
                                "examples/glm-books");
  model.blocks.resize(layers);
  update_widths(model);
  return model;
}

void round_weight(Model& model, const std::string& linear, int bits,
                  std::int64_t group) {
  Weight& weight = weight_of(model, linear);
  const at::Tensor value =
      to_dense(weight, at::kFloat).unflatten(1, {-1, group});
  const double top = std::exp2(bits - 1);
  const at::Tensor scale = value.abs().amax(-1).clamp_min(1e-8) / (top - 0.5);
  const at::Tensor codes =
      at::clamp(at::round(value / scale.unsqueeze(-1)) + top, 0, 2 * top - 1);
  weight = pack_weight(codes.flatten(1).to(at::kByte), scale, {}, bits, group);
}

}  // namespace autoglm::test
