// Checkpoints that others quantized: GPTQ and the int8 releases of ChatGLM.
#include "model/checkpoint/stored_quantization.h"

#include <ATen/core/grad_mode.h>

#include "tests/model/checkpoint_files.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;
using autoglm::test::Tensors;

namespace {

constexpr test::TinySize kSize = {2, 64, 4, 2, 16, 64, 64};
constexpr std::int64_t kGroup = 16;

// Numbers of `bits` bits along the columns of [n, columns], written bit by bit
// into int32 [ceil(n * bits / 32), columns].
at::Tensor pack_bits(const at::Tensor& values, int bits) {
  const std::int64_t n = values.size(0), columns = values.size(1);
  std::vector<std::vector<std::uint32_t>> words(
      static_cast<std::size_t>((n * bits + 31) / 32),
      std::vector<std::uint32_t>(static_cast<std::size_t>(columns)));
  const at::Tensor wide = values.to(at::kInt).contiguous();
  const auto* data = wide.const_data_ptr<std::int32_t>();
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t c = 0; c < columns; ++c)
      for (std::int64_t b = 0; b < bits; ++b) {
        const std::int64_t place = i * bits + b;
        const auto bit =
            static_cast<std::uint32_t>(data[i * columns + c]) >> b & 1u;
        words[static_cast<std::size_t>(place / 32)]
             [static_cast<std::size_t>(c)] |= bit << (place % 32);
      }
  at::Tensor out =
      at::empty({static_cast<std::int64_t>(words.size()), columns}, at::kInt);
  auto* to = out.data_ptr<std::int32_t>();
  for (const auto& row : words)
    for (const std::uint32_t word : row)
      *to++ = static_cast<std::int32_t>(word);
  return out;
}

// A checkpoint with all matrices of the blocks replaced, and what they are.
struct Stored {
  Json config;
  Tensors tensors;
  std::map<std::string, at::Tensor> expected;  // by canonical name
};

// One matrix of a GPTQ checkpoint under `module`; returns its values.
at::Tensor add_gptq(Tensors& tensors, const std::string& module, int bits,
                    bool less_one, bool symmetric) {
  const at::Tensor old = tensors.at(module + ".weight");
  tensors.erase(module + ".weight");
  const std::int64_t out = old.size(0), in = old.size(1);
  const std::int64_t groups = in / kGroup;
  const at::Tensor codes = at::randint(1 << bits, {out, in}, at::kInt);
  const at::Tensor zeros =
      symmetric
          ? at::full({out, groups}, 1 << (bits - 1), at::kInt)
          : at::randint(less_one ? 1 : 0, 1 << bits, {out, groups}, at::kInt);
  const at::Tensor scales =
      (at::rand({out, groups}) + 0.5).to(at::kHalf) * 0.02;
  tensors[module + ".qweight"] = pack_bits(codes.t(), bits);
  tensors[module + ".qzeros"] =
      pack_bits(less_one ? zeros - 1 : zeros, bits).t().contiguous();
  tensors[module + ".scales"] = scales.t().contiguous();
  tensors[module + ".g_idx"] =
      at::arange(in, at::kInt).div(kGroup, "floor").to(at::kInt);
  const auto spread = [&](const at::Tensor& values) {
    return values.repeat_interleave(kGroup, 1).to(at::kFloat);
  };
  return (codes.to(at::kFloat) - spread(zeros)) * spread(scales);
}

Stored gptq(int bits, bool less_one, bool symmetric) {
  const Model model = test::tiny_model("glm", 1, kSize);
  Stored out;
  out.config = model.config;
  out.config["quantization_config"] = {{"quant_method", "gptq"},
                                       {"bits", bits},
                                       {"group_size", kGroup},
                                       {"desc_act", false}};
  if (!less_one)
    out.config["quantization_config"]["checkpoint_format"] = "gptq_v2";
  out.tensors = test::tensors_of(model);
  for (const NamedLinear& linear : named_linears(model))
    if (linear.layer >= 0)
      out.expected[linear.name] = add_gptq(out.tensors, linear.checkpoint_name,
                                           bits, less_one, symmetric);
  return out;
}

Model reread(const Stored& stored) {
  const TemporaryFolder folder;
  test::write_files(folder.path(), stored.config, stored.tensors);
  return read_checkpoint(folder.path());
}

std::string refused(const Stored& stored) {
  return error_of(ErrorKind::kInput, [&] { reread(stored); });
}

// Written in our own layout it is the same model.
void check_written(const Model& model) {
  const TemporaryFolder folder;
  write_checkpoint(model, folder.path());
  const Model again = read_checkpoint(folder.path());
  const Json& quantization = again.config["quantization_config"];
  CHECK(quantization["quant_method"] == "compressed-tensors");
  CHECK(quantization["format"] == "pack-quantized");
  CHECK_FALSE(again.config.contains("quantization_bit"));
  CHECK(again.extra.empty());
  test::check_same_model(model, again);
}

const std::string kDown = "model.layers.1.mlp.down_proj";

}  // namespace

