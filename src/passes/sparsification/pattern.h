// Which weights of a matrix may go together: any, n stay of every m, or whole
// tiles. Only the choice is made here; what a weight is worth is the method's
// to say.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>

namespace autoglm {

struct SparsityPattern {
  enum class Kind { kUnstructured, kNOfM, kTiles };
  Kind kind = Kind::kUnstructured;
  std::int64_t rows = 1;     // of a tile
  std::int64_t columns = 1;  // of a tile; m
  std::int64_t kept = 0;     // n of n:m
  double share = 0;          // of weights that go, 0 .. 1

  std::string text() const;  // "unstructured", "2:4", "block:16x16"
};

/// Where weights compete for their places. Of n:m that is always the m weights
/// beside each other in one row.
enum class Among {
  kMatrix,
  kRow,  // of the matrix, or of tiles
};

/// "unstructured", "n:m" (n weights of every m along the inputs stay) or
/// "block:RxC" (tiles of R outputs and C inputs). `sparsity` is the share that
/// goes; n:m has one of its own, 1 - n/m. Throws kConfig for anything else.
SparsityPattern parse_pattern(const std::string& text, double sparsity);

/// Throws kConfig where the matrix `name` does not divide into what the pattern
/// asks for.
void check_pattern(const SparsityPattern& pattern, const std::string& name,
                   std::int64_t out, std::int64_t in);

/// True for the weights that go, [out, in]: those with the least scores, a
/// tile's score being the sum of its weights'; rounded down, never more than
/// the share. Which of equal ones is left open. scores: fp32 [out, in], which
/// divides as the pattern asks.
at::Tensor removal_mask(const at::Tensor& scores,
                        const SparsityPattern& pattern, Among among);

/// The same for a part of a matrix in which `count` weights or tiles go,
/// wherever they are; not for n:m.
at::Tensor removal_mask(const at::Tensor& scores,
                        const SparsityPattern& pattern, std::int64_t count);

}  // namespace autoglm
