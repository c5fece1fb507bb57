// Attention on the CPU: of one new token, and of a prompt.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/cpu_stream_case.h"

namespace autoglm::kernels::cpu {
namespace {

using test::empty;
using test::for_each_level;
using test::near;
using test::normal;
using test::Values;

constexpr float kUnseen = -std::numeric_limits<float>::infinity();

struct Attention {
  std::int64_t batch, heads, groups, tokens, size;
  Values query, keys, values, bias;
  std::vector<std::int32_t> lengths;

  Attention(std::int64_t b, std::int64_t n, std::int64_t g, std::int64_t t,
            std::int64_t d)
      : batch(b),
        heads(n),
        groups(g),
        tokens(t),
        size(d),
        query(normal(b * n * d, 1)),
        keys(normal(b * g * t * d, 2)),
        values(normal(b * g * t * d, 3)) {}

  AttentionArguments arguments() const {
    AttentionArguments a = {};
    a.query = query.data();
    a.query_batch_stride = heads * size;
    a.query_head_stride = size;
    a.keys = keys.data();
    a.values = values.data();
    a.cache_batch_stride = groups * tokens * size;
    a.cache_group_stride = tokens * size;
    a.cache_token_stride = size;
    a.bias = bias.empty() ? nullptr : bias.data();
    a.bias_batch_stride = tokens;
    a.lengths = lengths.empty() ? nullptr : lengths.data();
    a.type = cuda::NumberType::kFloat32;
    a.batch = batch;
    a.heads = heads;
    a.groups = groups;
    a.tokens = tokens;
    a.size = size;
    a.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(size)));
    return a;
  }

  // Parts in two ranges, as two threads would have them.
  Values run() const {
    AttentionArguments a = arguments();
    REQUIRE(can_attend(a));
    Values y = empty(batch * heads * size);
    Values workspace = empty(attention_workspace(batch, heads, tokens, size) /
                             static_cast<std::int64_t>(sizeof(float)));
    a.y = y.data();
    a.workspace = workspace.data();
    const std::int64_t parts = attention_parts(a);
    attend(a, parts / 2, parts);
    attend(a, 0, parts / 2);
    merge_attention(a, 1, batch * heads);
    merge_attention(a, 0, 1);
    return y;
  }

  std::vector<double> expected() const {
    std::vector<double> out;
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t h = 0; h < heads; ++h) {
        const float* q = query.data() + (b * heads + h) * size;
        const std::int64_t cache =
            (b * groups + h / (heads / groups)) * tokens * size;
        const std::int64_t filled = lengths.empty() ? tokens : lengths[b];
        std::vector<double> sums(static_cast<std::size_t>(size));
        double total = 0;
        for (std::int64_t t = 0; t < filled; ++t) {
          double score = 0;
          for (std::int64_t i = 0; i < size; ++i)
            score += static_cast<double>(q[i]) * keys[cache + t * size + i];
          score /= std::sqrt(static_cast<double>(size));
          if (!bias.empty()) score += bias[b * tokens + t];
          const double weight = std::exp(score);
          total += weight;
          for (std::int64_t i = 0; i < size; ++i)
            sums[i] += weight * values[cache + t * size + i];
        }
        for (const double sum : sums)
          out.push_back(total > 0 ? sum / total : 0);
      }
    return out;
  }

  void check() const {
    INFO(batch << " sequences, " << heads << " heads in " << groups << ", "
               << tokens << " tokens of " << size);
    const Values found = run();
    const std::vector<double> wanted = expected();
    bool all = true;
    for (std::size_t i = 0; i < found.size(); ++i)
      all = all && near(found[i], wanted[i], 1e-5);
    CHECK(all);
  }
};

}  // namespace

TEST_CASE("cpu attention: two tokens by hand") {
  Attention one(1, 1, 1, 2, 16);
  one.query.assign(16, 0);
  one.query[0] = 4;  // scores 4 k / sqrt(16)
  one.keys.assign(32, 0);
  one.keys[0] = std::log(3.F);
  one.values.assign(32, 0);
  one.values[1] = 8;
  one.values[17] = 4;
  for_each_level([&] {
    const Values y = one.run();  // weights 3/4 and 1/4
    CHECK(near(y[1], 7, 1e-6));
    CHECK(y[0] == 0);
  });
}

TEST_CASE("cpu attention: any number of tokens, heads and groups") {
  for_each_level([] {
    for (const std::int64_t tokens : {1, 17, 63, 64, 65, 300})
      for (const std::int64_t heads : {2, 6, 14})
        Attention(2, heads, 2, tokens, 48).check();
    Attention(1, 32, 2, 130, 128).check();
    Attention(3, 4, 4, 70, 64).check();
  });
}

TEST_CASE("cpu attention: what is not seen or not filled has no weight") {
  for_each_level([] {
    Attention a(3, 4, 2, 150, 32);
    a.lengths = {150, 1, 64};
    a.check();
    a.bias.assign(450, 0);
    for (int t = 0; t < 150; ++t) a.bias[t] = t < 70 ? kUnseen : 0.25F;
    a.check();
    // What lies behind the filled tokens is not read.
    for (std::int64_t g = 0; g < 2; ++g)
      for (std::int64_t t = 64; t < 150; ++t)
        a.values[(2 * 2 + g) * 150 * 32 + t * 32] =
            std::numeric_limits<float>::quiet_NaN();
    const Values y = a.run();
    for (const float value : y) CHECK(std::isfinite(value));
    // Nothing at all: zero.
    for (float& bias : a.bias) bias = kUnseen;
    CHECK(a.run() == Values(static_cast<std::size_t>(3 * 4 * 32), 0.F));
  });
}