TEST_CASE("gptq: values are (code - zero) * scale, in every form") {
  const at::NoGradGuard no_grad;
  for (const int bits : {2, 3, 4, 8})
    for (const bool less_one : {true, false})
      for (const bool symmetric : {true, false}) {
        INFO(bits << " bits, zeros less one " << less_one << ", symmetric "
                  << symmetric);
        const Stored stored = gptq(bits, less_one, symmetric);
        const Model model = reread(stored);
        CHECK(model.extra.empty());
        REQUIRE(stored.expected.size() == 12);
        for (const auto& [name, values] : stored.expected) {
          const Weight& weight = weight_of(model, name);
          CHECK(describe(weight) ==
                fmt::format("int{} g16 {}", bits,
                            symmetric ? "symmetric" : "asymmetric"));
          CHECK(at::equal(to_dense(weight, at::kFloat), values));
        }
        CHECK(bias_of(model, "layers.0.attention.query") != nullptr);
        if (bits != 3) check_written(model);
      }
  check_written(reread(gptq(3, true, false)));
}

TEST_CASE("gptq: by hand, four bits in one word") {
  // One row of eight inputs, codes 0 to 7, zero 5, stored less one.
  Stored stored = gptq(4, true, true);
  const at::Tensor codes =
      at::arange(64, at::kInt).remainder(8).view({64, 1}).expand({64, 64});
  stored.tensors[kDown + ".qweight"] = at::full({8, 64}, 0x76543210, at::kInt);
  CHECK(pack_bits(codes, 4).equal(stored.tensors[kDown + ".qweight"]));
  stored.tensors[kDown + ".qzeros"] = at::full({4, 8}, 0x44444444, at::kInt);
  stored.tensors[kDown + ".scales"] = at::full({4, 64}, 0.5, at::kHalf);
  const at::Tensor values =
      to_dense(weight_of(reread(stored), "layers.1.mlp.down"), at::kFloat);
  CHECK(at::equal(values[63].narrow(0, 0, 8),
                  at::tensor({-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0})
                      .to(at::kFloat)));
  // The same file as gptq_v2 means a zero of 4.
  stored.config["quantization_config"]["checkpoint_format"] = "gptq_v2";
  CHECK(
      to_dense(weight_of(reread(stored), "layers.1.mlp.down"), at::kFloat)[0][4]
          .item<float>() == 0);
}

TEST_CASE("gptq: matrices may differ in bits, be dense, or lack g_idx") {
  Stored stored = gptq(4, true, true);
  stored.tensors.erase(kDown + ".g_idx");
  const std::string up = "model.layers.1.mlp.gate_up_proj";
  for (const char* part : {".qweight", ".qzeros", ".scales", ".g_idx"})
    stored.tensors.erase(up + part);
  stored.tensors[up + ".weight"] = at::ones({128, 64}, at::kHalf);
  const std::string key = "model.layers.0.self_attn.k_proj";
  for (const char* part : {".qweight", ".qzeros", ".scales", ".g_idx"})
    stored.tensors.erase(key + part);
  stored.tensors[key + ".weight"] = at::zeros({32, 64});
  add_gptq(stored.tensors, key, 8, true, true);
  const Model model = reread(stored);
  CHECK(describe(weight_of(model, "layers.1.mlp.gate_up")) == "dense fp16");
  CHECK(describe(weight_of(model, "layers.0.attention.key")) ==
        "int8 g16 symmetric");
  CHECK(describe(weight_of(model, "layers.1.mlp.down")) ==
        "int4 g16 symmetric");
}

TEST_CASE("gptq: inputs out of order are refused with the reason") {
  Stored stored = gptq(4, true, true);
  stored.tensors[kDown + ".g_idx"] =
      stored.tensors[kDown + ".g_idx"].flip(0).contiguous();
  const std::string text = refused(stored);
  CHECK(
      text.find("tensor '" + kDown +
                ".g_idx' puts inputs into groups out of "
                "order (desc_act); only groups of neighbours are supported") !=
      std::string::npos);
  // The flag alone, with every input in its place, says nothing.
  stored = gptq(4, true, true);
  stored.config["quantization_config"]["desc_act"] = true;
  CHECK_NOTHROW(reread(stored));
}

TEST_CASE("gptq: tensors that do not fit each other are refused by name") {
  const auto with = [](const char* part, const at::Tensor& tensor) {
    Stored stored = gptq(4, true, true);
    if (tensor.defined())
      stored.tensors[kDown + part] = tensor;
    else
      stored.tensors.erase(kDown + part);
    return refused(stored);
  };
  const auto mentions = [](const std::string& text, const std::string& words) {
    INFO(text);
    CHECK(text.find(words) != std::string::npos);
  };
  mentions(with(".qweight", at::zeros({7, 64}, at::kInt)),
           "expected codes of 2, 3, 4 or 8 bits for 64 inputs");
  mentions(with(".qweight", at::zeros({8, 63}, at::kInt)),
           kDown + ".qweight' is I32 [8, 63], expected I32 [8, 64]");
  mentions(with(".qweight", at::zeros({8, 64}, at::kFloat)),
           kDown + ".qweight' is F32 [8, 64]");
  mentions(with(".scales", at::zeros({5, 64}, at::kHalf)),
           "the groups dividing 64 inputs");
  mentions(with(".scales", at::zeros({4, 64}, at::kInt)),
           "a floating point dtype");
  mentions(with(".scales", {}), kDown + ".scales' is missing");
  mentions(with(".qzeros", at::zeros({4, 7}, at::kInt)),
           kDown + ".qzeros' is I32 [4, 7], expected I32 [4, 8]");
  mentions(with(".qzeros", {}), kDown + ".qzeros' is missing");
  mentions(with(".g_idx", at::zeros({63}, at::kInt)), kDown + ".g_idx' is");
  // Stored less one: all ones means one beyond the largest code.
  mentions(with(".qzeros", at::full({4, 8}, -1, at::kInt)),
           "has a zero point of 16, beyond 4 bits");
}

