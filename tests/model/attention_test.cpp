// Attention of every kind: the same numbers by other ways.
#include "model/attention.h"

#include <ATen/core/grad_mode.h>

#include <limits>

#include "autoglm/model/generate.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {

Model compute_model(const std::string& family,
                    const test::TinySize& size = {}) {
  return to_compute(test::tiny_model(family, 1, size), at::kCPU, at::kFloat);
}

// Larger than the tolerance only if the numbers are of another computation.
bool near(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && at::allclose(a, b, 1e-4, 1e-4);
}

at::Tensor value(const Linear& linear) {
  return std::get<DenseWeight>(linear.weight).value;
}

Linear dense(const at::Tensor& weight, const at::Tensor& bias = {}) {
  return {DenseWeight{weight}, bias};
}

// The rows of head `h`.
at::Tensor head(const at::Tensor& rows, std::int64_t h, std::int64_t size) {
  return rows.narrow(0, h * size, size);
}

// Joins query, key and value of every block by `join`.
template <class Join>
void fuse(Model& model, Join&& join) {
  for (Block& block : model.blocks) {
    Attention& a = block.attention;
    a.query_key_value =
        dense(join(value(a.query), value(a.key), value(a.value)),
              join(a.query.bias, a.key.bias, a.value.bias));
    a.query = a.key = a.value = {};
  }
}

}  // namespace

TEST_CASE("attention: token by token, in chunks and at once agree") {
  const at::NoGradGuard no_grad;
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = compute_model(family);
    // More than the indexer's 6, and than a cache holds at first.
    const std::int64_t tokens = 70 > model.architecture.position_rows &&
                                        model.architecture.position_rows > 0
                                    ? 60
                                    : 70;
    const at::Tensor ids = test::random_windows(2, tokens);
    const at::Tensor whole = forward(model, ids);
    for (const std::int64_t chunk : {1, 7, 33}) {
      INFO(chunk << " tokens at a time");
      KvCache cache;
      ForwardOptions options;
      options.cache = &cache;
      std::vector<at::Tensor> parts;
      for (std::int64_t t = 0; t < tokens; t += chunk)
        parts.push_back(forward(
            model, ids.narrow(1, t, std::min(chunk, tokens - t)), options));
      CHECK(cache.length() == tokens);
      CHECK(near(at::cat(parts, 1), whole));
    }
  }
}

TEST_CASE("attention: a prompt with a blank goes on as it was read at once") {
  const at::NoGradGuard no_grad;
  for (const char* family : {"chatglm-6b", "glm-2021"}) {
    INFO(family);
    Model model = compute_model(family);
    model.architecture.blank = {{{61}, {60}}, 62};
    at::Tensor ids = test::random_windows(2, 20, 60);
    ids[0][4] = 61;
    ids[1][2] = 60;
    ids.select(1, 5).fill_(62);
    const at::Tensor whole = forward(model, ids);
    KvCache cache;
    ForwardOptions options;
    options.cache = &cache;
    std::vector<at::Tensor> parts = {
        forward(model, ids.narrow(1, 0, 6), options),
        forward(model, ids.narrow(1, 6, 3), options)};
    for (std::int64_t t = 9; t < 20; ++t)
      parts.push_back(forward(model, ids.narrow(1, t, 1), options));
    CHECK(near(at::cat(parts, 1), whole));
    // The prompt is read in both directions: its last token moves its first.
    at::Tensor other = ids.clone();
    other[0][3] = (other[0][3] + 1) % 60;
    CHECK_FALSE(near(forward(model, other)[0][0], whole[0][0]));
    // What was generated is not.
    other = ids.clone();
    other[0][19] = (other[0][19] + 1) % 60;
    CHECK(near(forward(model, other).narrow(1, 0, 19), whole.narrow(1, 0, 19)));
  }
}

