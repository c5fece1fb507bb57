// A block that learns: which of its parts move, as they would be stored, and
// how gradients reach them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "autoglm/model/model.h"
#include "passes/quantization/learned.h"

namespace autoglm {

/// A matrix that learns its codes too: its grid and where it starts.
struct LearningStart {
  Grid grid;
  Rounded rounded;
};

class LearnedBlock {
 public:
  /// Codes, scales and zero points of the matrices of `starts` (names below the
  /// block) learn; with `vectors` norm gains and biases too.
  LearnedBlock(const Block& block,
               const std::map<std::string, LearningStart>& starts,
               bool vectors);
  /// The scales of every packed matrix learn, norm gains and biases too.
  static LearnedBlock scales_of(const Block& block);

  /// The block as it would be stored; its learning matrices dense fp32, or
  /// packed.
  Block stored_values() const;
  Block packed() const;

  /// The parameters, by what they are.
  std::vector<at::Tensor> moves() const;
  std::vector<at::Tensor> scales() const;
  std::vector<at::Tensor> zeros() const;
  std::vector<at::Tensor> vectors() const;

  /// Runs `forward` on the stored values as leaves of autograd, then backward
  /// from what it returns, with `gradient` (undefined: it is a scalar). The
  /// parameters' grad() are set, but for matrices that took no part.
  void backward(const std::function<at::Tensor(const Block&)>& forward,
                const at::Tensor& gradient = {});
  /// After a step (LearnedMatrix::settle).
  void settle();

 private:
  struct Matrix {
    std::string name;
    std::variant<LearnedMatrix, LearnedScales> learned;
  };
  struct Vector {
    std::string name;  // of a tensor, or of the matrix whose bias it is
    bool bias;
    LearnedVector learned;
  };
  explicit LearnedBlock(const Block& block) : block_(block) {}
  void add_vectors();
  static at::Tensor& place(Block& block, const Vector& vector);

  Block block_;
  std::vector<Matrix> matrices_;
  std::vector<Vector> vectors_;
};

}  // namespace autoglm
