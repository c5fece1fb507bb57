#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "autoglm/kernels/cuda_stream_kernels.h"
#include "tests/kernels/cuda/linear_case.h"
#include "tests/support/catch.h"

namespace autoglm::kernels::cuda {
namespace {

using test::decode;
using test::DeviceBuffer;
using test::encode;
using test::for_each_order;
using test::has_device;

constexpr float kUnseen = -std::numeric_limits<float>::infinity();

// Queries and a cache; keys and values are kept as the numbers that they stand
// for, and as the bytes of the cache.
struct AttentionCase {
  std::int64_t batch, heads, groups, tokens, size;
  NumberType type = NumberType::kBFloat16;
  int bits = 0;
  std::vector<float> query = {}, keys = {}, values = {}, bias = {};
  std::vector<std::int32_t> lengths = {};
  std::vector<unsigned char> key_bytes = {}, value_bytes = {};
  float scale = 0.1f;

  std::string text() const {
    return "batch " + std::to_string(batch) + ", heads " +
           std::to_string(heads) + " of " + std::to_string(groups) +
           " groups, tokens " + std::to_string(tokens) + ", size " +
           std::to_string(size) + ", bits " + std::to_string(bits) + ", type " +
           std::to_string(static_cast<int>(type));
  }
};

// Bytes of heads of `size` numbers as src/model/coded_heads.h has them, from
// random codes; the numbers they stand for go to `numbers`.
std::vector<unsigned char> random_heads(std::int64_t count, std::int64_t size,
                                        int bits, std::mt19937& random,
                                        std::vector<float>& numbers) {
  std::vector<unsigned char> out;
  for (std::int64_t head = 0; head < count; ++head) {
    const float step = from_fp16(to_fp16(
        static_cast<float>(random() % 1000 + 1) / (bits == 8 ? 5e4f : 3e3f)));
    const float least =
        from_fp16(to_fp16(-static_cast<float>(random() % 1000) / 400));
    unsigned pending = 0;
    for (std::int64_t d = 0; d < size; ++d) {
      const auto code = static_cast<unsigned>(random() % (1u << bits));
      numbers.push_back(static_cast<float>(code) * step + least);
      if (bits == 8 || d % 2 == 1)
        out.push_back(
            static_cast<unsigned char>(bits == 8 ? code : pending | code << 4));
      pending = code;
    }
    for (const std::uint16_t end : {to_fp16(step), to_fp16(least)}) {
      out.push_back(static_cast<unsigned char>(end & 0xff));
      out.push_back(static_cast<unsigned char>(end >> 8));
    }
  }
  return out;
}

AttentionCase make_attention(AttentionCase c, std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto floats = [&](std::int64_t count) {
    std::vector<float> out;
    for (std::int64_t i = 0; i < count; ++i)
      out.push_back(static_cast<float>(random()) / 1431655765.0f - 1.5f);
    test::round_all(out, c.type);
    return out;
  };
  c.query = floats(c.batch * c.heads * c.size);
  const std::int64_t cached = c.batch * c.groups * c.tokens;
  if (c.bits == 0) {
    c.keys = floats(cached * c.size);
    c.values = floats(cached * c.size);
    c.key_bytes = encode(c.keys, c.type);
    c.value_bytes = encode(c.values, c.type);
  } else {
    c.key_bytes = random_heads(cached, c.size, c.bits, random, c.keys);
    c.value_bytes = random_heads(cached, c.size, c.bits, random, c.values);
  }
  return c;
}

std::vector<float> attend(const AttentionCase& c) {
  const DeviceBuffer query(encode(c.query, c.type)), keys(c.key_bytes),
      values(c.value_bytes), bias(c.bias), lengths(c.lengths),
      y(c.query.size() * 2),
      workspace(static_cast<std::size_t>(
          attention_workspace(c.batch, c.heads, c.groups, c.tokens, c.size)));
  AttentionArguments a = {};
  a.query = query.as<void>();
  a.query_batch_stride = c.heads * c.size;
  a.query_head_stride = c.size;
  a.keys = keys.as<void>();
  a.values = values.as<void>();
  a.cache_token_stride = c.bits == 0 ? c.size : c.size * c.bits / 8 + 4;
  a.cache_group_stride = c.tokens * a.cache_token_stride;
  a.cache_batch_stride = c.groups * a.cache_group_stride;
  a.cache_bits = c.bits;
  a.bias = c.bias.empty() ? nullptr : bias.as<float>();
  a.bias_batch_stride = c.tokens;
  a.lengths = c.lengths.empty() ? nullptr : lengths.as<std::int32_t>();
  a.y = y.as<void>();
  a.type = c.type;
  a.batch = c.batch;
  a.heads = c.heads;
  a.groups = c.groups;
  a.tokens = c.tokens;
  a.size = c.size;
  a.scale = c.scale;
  a.workspace = workspace.as<void>();
  const Status status = decode_attention(a, nullptr);
  INFO(text(status));
  REQUIRE(status == Status::kOk);
  return decode(y.read<unsigned char>(), c.type);
}

// Against the same in double. Probabilities are rounded to the type before they
// multiply the values, and so is the result.
void check_against_double(const AttentionCase& c) {
  const std::vector<float> y = attend(c);
  const double half = c.type == NumberType::kBFloat16 ? 0x1p-8 : 0x1p-11;
  double worst = 0;
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const std::int64_t group = h / (c.heads / c.groups);
      const std::int64_t length = c.lengths.empty() ? c.tokens : c.lengths[b];
      const float* q = c.query.data() + (b * c.heads + h) * c.size;
      std::vector<double> weights;
      double sum = 0;
      for (std::int64_t t = 0; t < length; ++t) {
        const std::int64_t at =
            ((b * c.groups + group) * c.tokens + t) * c.size;
        double score = 0;
        for (std::int64_t d = 0; d < c.size; ++d)
          score += static_cast<double>(q[d]) * c.keys[at + d];
        score *= c.scale;
        if (!c.bias.empty()) score += c.bias[b * c.tokens + t];
        weights.push_back(std::exp(score));
        sum += weights.back();
      }
      for (std::int64_t d = 0; d < c.size; ++d) {
        double exact = 0, size = 0;
        for (std::int64_t t = 0; t < length; ++t) {
          const double value =
              c.values[((b * c.groups + group) * c.tokens + t) * c.size + d];
          exact += weights[t] / sum * value;
          // Codes are counted from the middle, up to 2.5 away.
          size += weights[t] / sum * (std::abs(value) + (c.bits > 0 ? 2.5 : 0));
        }
        const double error =
            std::abs(y[(b * c.heads + h) * c.size + d] - exact);
        worst =
            std::max(worst, error / (half * (size + std::abs(exact)) + 1e-6));
        if (!(error < 1e9)) worst = HUGE_VAL;
      }
    }
  INFO(c.text() << ", error in parts of the bound " << worst);
  REQUIRE(worst <= 1.05);
}

TEST_CASE("cuda decode_attention: two tokens computed by hand") {
  if (!has_device()) return;
  AttentionCase c = {1, 1, 1, 2, 64};
  c.query.assign(64, 1);
  c.keys.assign(128, 0);
  for (int i = 0; i < 128; ++i)
    c.values.push_back(static_cast<float>(i < 64 ? i : 4 * (i - 64)));
  c.key_bytes = encode(c.keys, c.type);
  c.value_bytes = encode(c.values, c.type);
  // Equal scores: the mean, 2.5 d.
  const auto mean = attend(c);
  CHECK(mean[2] == 5);
  CHECK(mean[40] == 100);
  // The bias makes it three to one: 0.25 d + 0.75 * 4 d.
  c.bias = {0, std::log(3.0f)};
  const auto biased = attend(c);
  CHECK(biased[4] == 13);
  CHECK(biased[16] == 52);
  // A token of -infinity is not there.
  c.bias = {kUnseen, 0};
  CHECK(attend(c)[3] == 12);
  c.bias = {kUnseen, kUnseen};
  CHECK(attend(c) == std::vector<float>(64, 0));
}

TEST_CASE("cuda decode_attention: agrees with double in every form") {
  if (!has_device()) return;
  std::uint32_t seed = 1;
  for (const int bits : {0, 8, 4})
    for (const NumberType type : {NumberType::kBFloat16, NumberType::kFloat16})
      for (const std::int64_t size : {64, 128})
        for (const std::int64_t tokens : {1, 15, 16, 17, 70})
          check_against_double(
              make_attention({2, 6, 2, tokens, size, type, bits}, seed++));
}

TEST_CASE("cuda decode_attention: any number of queries per group") {
  if (!has_device()) return;
  for (const std::int64_t queries : {1, 7, 16, 17, 40})
    for (const int bits : {0, 8})
      check_against_double(make_attention(
          {1, 2 * queries, 2, 40, 64, NumberType::kBFloat16, bits}, 3));
}

TEST_CASE("cuda decode_attention: a long cache is split and merged") {
  if (!has_device()) return;
  for (const int bits : {0, 4, 8}) {
    AttentionCase c =
        make_attention({2, 4, 2, 333, 64, NumberType::kBFloat16, bits}, 9);
    CHECK(attention_workspace(2, 4, 2, 333, 64) > 0);
    check_against_double(c);
    // Sharp scores, the greatest far from the first tokens.
    c.scale = 2;
    check_against_double(c);
  }
}

TEST_CASE("cuda decode_attention: a warp goes on from 16 tokens to the next") {
  if (!has_device()) return;
  for (const int bits : {0, 8}) {
    // So many heads that a split is 128 tokens long.
    AttentionCase c =
        make_attention({33, 4, 4, 140, 64, NumberType::kBFloat16, bits}, 8);
    CHECK(attention_workspace(33, 4, 4, 140, 64) == 2 * 33 * 4 * 66 * 4);
    c.scale = 1;
    check_against_double(c);
    // The first tokens of every warp are not seen.
    for (int i = 0; i < 33 * 140; ++i)
      c.bias.push_back(i % 140 < 64 + i / 140 % 10 ? kUnseen : 0);
    check_against_double(c);
  }
}

TEST_CASE("cuda decode_attention: lengths and biases of each sequence") {
  if (!has_device()) return;
  for (const int bits : {0, 8}) {
    AttentionCase c =
        make_attention({3, 4, 2, 150, 128, NumberType::kFloat16, bits}, 5);
    c.lengths = {1, 64, 150};
    check_against_double(c);
    std::mt19937 random(1);
    for (int i = 0; i < 3 * 150; ++i)
      c.bias.push_back(random() % 4 == 0 && i % 150 > 0
                           ? kUnseen
                           : -0.01f * static_cast<float>(i % 7));
    check_against_double(c);
  }
}

TEST_CASE("cuda decode_attention: tokens beyond the length do not matter") {
  if (!has_device()) return;
  AttentionCase c =
      make_attention({2, 2, 1, 200, 64, NumberType::kBFloat16, 0}, 6);
  c.lengths = {70, 0};
  const auto clean = attend(c);
  for (std::size_t i = 70 * 64; i < c.keys.size(); ++i)
    c.keys[i] = c.values[i] = std::numeric_limits<float>::quiet_NaN();
  c.key_bytes = encode(c.keys, c.type);
  c.value_bytes = encode(c.values, c.type);
  CHECK(attend(c) == clean);
  CHECK(clean[0] != 0);
  // A sequence without tokens.
  CHECK(std::vector<float>(clean.begin() + 128, clean.end()) ==
        std::vector<float>(128, 0));
}

TEST_CASE("cuda decode_attention: the same input gives the same bits again") {
  if (!has_device()) return;
  const AttentionCase c =
      make_attention({1, 20, 1, 300, 64, NumberType::kBFloat16, 8}, 7);
  std::vector<float> first;
  for_each_order([&] {
    const auto y = attend(c);
    if (first.empty()) first = y;
    CHECK(y == first);
  });
}

TEST_CASE("cuda decode_attention: what it does not take has its own status") {
  alignas(16) float memory[64] = {};
  const auto status = [&](auto&& change) {
    AttentionArguments a = {};
    a.query = a.keys = a.values = memory;
    a.y = memory;
    a.type = NumberType::kBFloat16;
    a.batch = a.heads = a.groups = 1;
    a.tokens = 200;
    a.size = 64;
    change(a);
    return decode_attention(a, nullptr);
  };
  CHECK(status([](auto& a) { a.type = NumberType::kFloat32; }) ==
        Status::kBadType);
  CHECK(status([](auto& a) { a.cache_bits = 5; }) == Status::kBadBits);
  CHECK(status([](auto& a) { a.size = 96; }) == Status::kBadHeadSize);
  CHECK(status([](auto& a) { a.tokens = 0; }) == Status::kBadSize);
  CHECK(status([](auto& a) { a.heads = 3, a.groups = 2; }) == Status::kBadSize);
  CHECK(status([](auto& a) { a.cache_token_stride = 68; }) ==
        Status::kBadAlignment);
  CHECK(status([&](auto& a) { a.values = memory + 1; }) ==
        Status::kBadAlignment);
  CHECK(status([](auto&) {}) == Status::kNoWorkspace);
}

}  // namespace
}  // namespace autoglm::kernels::cuda