TEST_CASE("gptq: zero points of a width that fills no word") {
  // Ten rows of 2 bits: 20 bits in one word.
  test::TinySize size = kSize;
  size.hidden = 10;
  const Model model = test::tiny_model("glm", 1, size);
  Stored stored;
  stored.config = model.config;
  stored.config["quantization_config"] = {{"quant_method", "gptq"}};
  stored.tensors = test::tensors_of(model);
  const at::Tensor values = add_gptq(stored.tensors, kDown, 2, true, false);
  REQUIRE(stored.tensors[kDown + ".qzeros"].size(1) == 1);
  CHECK(at::equal(
      to_dense(weight_of(reread(stored), "layers.1.mlp.down"), at::kFloat),
      values));
  stored.tensors[kDown + ".qzeros"] = at::zeros({4, 0}, at::kInt);
  CHECK(refused(stored).find("expected I32 [4, 1]") != std::string::npos);
}

TEST_CASE("chatglm int8: values are the signed codes times the row's scale") {
  const at::NoGradGuard no_grad;
  for (const char* family : {"chatglm", "chatglm-6b"}) {
    INFO(family);
    const Model model = test::tiny_model(family);
    Stored stored;
    stored.config = model.config;
    stored.config["quantization_bit"] = 8;
    stored.tensors = test::tensors_of(model);
    for (const NamedLinear& linear : named_linears(model)) {
      if (linear.layer < 0) continue;
      const std::string& module = linear.checkpoint_name;
      const auto shape = stored.tensors.at(module + ".weight").sizes().vec();
      at::Tensor codes = at::randint(-128, 128, shape, at::kChar);
      codes[0][0] = -128;
      codes[0][1] = 127;
      const at::Tensor scales =
          ((at::rand({shape[0]}) + 0.5) / 500).to(at::kHalf);
      stored.tensors[module + ".weight"] = codes;
      stored.tensors[module + ".weight_scale"] = scales;
      stored.expected[linear.name] =
          codes.to(at::kFloat) * scales.to(at::kFloat).unsqueeze(1);
    }
    const Model read = reread(stored);
    CHECK(read.extra.empty());
    REQUIRE(stored.expected.size() == 8);
    for (const auto& [name, values] : stored.expected) {
      CHECK(describe(weight_of(read, name)) == "int8 channel symmetric");
      CHECK(at::equal(to_dense(weight_of(read, name), at::kFloat), values));
    }
    check_written(read);

    stored.config["quantization_bit"] = 4;
    CHECK(refused(stored).find(
              "quantization_bit 4 is not supported; 8 is, and the unquantized "
              "release of the model") != std::string::npos);
    stored.config["quantization_bit"] = 8;
    const std::string first =
        named_linears(model)[1].checkpoint_name + ".weight_scale";
    stored.tensors[first] = at::ones({3}, at::kHalf);
    CHECK(refused(stored).find(first) != std::string::npos);
  }
}

TEST_CASE("chatglm: quantization_bit 0 is a model like any other") {
  Model model = test::tiny_model("chatglm");
  model.config["quantization_bit"] = 0;
  const TemporaryFolder folder;
  write_checkpoint(model, folder.path());
  const Model again = read_checkpoint(folder.path());
  CHECK(again.config == model.config);
  test::check_same_model(model, again);
}

TEST_CASE("quantization: other methods are refused by name") {
  Stored stored;
  const Model model = test::tiny_model("glm");
  stored.config = model.config;
  stored.tensors = test::tensors_of(model);
  for (const char* method : {"awq", "fp8", "bitsandbytes", "quark"}) {
    stored.config["quantization_config"] = {{"quant_method", method}};
    CHECK(refused(stored).find(fmt::format("quant_method {} is not supported; "
                                           "compressed-tensors and gptq are",
                                           method)) != std::string::npos);
  }
  stored.config["quantization_config"] = {{"quant_method", "gptq"},
                                          {"checkpoint_format", "marlin"}};
  CHECK(refused(stored).find("checkpoint_format marlin is not supported") !=
        std::string::npos);
  stored.config["quantization_config"] = {{"bits", 4}};
  CHECK(refused(stored).find("quant_method is missing") != std::string::npos);
  stored.config["quantization_config"] = nullptr;
  CHECK_NOTHROW(reread(stored));
}