TEST_CASE("attention: padding at the left does not change real tokens") {
  const at::NoGradGuard no_grad;
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    Model model = compute_model(family);
    const at::Tensor ids = test::random_windows(1, 15, 60);
    if (family == "chatglm-6b") {  // counts from the first real token too
      model.architecture.blank = {{{61}}, 62};
      ids[0][5] = 61;
      ids[0][6] = 62;
    }
    const at::Tensor alone = forward(model, ids);
    const at::Tensor other = test::random_windows(1, 19, 60);
    ForwardOptions options;
    options.mask = at::ones({2, 19}, at::kLong);
    options.mask[0].narrow(0, 0, 4).zero_();
    const at::Tensor padded =
        at::cat({at::cat({at::full({1, 4}, 9, at::kLong), ids}, 1), other});
    const at::Tensor out = forward(model, padded, options);
    CHECK(at::isfinite(out).all().item<bool>());
    CHECK(near(out[0].narrow(0, 4, 15), alone[0]));
    CHECK(near(out[1], forward(model, other)[0]));
    // And through a cache.
    GenerateOptions greedy;
    greedy.max_tokens = 5;
    greedy.stop_at_end = false;
    const at::Tensor expected = generate(model, ids, greedy);
    greedy.mask = options.mask;
    CHECK(
        generate(model, padded, greedy)[0].narrow(0, 4, 20).equal(expected[0]));
  }
}

TEST_CASE("attention: one matrix for query, key and value, in blocks") {
  const at::NoGradGuard no_grad;
  Model model = compute_model("glm");
  const at::Tensor ids = test::random_windows(2, 9);
  const at::Tensor expected = forward(model, ids);
  fuse(model,
       [](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
         return at::cat({q, k, v});
       });
  model.architecture.qkv = QkvLayout::kBlocks;
  CHECK(near(forward(model, ids), expected));
  CHECK(widths(model.architecture, model.blocks[0]) == BlockWidths{4, 2, 48});
}

TEST_CASE("attention: one matrix for query, key and value, head by head") {
  const at::NoGradGuard no_grad;
  test::TinySize size;
  size.kv_heads = size.heads;
  Model model = compute_model("glm", size);
  const at::Tensor ids = test::random_windows(2, 9);
  const at::Tensor expected = forward(model, ids);
  fuse(model,
       [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
         std::vector<at::Tensor> parts;
         for (std::int64_t h = 0; h < size.heads; ++h)
           for (const at::Tensor* part : {&q, &k, &v})
             parts.push_back(head(*part, h, size.head_size));
         return at::cat(parts);
       });
  model.architecture.qkv = QkvLayout::kPerHead;
  CHECK(near(forward(model, ids), expected));
  model.architecture.qkv = QkvLayout::kBlocks;
  CHECK_FALSE(near(forward(model, ids), expected));
}

TEST_CASE("attention: turning INT rows into HALF rows changes no score") {
  const at::NoGradGuard no_grad;
  Model model = compute_model("glm");
  const std::int64_t size = model.architecture.head_size;
  const std::int64_t turned = model.architecture.rotary_size;
  REQUIRE((size == 8 && turned == 4));
  const at::Tensor ids = test::random_windows(2, 9);
  const at::Tensor expected = forward(model, ids);
  const auto permute = [&](const at::Tensor& rows) {
    std::vector<at::Tensor> parts;
    for (std::int64_t h = 0; h < rows.size(0) / size; ++h)
      for (const std::int64_t row : {0, 2, 1, 3, 4, 5, 6, 7})
        parts.push_back(head(rows, h, size).narrow(0, row, 1));
    return at::cat(parts);
  };
  for (Block& block : model.blocks)
    for (Linear* part : {&block.attention.query, &block.attention.key})
      *part = dense(permute(value(*part)), permute(part->bias));
  model.architecture.rotary = Rotary::kHalf;
  CHECK(near(forward(model, ids), expected));
}

