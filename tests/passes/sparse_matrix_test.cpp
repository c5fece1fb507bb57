#include "passes/sparsification/sparse_matrix.h"

#include "passes/layer_moments.h"
#include "tests/support/catch.h"

using namespace autoglm;

namespace {

at::Tensor matrix(std::initializer_list<float> values, std::int64_t rows) {
  return at::tensor(values).view({rows, -1});
}

double output_error(const at::Tensor& x, const at::Tensor& from,
                    const at::Tensor& to) {
  return at::mm(x, (to - from).t()).square().sum().item<double>();
}

// Inputs of which a few hidden ones make most.
at::Tensor correlated(std::int64_t tokens, std::int64_t in) {
  return at::mm(at::randn({tokens, in / 4}), at::randn({in / 4, in})) +
         at::randn({tokens, in}) * 0.3;
}

const std::vector<std::string>& patterns() {
  static const std::vector<std::string> all = {"unstructured", "2:4", "4:8",
                                               "1:3", "block:4x6"};
  return all;
}

}  // namespace

TEST_CASE("magnitude: by hand, the least of the matrix, a group or tiles") {
  const at::Tensor w = matrix({1, -4, 2, 3, -8, 5, 7, -6}, 2);
  CHECK(at::equal(sparsify_by_magnitude(w, parse_pattern("unstructured", 0.5)),
                  matrix({0, 0, 0, 0, -8, 5, 7, -6}, 2)));
  CHECK(at::equal(sparsify_by_magnitude(w, parse_pattern("2:4", 0.5)),
                  matrix({0, -4, 0, 3, -8, 0, 7, 0}, 2)));
  // Tiles of two rows and two columns: 1 16 64 25 and 4 9 49 36.
  CHECK(at::equal(sparsify_by_magnitude(w, parse_pattern("block:2x2", 0.5)),
                  matrix({1, -4, 0, 0, -8, 5, 0, 0}, 2)));
}

TEST_CASE("wanda: by hand, weights count with their inputs, row by row") {
  const at::Tensor w = matrix({1, -4, 2, 3, -8, 5, 7, -6}, 2);
  const at::Tensor moments = at::diag(at::tensor({81.f, 1.f, 1.f, 1.f}));
  CHECK(at::equal(
      sparsify_by_wanda(w, moments, parse_pattern("unstructured", 0.5)),
      matrix({1, -4, 0, 0, -8, 0, 7, 0}, 2)));
  // A quarter of a row of four.
  CHECK(at::equal(
      sparsify_by_wanda(w, moments, parse_pattern("unstructured", 0.25)),
      matrix({1, -4, 0, 3, -8, 0, 7, -6}, 2)));
  // Tiles of one row and two columns: 81 + 16 > 4 + 9 and so on.
  CHECK(
      at::equal(sparsify_by_wanda(w, moments, parse_pattern("block:1x2", 0.5)),
                matrix({1, -4, 0, 0, -8, 5, 0, 0}, 2)));
}

TEST_CASE("sparsegpt: by hand, the second weight makes up for the first") {
  // S = [[1, 0.9], [0.9, 1]] and 0.01 of damping: removing w_0 adds
  // w_0 * 0.9 / 1.01 to w_1.
  const at::Tensor moments = matrix({1, 0.9f, 0.9f, 1}, 2);
  const at::Tensor w = matrix({0.2f, 1}, 1);
  const at::Tensor out =
      sparsify_by_sparsegpt(w, moments, parse_pattern("1:2", 0.5));
  CHECK(out[0][0].item<float>() == 0);
  CHECK(out[0][1].item<float>() == Approx(1 + 0.2 * 0.9 / 1.01));
  // The last column can give nothing on.
  CHECK(at::equal(sparsify_by_sparsegpt(matrix({1, 0.1f}, 1), moments,
                                        parse_pattern("1:2", 0.5)),
                  matrix({1, 0}, 1)));
}

TEST_CASE("masks: n:m is the best of all choices, by brute force") {
  at::manual_seed(1);
  const at::Tensor w = at::randn({6, 8});
  const at::Tensor energy = at::rand({8}) + 0.1;
  for (const auto& [text, kept] :
       std::map<std::string, int>{{"1:4", 1}, {"2:4", 2}, {"3:4", 3}}) {
    const SparsityPattern pattern = parse_pattern(text, 0.5);
    const auto best = [&](const at::Tensor& costs) {  // [4] -> least sum
      double least = 1e30;
      for (int bits = 0; bits < 16; ++bits) {
        if (__builtin_popcount(static_cast<unsigned>(bits)) != 4 - kept)
          continue;
        double sum = 0;
        for (int i = 0; i < 4; ++i)
          if (bits & 1 << i) sum += costs[i].item<double>();
        least = std::min(least, sum);
      }
      return least;
    };
    const auto check = [&](const at::Tensor& sparse, const at::Tensor& costs) {
      const at::Tensor lost = (costs * (sparse == 0)).view({-1, 4});
      const at::Tensor groups = costs.view({-1, 4});
      for (std::int64_t g = 0; g < groups.size(0); ++g)
        CHECK(lost[g].sum().item<double>() == Approx(best(groups[g])));
    };
    check(sparsify_by_magnitude(w, pattern), w.square());
    const at::Tensor costs = w.square() * energy;
    check(sparsify_by_wanda(w, at::diag(energy), pattern), costs);
    // With independent inputs there is nothing to make up for.
    check(sparsify_by_sparsegpt(w, at::diag(energy), pattern),
          w.square() * (energy + 0.01 * energy.mean()));
  }
}

