// Published checkpoints differ in prefixes, heads, experts and extras.
#include <ATen/core/grad_mode.h>

#include <fstream>

#include "tests/model/checkpoint_files.h"
#include "tests/model/golden.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;
using autoglm::test::Tensors;

namespace {

namespace fs = std::filesystem;

Model reread(const Json& config, const Tensors& tensors) {
  // The mapping outlives the file.
  const TemporaryFolder folder;
  test::write_files(folder.path(), config, tensors);
  return read_checkpoint(folder.path());
}

std::string refused(const Json& config, const Tensors& tensors) {
  return error_of(ErrorKind::kInput, [&] { reread(config, tensors); });
}

// The matrices of every expert stacked, as newer software does.
Tensors stacked(Tensors tensors, std::int64_t experts) {
  const std::string prefix = "model.layers.1.mlp.experts.";
  const auto take = [&](std::int64_t e, const char* part) {
    const auto found =
        tensors.find(prefix + std::to_string(e) + "." + part + "_proj.weight");
    REQUIRE(found != tensors.end());
    const at::Tensor out = found->second;
    tensors.erase(found);
    return out;
  };
  std::vector<at::Tensor> gate_up, down;
  for (std::int64_t e = 0; e < experts; ++e) {
    const at::Tensor gate = take(e, "gate");
    gate_up.push_back(at::cat({gate, take(e, "up")}));
    down.push_back(take(e, "down"));
  }
  tensors[prefix + "gate_up_proj"] = at::stack(gate_up);
  tensors[prefix + "down_proj"] = at::stack(down);
  return tensors;
}

// Kilobytes of `file` that this process has in memory.
std::int64_t resident_kilobytes(const fs::path& file) {
  std::ifstream maps("/proc/self/smaps");
  std::string line;
  bool inside = false;
  std::int64_t out = 0;
  while (std::getline(maps, line)) {
    if (line.find('-') < line.find(' ') && line.find(':') > line.find('-'))
      inside = line.find(file.string()) != std::string::npos;
    if (inside && line.rfind("Rss:", 0) == 0) out += std::stoll(line.substr(4));
  }
  return out;
}

}  // namespace

TEST_CASE("layout: every family loads with each of its prefixes") {
  const at::NoGradGuard no_grad;
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = test::tiny_model(family);
    const Tensors tensors = test::tensors_of(model);
    const FamilyTable& table = *model.architecture.family;
    REQUIRE(table.roots.size() == 2);
    for (const std::string_view root : table.roots) {
      INFO("prefix '" << root << "'");
      Tensors renamed;
      const std::string usual(table.roots[0]);
      const std::string head =
          table.head_below_root ? "" : std::string(table.head) + ".weight";
      for (const auto& [name, tensor] : tensors)
        renamed[name == head ? name
                             : std::string(root) + name.substr(usual.size())] =
            tensor;
      const Model again = reread(model.config, renamed);
      CHECK(again.architecture.root == root);
      CHECK(again.extra.empty());
      test::check_same_model(model, again);
      test::check_same_tensors(renamed, test::tensors_of(again));
    }
  }
}

TEST_CASE("layout: heads may be tied, stored twice or missing") {
  const at::NoGradGuard no_grad;
  const Model model = test::tiny_model("glm");
  const Tensors all = test::tensors_of(model);
  Tensors headless = all;
  headless.erase("lm_head.weight");
  Json config = model.config;
  REQUIRE_FALSE(config.contains("tie_word_embeddings"));
  // A file that says nothing is taken by what it holds.
  CHECK(reread(config, all).head.has_value());
  const Model silent = reread(config, headless);
  CHECK_FALSE(silent.head.has_value());
  CHECK(&head_weight(silent) == &silent.embedding);

  config["tie_word_embeddings"] = false;
  CHECK(reread(config, all).head.has_value());
  CHECK(refused(config, headless).find("tensor 'lm_head.weight' is missing") ==
        0);

  config["tie_word_embeddings"] = true;
  test::check_same_model(reread(config, headless), silent);
  Tensors twice = all;
  twice["lm_head.weight"] = all.at("model.embed_tokens.weight");
  std::optional<Model> read;
  CHECK(test::logged([&] { read = reread(config, twice); }).empty());
  CHECK_FALSE(read->head.has_value());
  CHECK(read->extra.empty());
  test::check_same_model(*read, silent);
}

TEST_CASE("layout: unknown tensors are carried along and listed") {
  const Model model = test::tiny_model("glm");
  Tensors tensors = test::tensors_of(model);
  tensors["model.layers.0.side.weight"] = at::ones({4});
  std::optional<Model> read;
  const std::string log =
      test::logged([&] { read = reread(model.config, tensors); });
  CHECK(log.find("tensor 'model.layers.0.side.weight' is not part of a glm "
                 "model; copied through") != std::string::npos);
  CHECK(read->extra.size() == 1);
  test::check_same_tensors(tensors, test::tensors_of(*read));
}

