// The golden fixtures: tiny checkpoints of every family with the numbers that
// a reference computed from them (golden.json says which).
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "autoglm/formats/tensor_folder.h"
#include "autoglm/model/checkpoint.h"
#include "tests/support/catch.h"

namespace autoglm::test {

inline const std::filesystem::path kGolden =
    std::filesystem::path(AUTOGLM_SOURCE_DIR) / "tests/golden";

inline const std::vector<std::string>& golden_names() {
  static const std::vector<std::string> names = {"glm",
                                                 "glm_edge",
                                                 "glm4",
                                                 "chatglm2",
                                                 "chatglm3",
                                                 "chatglm_glm4_9b",
                                                 "chatglm_6b",
                                                 "glm_10b",
                                                 "glm4_moe",
                                                 "glm4_moe_air",
                                                 "glm4_moe_lite",
                                                 "glm_moe_dsa",
                                                 "glm_moe_dsa_sparse"};
  return names;
}

struct Golden {
  std::string name;
  Model model;  // fp32 on the CPU
  TensorFolder values;

  explicit Golden(const std::string& fixture)
      : name(fixture),
        model(to_compute(read_checkpoint(kGolden / fixture), at::kCPU,
                         at::kFloat)),
        values(
            TensorFolder::open_file(kGolden / fixture / "golden.safetensors")) {
    // Its special tokens come from the tokenizer, which the fixture lacks;
    // golden.json lists them.
    if (fixture == "glm_10b")
      model.architecture.blank = {{{260, 263, 264}}, 257};
  }
  at::Tensor operator[](const std::string& tensor) const {
    return values.tensor(tensor);
  }
};

/// Checks |a - b| <= 2e-4 + 1e-4 |b| (the fixtures' own tolerance) and at most
/// 5e-4 everywhere; returns the largest |a - b|.
inline double compare(const at::Tensor& a, const at::Tensor& b,
                      const std::string& what) {
  INFO(what);
  REQUIRE(a.sizes() == b.sizes());
  REQUIRE(at::isfinite(a).all().item<bool>());
  const at::Tensor difference = (a - b).abs();
  const double largest = difference.max().item<double>();
  INFO("largest difference " << largest);
  CHECK((difference <= b.abs() * 1e-4 + 2e-4).all().item<bool>());
  CHECK(largest <= 5e-4);
  return largest;
}

}  // namespace autoglm::test