TEST_CASE("cpu attention: large scores do not overflow") {
  Attention a(1, 4, 1, 200, 64);
  for (float& q : a.query) q *= 100;
  for_each_level([&] { a.check(); });
}

TEST_CASE("cpu attention: what it does not take is said") {
  AttentionArguments a = Attention(1, 4, 2, 3, 32).arguments();
  CHECK(can_attend(a));
  a.size = 40;
  CHECK_FALSE(can_attend(a));
  a.size = 32;
  a.cache_bits = 8;
  CHECK_FALSE(can_attend(a));
  a.cache_bits = 0;
  a.type = cuda::NumberType::kBFloat16;
  CHECK_FALSE(can_attend(a));
}

namespace {

// Keys [token][group][size], values the other way round, as views of one
// projection and of another.
void check_prompt(std::int64_t batch, std::int64_t heads, std::int64_t groups,
                  std::int64_t queries, std::int64_t tokens, std::int64_t size,
                  float spread) {
  INFO(batch << " sequences, " << heads << " heads in " << groups << ", "
             << queries << " of " << tokens << " tokens of " << size);
  const Values query = normal(batch * heads * queries * size, 1, spread);
  const Values keys = normal(batch * groups * tokens * size, 2);
  const Values values = normal(batch * groups * tokens * size, 3);
  Values y = empty(batch * heads * queries * size);
  PromptArguments p = {query.data(),
                       keys.data(),
                       values.data(),
                       {heads * queries * size, size, heads * size},
                       {groups * tokens * size, size, groups * size},
                       {groups * tokens * size, tokens * size, size},
                       y.data(),
                       batch,
                       heads,
                       groups,
                       queries,
                       tokens,
                       size,
                       0.25F};
  REQUIRE(can_attend_prompt(p));
  // fp32 scores as large as `spread` * 10 are off by a few units of 1e-6 of it.
  const double tolerance = 1e-5 + 4e-6 * static_cast<double>(spread);
  const std::int64_t tiles = prompt_tiles(p);
  attend_prompt(p, tiles / 3, tiles);
  attend_prompt(p, 0, tiles / 3);
  bool all = true;
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t t = 0; t < queries; ++t) {
        const std::int64_t g = h / (heads / groups);
        const float* q = &query[((b * queries + t) * heads + h) * size];
        std::vector<double> scores;
        double top = -1e300;
        for (std::int64_t s = 0; s <= tokens - queries + t; ++s) {
          const float* k = &keys[((b * tokens + s) * groups + g) * size];
          double score = 0;
          for (std::int64_t i = 0; i < size; ++i)
            score += static_cast<double>(q[i]) * k[i];
          scores.push_back(0.25 * score);
          top = std::max(top, scores.back());
        }
        double total = 0;
        std::vector<double> sums(static_cast<std::size_t>(size));
        for (std::size_t n = 0; n < scores.size(); ++n) {
          const double weight = std::exp(scores[n] - top);
          total += weight;
          const auto s = static_cast<std::int64_t>(n);
          for (std::int64_t i = 0; i < size; ++i)
            sums[i] +=
                weight * values[((b * groups + g) * tokens + s) * size + i];
        }
        for (std::int64_t i = 0; i < size; ++i)
          all = all && near(y[((b * heads + h) * queries + t) * size + i],
                            sums[i] / total, tolerance);
      }
  CHECK(all);
}

}  // namespace

TEST_CASE("cpu prompt attention: any length, after any number of tokens") {
  for_each_level([] {
    for (const std::int64_t queries : {1, 3, 4, 63, 64, 65, 130})
      check_prompt(2, 4, 2, queries, queries, 32, 1);
    check_prompt(1, 3, 1, 5, 70, 48, 1);
    check_prompt(1, 2, 2, 66, 131, 128, 1);
    check_prompt(1, 2, 1, 2, 3, 256, 1);
    // Scores of hundreds: weights of single tokens, no overflow.
    check_prompt(1, 2, 1, 150, 150, 64, 60);
  });
}

TEST_CASE("cpu prompt attention: the first token is its own value") {
  for_each_level([] {
    const Values query = normal(32, 1), values = normal(32, 2);
    Values y = empty(32);
    PromptArguments p = {};
    p.query = p.keys = query.data();
    p.values = values.data();
    p.query_strides[2] = p.key_strides[2] = p.value_strides[2] = 16;
    p.y = y.data();
    p.batch = p.heads = p.groups = 1;
    p.queries = p.tokens = 2;
    p.size = 16;
    p.scale = 0;  // the second one is the mean
    attend_prompt(p, 0, prompt_tiles(p));
    for (int i = 0; i < 16; ++i) {
      CHECK(y[i] == values[i]);
      CHECK(near(y[16 + i], 0.5 * (values[i] + values[16 + i]), 1e-6));
    }
  });
}

TEST_CASE("cpu prompt attention: what it does not take is said") {
  PromptArguments p = {};
  p.batch = p.heads = p.groups = p.queries = p.tokens = 1;
  p.size = 256;
  CHECK(can_attend_prompt(p));
  p.size = 272;
  CHECK_FALSE(can_attend_prompt(p));
  p.size = 24;
  CHECK_FALSE(can_attend_prompt(p));
  p.size = 32;
  p.queries = 2;  // of one token
  CHECK_FALSE(can_attend_prompt(p));
}

}  // namespace autoglm::kernels::cpu