TEST_CASE("layout: stored frequencies are carried along in silence") {
  for (const char* name : {"chatglm2", "chatglm3", "chatglm_6b"}) {
    INFO(name);
    std::optional<Model> read;
    CHECK(test::logged([&] {
            read = read_checkpoint(test::kGolden / name);
          }).empty());
    CHECK_FALSE(read->extra.empty());
    for (const auto& [tensor, value] : read->extra)
      CHECK(tensor.find("inv_freq") != std::string::npos);
  }
}

TEST_CASE("layout: layers that predict further tokens are copied, not run") {
  std::optional<Model> read;
  const std::string log =
      test::logged([&] { read = read_checkpoint(test::kGolden / "glm4_moe"); });
  CHECK(log.find("layer 3 predicts further tokens (46 tensors); not run") !=
        std::string::npos);
  CHECK(log.find("is not part of") == std::string::npos);
  CHECK(read->blocks.size() == 3);
  CHECK(read->extra.size() == 46);
  CHECK(read->extra.count("model.layers.3.eh_proj.weight") == 1);
  const Tensors written = test::tensors_of(*read);
  CHECK(written.count("model.layers.3.mlp.experts.7.down_proj.weight") == 1);
}

TEST_CASE("layout: stacked experts are the same experts") {
  const at::NoGradGuard no_grad;
  for (const char* family : {"glm4_moe", "glm4_moe_lite", "glm_moe_dsa"}) {
    INFO(family);
    const Model model = test::tiny_model(family);
    const Tensors apart = test::tensors_of(model);
    const Tensors together = stacked(apart, 4);
    const Model again = reread(model.config, together);
    CHECK(again.extra.empty());
    test::check_same_model(model, again);
    // Written one by one, as all checkpoints are published.
    test::check_same_tensors(apart, test::tensors_of(again));

    const std::string name = "model.layers.1.mlp.experts.gate_up_proj";
    for (const at::Tensor& wrong :
         {together.at(name).narrow(0, 0, 3), together.at(name)[0],
          at::cat({together.at(name), together.at(name)}),
          together.at(name).narrow(1, 0, 46)}) {
      Tensors broken = together;
      broken[name] = wrong;
      const std::string text = refused(model.config, broken);
      CHECK(text.find("tensor '" + name + "' is [") != std::string::npos);
      CHECK(text.find("config.json asks for [4, 48, 32]") != std::string::npos);
    }
  }
}

TEST_CASE("layout: a bias that is not promised is read where it is") {
  Json config = test::tiny_config("glm");
  config["attention_bias"] = false;
  const Model model = test::tiny_model("glm");
  const Tensors tensors = test::tensors_of(model);
  test::check_same_model(model, reread(config, tensors));
  config["attention_bias"] = true;
  Tensors without = tensors;
  without.erase("model.layers.1.self_attn.k_proj.bias");
  CHECK(refused(config, without)
            .find("tensor 'model.layers.1.self_attn.k_proj.bias' is missing") ==
        0);
}

TEST_CASE("layout: dtypes may be mixed, but are floating") {
  const Model model = test::tiny_model("chatglm-6b");
  Tensors tensors = test::tensors_of(model);
  for (auto& [name, tensor] : tensors)
    tensor = tensor.to(name.find("layernorm") != std::string::npos ? at::kFloat
                                                                   : at::kHalf);
  const Model again = reread(model.config, tensors);
  CHECK(again.final_norm.gain.scalar_type() == at::kFloat);
  test::check_same_tensors(tensors, test::tensors_of(again));
  tensors["transformer.final_layernorm.weight"] = at::ones({32}, at::kLong);
  CHECK(refused(model.config, tensors)
            .find("is I64; F32, F16 and BF16 weights are supported") !=
        std::string::npos);
}

TEST_CASE("layout: shapes alone read no weight") {
  test::TinySize size;
  size.vocabulary = 100'000;  // 6.4 MB in each table
  const TemporaryFolder folder;
  write_checkpoint(test::tiny_model("glm", 1, size), folder.path());
  const fs::path file = fs::canonical(folder.path()) / "model.safetensors";
  const Model shapes = read_checkpoint(folder.path(), ReadDepth::kShapes);
  CHECK(shapes.blocks.size() == 2);
  CHECK(rows(shapes.embedding) == 100'000);
  // The header, and what the kernel maps around it.
  CHECK(resident_kilobytes(file) < 1'000);
  const Model values = read_checkpoint(folder.path(), ReadDepth::kValues);
  CHECK(resident_kilobytes(file) > 12'000);
  // A NaN is found by reading values, and only so.
  const fs::path nan = test::kGolden / "broken/12_nan_weight";
  CHECK(
      test::logged([&] { read_checkpoint(nan, ReadDepth::kShapes); }).empty());
}
