// Keys and values in few bits: codes, caches, the forward pass, config.json.
#include "model/coded_heads.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/model/footprint.h"
#include "tests/model/checkpoint_files.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

Model with_cache(const std::string& family, int bits) {
  Model model = test::tiny_model(family);
  model.architecture.kv_cache_bits = bits;
  return model;
}

}  // namespace

TEST_CASE("encode_heads: codes by hand, two in a byte for four bits") {
  // From -1 to 2 in 15 steps of 0.2; -0.92 is nearer to -1, 0.32 to 0.4.
  const at::Tensor x = at::tensor({-1.f, 2.f, 0.32f, -0.92f, 1.f});
  const at::Tensor coded = encode_heads(x, 4);
  REQUIRE(coded.sizes() == at::IntArrayRef({3 + 4}));
  const auto byte = [&](std::int64_t i) { return coded[i].item<int>(); };
  CHECK(byte(0) == 0 + 16 * 15);
  CHECK(byte(1) == 7 + 16 * 0);
  CHECK(byte(2) == 10);
  const at::Tensor ends = coded.narrow(0, 3, 4).clone().view(at::kHalf);
  CHECK(ends[0].item<float>() == Approx(0.2).epsilon(5e-4));
  CHECK(ends[1].item<float>() == -1);
  CHECK(at::allclose(decode_heads(coded, 5, 4, at::kFloat),
                     at::tensor({-1.f, 2.f, 0.4f, -1.f, 1.f}), 1e-3, 1e-3));

  // From 0 to 255 in steps of 1.
  const at::Tensor whole = at::tensor({0.f, 255.f, 17.4f, 17.6f});
  CHECK(at::equal(encode_heads(whole, 8).narrow(0, 0, 4),
                  at::tensor({0, 255, 17, 18}).to(at::kByte)));
  CHECK(at::equal(round_heads(whole, 8), at::tensor({0.f, 255.f, 17.f, 18.f})));
}

TEST_CASE("encode_heads: no number moves by more than about half a step") {
  at::manual_seed(21);
  for (const int bits : {4, 8})
    for (const std::int64_t size : {1, 7, 64}) {
      const at::Tensor x =
          at::randn({3, 2, 5, size}) * at::exp(2 * at::randn({3, 2, 5, 1})) +
          at::randn({3, 2, 5, 1});
      const at::Tensor coded = encode_heads(x, bits);
      CHECK(coded.scalar_type() == at::kByte);
      CHECK(coded.size(-1) == coded_head_bytes(size, bits));
      const at::Tensor step =
          (x.amax(-1, true) - x.amin(-1, true)) / ((1 << bits) - 1);
      // The ends are in half precision.
      const at::Tensor slack = x.abs().amax(-1, true) * 0x1p-10;
      CHECK(((round_heads(x, bits) - x).abs() <= 0.5 * step + slack)
                .all()
                .item<bool>());
    }
  CHECK(coded_head_bytes(128, 8) == 132);
  CHECK(coded_head_bytes(128, 4) == 68);
  CHECK(coded_head_bytes(7, 4) == 8);
}

TEST_CASE(
    "encode_heads: equal and huge numbers stay finite and NaN stays NaN") {
  for (const int bits : {4, 8}) {
    const at::Tensor same = at::full({2, 6}, 0.75);
    CHECK(at::equal(round_heads(same, bits), same));
    CHECK(at::equal(round_heads(at::zeros({2, 6}), bits), at::zeros({2, 6})));
    const at::Tensor huge = at::tensor({-1e30f, 1e30f, 3.f, 0.f});
    CHECK(at::isfinite(round_heads(huge, bits)).all().item<bool>());
    const at::Tensor broken = at::tensor({1.f, NAN, 2.f});
    CHECK(at::isnan(round_heads(broken, bits)).any().item<bool>());
  }
}

TEST_CASE("round_heads: the gradient passes as if nothing was rounded") {
  const at::Tensor x = at::randn({2, 3, 8}).requires_grad_(true);
  const at::Tensor y = round_heads(x, 4);
  CHECK(at::equal(y.detach(), round_heads(x.detach(), 4)));
  const at::Tensor slope = at::randn({2, 3, 8});
  (y * slope).sum().backward();
  CHECK(at::equal(x.grad(), slope));
}