TEST_CASE("sparsegpt: on correlated inputs its error is below wanda's") {
  at::manual_seed(2);
  const at::Tensor w = at::randn({32, 192});  // more than one block of columns
  // Of unequal energy, so that columns have to lose unequally.
  const at::Tensor x = correlated(2000, 192) * at::linspace(0.2, 2, 192);
  const at::Tensor moments = at::mm(x.t(), x);
  for (const std::string& text : patterns()) {
    INFO(text);
    const SparsityPattern pattern = parse_pattern(text, 0.5);
    const double wanda =
        output_error(x, w, sparsify_by_wanda(w, moments, pattern));
    const double corrected =
        output_error(x, w, sparsify_by_sparsegpt(w, moments, pattern));
    CHECK(corrected < 0.7 * wanda);
    if (text == "unstructured")
      CHECK(wanda < output_error(x, w, sparsify_by_magnitude(w, pattern)));
  }
}

TEST_CASE("sparsegpt: the last column's weights are put right by all before") {
  // Of two equal inputs one weight can do the work of both.
  const at::Tensor x = at::randn({500, 4});
  const at::Tensor twice = at::cat({x, x}, 1).view({500, 2, 4});
  const at::Tensor inputs = twice.transpose(1, 2).reshape({500, 8});
  const at::Tensor w = at::randn({16, 8});
  const at::Tensor out = sparsify_by_sparsegpt(w, at::mm(inputs.t(), inputs),
                                               parse_pattern("1:2", 0.5));
  // Only where the first of a pair goes; the second has no one to ask.
  const at::Tensor first = out.view({16, 4, 2}).select(2, 0) == 0;
  const at::Tensor moved =
      out.view({16, 4, 2}).sum(2) - w.view({16, 4, 2}).sum(2);
  CHECK((moved * first).abs().max().item<double>() < 0.1);
}

TEST_CASE(
    "sparse matrices: exactly as many zeros as asked for, more as it grows") {
  at::manual_seed(3);
  const at::Tensor w = at::randn({24, 150});  // 128 columns and a rest
  const at::Tensor x = correlated(400, 150);
  const at::Tensor moments = at::mm(x.t(), x);
  const auto zeros = [](const at::Tensor& t) {
    return (t == 0).sum().item<std::int64_t>();
  };
  for (const double share : {0.0, 0.1, 0.37, 0.5, 0.7, 0.99}) {
    INFO(share);
    const SparsityPattern pattern = parse_pattern("unstructured", share);
    const auto all = static_cast<std::int64_t>(share * 3600 + 1e-6);
    CHECK(zeros(sparsify_by_magnitude(w, pattern)) == all);
    CHECK(zeros(sparsify_by_sparsegpt(w, moments, pattern)) == all);
    const at::Tensor rows = sparsify_by_wanda(w, moments, pattern) == 0;
    CHECK((rows.sum(1) == static_cast<std::int64_t>(share * 150 + 1e-6))
              .all()
              .item<bool>());
    if (share == 0) {
      CHECK(at::equal(sparsify_by_sparsegpt(w, moments, pattern), w));
      CHECK(at::equal(sparsify_by_wanda(w, moments, pattern), w));
    }
  }
}

TEST_CASE("sparse matrices: tiles go as a whole, as many as asked for") {
  at::manual_seed(4);
  const at::Tensor w = at::randn({24, 150});
  const at::Tensor x = correlated(400, 150);
  const at::Tensor moments = at::mm(x.t(), x);
  const SparsityPattern pattern = parse_pattern("block:4x6", 0.5);
  for (const at::Tensor& sparse :
       {sparsify_by_magnitude(w, pattern),
        sparsify_by_wanda(w, moments, pattern),
        sparsify_by_sparsegpt(w, moments, pattern)}) {
    const at::Tensor gone = (sparse.view({6, 4, 25, 6}) == 0).sum({1, 3});
    CHECK(at::logical_or(gone == 0, gone == 24).all().item<bool>());
    const auto tiles = (gone == 24).sum().item<std::int64_t>();
    CHECK((tiles == 75 || tiles == 6 * 12));  // of 150; 12 of each row's 25
  }
}

TEST_CASE("sparse matrices: weights on dead inputs go first") {
  at::manual_seed(5);
  at::Tensor x = correlated(300, 16);
  for (const int j : {3, 8, 9}) x.select(1, j).zero_();
  const at::Tensor w = at::randn({8, 16}) + 3;  // none is small
  const at::Tensor moments = at::mm(x.t(), x);
  const SparsityPattern pattern = parse_pattern("unstructured", 3. / 16);
  for (const at::Tensor& sparse :
       {sparsify_by_wanda(w, moments, pattern),
        sparsify_by_sparsegpt(w, moments, pattern)}) {
    CHECK(at::isfinite(sparse).all().item<bool>());
    CHECK(output_error(x, w, sparse) == Approx(0).margin(1e-6));
    CHECK((sparse == 0).all(0).sum().item<int>() == 3);
  }
  // Nothing at all comes in: still a result of the right size.
  const at::Tensor none =
      sparsify_by_sparsegpt(w, at::zeros({16, 16}), parse_pattern("2:4", 0.5));
  CHECK((none == 0).sum().item<int>() == 64);
}

TEST_CASE("patterns: their texts come back") {
  for (const std::string& text : patterns())
    CHECK(parse_pattern(text, 0.3).text() == text);
  CHECK(parse_pattern("3:4", 0.3).share == Approx(0.25));
  CHECK(parse_pattern("block:16x8", 0.3).share == Approx(0.3));
}
