#include "autoglm/model/checkpoint.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/core/file.h"
#include "autoglm/core/log.h"
#include "autoglm/formats/safetensors.h"
#include "autoglm/model/forward.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

namespace fs = std::filesystem;
const fs::path kSource = AUTOGLM_SOURCE_DIR;

bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         at::equal(a, b);
}

}  // namespace

TEST_CASE("checkpoint: every damaged one is refused with what is wrong") {
  set_log_level(LogLevel::kOff);
  const fs::path folder = kSource / "tests/golden/broken";
  int seen = 0;
  for (const Json& entry : read_json(folder / "expect.json")) {
    const fs::path broken = folder / entry["dir"].get<std::string>();
    if (!fs::exists(broken)) continue;  // families of later versions
    INFO(broken.filename().string());
    ++seen;
    if (!entry["must_fail"].get<bool>()) {
      CHECK_NOTHROW(read_checkpoint(broken));
      continue;
    }
    const std::string text =
        error_of(ErrorKind::kInput, [&] { read_checkpoint(broken); });
    for (const Json& word : entry["mention"])
      CHECK(text.find(word.get<std::string>()) != std::string::npos);
  }
  CHECK(seen >= 20);
  const TemporaryFolder empty;
  CHECK(error_of(ErrorKind::kInput, [&] {
          read_checkpoint(empty.path());
        }).find("no config.json") != std::string::npos);
}

TEST_CASE("checkpoint: not compressed it is written back byte for byte") {
  for (const fs::path& source :
       {kSource / "examples/glm-books", kSource / "tests/golden/glm4"}) {
    INFO(source.string());
    const TemporaryFolder folder;
    write_checkpoint(read_checkpoint(source), folder.path());
    CHECK(read_file(folder / "config.json") ==
          read_file(source / "config.json"));
    const TensorFolder before = TensorFolder::open(source);
    const TensorFolder after = TensorFolder::open(folder.path());
    CHECK(before.names() == after.names());
    for (const std::string& name : before.names())
      CHECK(same_bytes(before.tensor(name), after.tensor(name)));
    for (const auto& entry : fs::directory_iterator(source)) {
      const std::string name = entry.path().filename();
      if (entry.path().extension() == ".json" &&
          name != "model.safetensors.index.json")
        CHECK(read_file(entry.path()) == read_file(folder / name));
    }
  }
}

TEST_CASE("checkpoint: quantized weights come back the same, in every form") {
  const at::NoGradGuard no_grad;
  Model model = test::tiny_model();
  int bits = 2;
  for (const NamedLinear& linear : named_linears(model)) {
    if (linear.name == "layers.0.attention.key") continue;  // stays dense
    Weight& weight = weight_of(model, linear.name);
    const std::int64_t out = rows(weight), in = columns(weight);
    const std::int64_t group = bits % 2 == 0 ? in : 16;
    const at::Tensor codes =
        at::randint(1 << bits, {out, in}, at::kLong).to(at::kByte);
    const at::Tensor scales = (at::rand({out, in / group}) + 0.5) / (1 << bits);
    const at::Tensor zeros =
        at::randint(1 << bits, {out, in / group}, at::kLong).to(at::kByte);
    weight = pack_weight(codes, scales.to(at::kBFloat16),
                         bits % 3 == 0 ? zeros : at::Tensor(), bits, group);
    bits = bits == 8 ? 2 : bits + 1;
  }
  const TemporaryFolder folder;
  const std::uint64_t written = write_checkpoint(model, folder.path());
  const Model again = read_checkpoint(folder.path());
  CHECK(again.config["quantization_config"]["format"] == "pack-quantized");
  CHECK(again.extra.empty());
  for (const NamedLinear& linear : named_linears(model)) {
    INFO(linear.name);
    const Weight& a = weight_of(model, linear.name);
    const Weight& b = weight_of(again, linear.name);
    CHECK(describe(a) == describe(b));
    CHECK(at::equal(to_dense(a, at::kFloat), to_dense(b, at::kFloat)));
  }
  const at::Tensor ids = test::random_windows(1, 5);
  CHECK(at::equal(forward(model, ids), forward(again, ids)));
  const std::uint64_t file = fs::file_size(folder / "model.safetensors");
  CHECK(file - written < 20000);  // header only
}

TEST_CASE("checkpoint: other quantization methods are refused by name") {
  const TemporaryFolder folder;
  Model model = test::tiny_model();
  write_checkpoint(model, folder.path());
  Json config = read_json(folder / "config.json");
  config["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}};
  write_file_atomically(folder / "config.json", to_text(config));
  CHECK(error_of(ErrorKind::kInput, [&] {
          read_checkpoint(folder.path());
        }).find("quant_method gptq is not supported") != std::string::npos);
}

TEST_CASE("checkpoint: unknown tensors are carried along") {
  set_log_level(LogLevel::kOff);
  const TemporaryFolder first, second;
  Model model = test::tiny_model();
  model.extra["model.rotary.inv_freq"] = at::ones({4});
  write_checkpoint(model, first.path());
  const Model read = read_checkpoint(first.path());
  CHECK(read.extra.size() == 1);
  write_checkpoint(read, second.path());
  CHECK(TensorFolder::open(second.path()).contains("model.rotary.inv_freq"));
}