TEST_CASE("kv_cache_bits: token by token a cache gives what one call gives") {
  const at::NoGradGuard no_grad;
  for (const std::string& family : test::tiny_families())
    for (const int bits : {4, 8}) {
      INFO(family << ", " << bits << " bits");
      const Model model =
          to_compute(with_cache(family, bits), at::kCPU, at::kDouble);
      const Architecture& a = model.architecture;
      const std::int64_t tokens = 20;
      const at::Tensor ids = test::random_windows(2, tokens);
      // In double precision, so that no code flips for a rounding error.
      ForwardOptions options;
      options.dtype = at::kDouble;
      const at::Tensor whole = forward(model, ids, options);
      Model full = model;
      full.architecture.kv_cache_bits = 0;
      const double effect = distance(forward(full, ids, options), whole);
      CHECK(effect > 1e-4);
      KvCache cache;
      options.cache = &cache;
      std::vector<at::Tensor> parts;
      for (std::int64_t t = 0; t < tokens; ++t)
        parts.push_back(forward(model, ids.narrow(1, t, 1), options));
      CHECK(distance(at::cat(parts, 1), whole) < 1e-3 * effect);
      // A byte or half of one for each number, and four for each head.
      CHECK(cache.length() == tokens);
      for (const at::Tensor& keys : cache.keys) {
        CHECK(keys.scalar_type() == at::kByte);
        CHECK(keys.size(3) == (a.head_size * bits + 7) / 8 + 4);
      }
      for (const at::Tensor& values : cache.values)
        CHECK(values.size(3) == (a.value_size * bits + 7) / 8 + 4);
    }
}

TEST_CASE("kv_cache_bits: more bits are nearer to none") {
  const at::NoGradGuard no_grad;
  const Model model = test::tiny_model("glm");
  const at::Tensor ids = test::random_windows(2, 30);
  const at::Tensor exact = forward(model, ids);
  const double four = distance(forward(with_cache("glm", 4), ids), exact);
  const double eight = distance(forward(with_cache("glm", 8), ids), exact);
  CHECK(eight > 0);
  CHECK(eight < four / 8);
}

TEST_CASE("kv_cache_bits: config.json keeps it and refuses other widths") {
  const Model model = with_cache("glm", 4);
  const TemporaryFolder folder;
  write_checkpoint(model, folder.path());
  CHECK(read_json(folder / "config.json")["kv_cache_bits"] == 4);
  Model again = read_checkpoint(folder.path());
  CHECK(again.architecture.kv_cache_bits == 4);
  test::check_same_model(model, again);
  again.architecture.kv_cache_bits = 0;
  const TemporaryFolder second;
  write_checkpoint(again, second.path());
  CHECK_FALSE(read_json(second / "config.json").contains("kv_cache_bits"));

  Json config = test::tiny_config("glm");
  for (const int bits : {1, 2, 16}) {
    config["kv_cache_bits"] = bits;
    CHECK(error_of(ErrorKind::kInput,
                   [&] { read_architecture(config, "config.json"); }) ==
          fmt::format("config.json: kv_cache_bits is {}; 4 and 8 are "
                      "supported, and 0 for a cache in full precision",
                      bits));
  }
  again.architecture.kv_cache_bits = 5;
  CHECK(error_of(ErrorKind::kInternal, [&] { verify_model(again); }) ==
        "a cache of 5 bits, but 0, 4 and 8 are known");
}

TEST_CASE("cache_bytes_per_token: heads as numbers or as codes") {
  // Two layers of two heads, keys and values of 8 numbers.
  Architecture a = test::tiny_model("glm").architecture;
  CHECK(cache_bytes_per_token(a, 2) == 2 * 2 * 2 * 8 * 2);
  a.kv_cache_bits = 8;
  CHECK(cache_bytes_per_token(a, 2) == 2 * 2 * 2 * (8 + 4));
  a.kv_cache_bits = 4;
  CHECK(cache_bytes_per_token(a, 2) == 2 * 2 * 2 * (4 + 4));
  // An indexer's keys stay numbers: a choice hangs on them.
  a = test::tiny_model("glm_moe_dsa").architecture;
  const std::uint64_t full = cache_bytes_per_token(a, 2);
  CHECK(full == 2 * (4 * (8 + 12) + 8) * 2);
  a.kv_cache_bits = 8;
  CHECK(cache_bytes_per_token(a, 2) == 2 * (4 * (8 + 12 + 8) + 8 * 2));
}