TEST_CASE("attention: latent vectors against every head written out") {
  const at::NoGradGuard no_grad;
  const Model model = compute_model("glm4_moe_lite");
  const Architecture& a = model.architecture;
  const LatentSizes& l = a.latent;
  const Attention& part = model.blocks[0].attention;
  const std::int64_t tokens = 7, heads = 4;
  const at::Tensor x = at::randn({1, tokens, a.hidden});
  AttentionContext context =
      attention_context(model, at::zeros({1, tokens}, at::kLong));
  const at::Tensor found =
      attention_values(a, part, 0, x, context, std::nullopt);
  REQUIRE(found.sizes() == at::IntArrayRef({1, tokens, heads * a.value_size}));

  const auto norm = [](const Norm& n, const at::Tensor& y) {
    return y / (y.square().mean(-1, true) + 1e-6).sqrt() * n.gain;
  };
  const auto turn = [&](const at::Tensor& y) {  // [T, rope], pair by pair
    at::Tensor out = y.clone();
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t i = 0; i < l.rope / 2; ++i) {
        const double angle =
            static_cast<double>(t) *
            std::pow(a.rotary_base, -2.0 * static_cast<double>(i) /
                                        static_cast<double>(l.rope));
        const double c = std::cos(angle), s = std::sin(angle);
        const double u = y[t][2 * i].item<double>();
        const double v = y[t][2 * i + 1].item<double>();
        out[t][2 * i] = u * c - v * s;
        out[t][2 * i + 1] = v * c + u * s;
      }
    return out;
  };
  const at::Tensor query_vector =
      norm(part.query_a_norm, at::mm(x[0], value(part.query_a).t()));
  const at::Tensor both = at::mm(x[0], value(part.key_value_a).t());
  const at::Tensor latent =
      norm(part.key_value_a_norm, both.narrow(1, 0, l.kv_rank));
  const at::Tensor turned_key = turn(both.narrow(1, l.kv_rank, l.rope));
  const at::Tensor future = at::ones({tokens, tokens}, at::kBool).triu(1);
  std::vector<at::Tensor> out;
  for (std::int64_t h = 0; h < heads; ++h) {
    const at::Tensor query =
        at::mm(query_vector, head(value(part.query_b), h, l.nope + l.rope).t());
    const at::Tensor key_value = at::mm(
        latent, head(value(part.key_value_b), h, l.nope + a.value_size).t());
    const at::Tensor scores =
        (at::mm(query.narrow(1, 0, l.nope),
                key_value.narrow(1, 0, l.nope).t()) +
         at::mm(turn(query.narrow(1, l.nope, l.rope)), turned_key.t())) /
        std::sqrt(static_cast<double>(l.nope + l.rope));
    out.push_back(at::mm(
        at::softmax(
            scores.masked_fill(future, -std::numeric_limits<float>::infinity()),
            -1),
        key_value.narrow(1, l.nope, a.value_size)));
  }
  CHECK(near(found[0], at::cat(out, 1)));
}

TEST_CASE("attention: queries without a low rank come from one matrix") {
  const at::NoGradGuard no_grad;
  Json config = test::tiny_config("glm4_moe_lite");
  config["q_lora_rank"] = nullptr;
  const Architecture a = read_architecture(config, "c");
  const BlockShapes shapes = block_shapes(a, 0);
  CHECK(shapes.matrices[0].name == "attention.query");
  Model model = compute_model("glm4_moe_lite");
  // The product of both matrices, with a norm that does nothing left out, is
  // another model; only shapes and finiteness are checked here.
  for (Block& block : model.blocks) {
    Attention& part = block.attention;
    part.query = dense(at::mm(value(part.query_b), value(part.query_a)));
    part.query_a = part.query_b = {};
    part.query_a_norm = {};
  }
  model.architecture = a;
  CHECK_NOTHROW(verify_model(model));
  CHECK(at::isfinite(forward(model, test::random_windows(1, 5)))
            .all()
            .item<bool>());
}
