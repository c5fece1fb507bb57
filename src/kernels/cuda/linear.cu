// Chooses how a product with few rows runs.
#include <algorithm>

#include "kernels/cuda/checks.h"
#include "kernels/cuda/linear_any.cuh"
#include "kernels/cuda/linear_launch.cuh"

namespace autoglm::kernels::cuda {
namespace {

// A matrix of either kind; bits 0: e4m3.
struct Matrix {
  LinearTask task;
  int bits;
  int piece_words = 0, piece_elements = 0;  // 0: no fast kernel
  bool wide = false;
};

template <class Format>
void set_pieces(Matrix& m) {
  if (m.task.groups > 1) {
    const std::int64_t parts = m.task.group_size / Format::kPartElements;
    const std::int64_t all =
        m.task.in / Format::kPartElements + 4 * Format::kParts;
    if (m.task.group_size % Format::kPartElements != 0 ||
        all * parts >= std::int64_t{1} << 30)
      return;
    m.task.group_factor = group_factor(parts);
    m.task.group_per_part = m.task.group_size % Format::kElements != 0;
  }
  m.piece_words = Format::kWords;
  m.piece_elements = Format::kElements;
}

template <bool kWide>
void choose_pieces(Matrix& m) {
  m.wide = kWide;
  switch (m.bits) {
    case 0:
      return set_pieces<Float8Format<kWide>>(m);
    case 2:
      return set_pieces<PackedFormat<2, kWide>>(m);
    case 3:
      return set_pieces<PackedFormat<3, kWide>>(m);
    case 4:
      return set_pieces<PackedFormat<4, kWide>>(m);
    case 5:
      return set_pieces<PackedFormat<5, kWide>>(m);
    case 6:
      return set_pieces<PackedFormat<6, kWide>>(m);
    case 7:
      return set_pieces<PackedFormat<7, kWide>>(m);
    default:
      return set_pieces<PackedFormat<8, kWide>>(m);
  }
}

void choose_layout(Matrix& m, std::int64_t row_bytes) {
  // Scales and zeros are copied in units of 16 bytes.
  if (row_bytes % 4 != 0 || !is_aligned(m.task.scales, 16) ||
      !is_aligned(m.task.zeros, 16))
    return;
  if (row_bytes % 16 == 0 && is_aligned(m.task.codes, 16))
    choose_pieces<true>(m);
  else if (is_aligned(m.task.codes, 4))
    choose_pieces<false>(m);
}

Matrix matrix(const PackedMatrix& w) {
  Matrix m = {};
  LinearTask& task = m.task;
  task.codes = w.codes;
  task.row_words = static_cast<int>(w.words());
  task.scales = w.scales;
  task.zeros = w.zeros;
  task.scale_type = w.scale_type;
  task.zero = 1 << (w.bits - 1);
  task.out = static_cast<int>(w.out);
  task.in = static_cast<int>(w.in);
  task.groups = static_cast<int>(w.groups());
  task.group_size = static_cast<int>(std::min(w.group_size, w.in));
  m.bits = w.bits;
  choose_layout(m, w.words() * 4);
  return m;
}

Matrix matrix(const Float8Matrix& w) {
  Matrix m = {};
  LinearTask& task = m.task;
  task.codes = reinterpret_cast<const std::uint32_t*>(w.values);
  task.row_words = static_cast<int>(w.in / 4);
  task.scales = w.scales;
  task.scale_type = w.scale_type;
  task.out = static_cast<int>(w.out);
  task.in = static_cast<int>(w.in);
  task.groups = 1;
  task.group_size = task.in;
  m.bits = 0;
  choose_layout(m, w.in);
  return m;
}

LinearPlan plan_for(const Matrix& m, NumberType x_type, std::int64_t rows) {
  if (m.piece_words == 0) return {};
  LinearShape shape = {};
  shape.out = m.task.out;
  shape.in = m.task.in;
  shape.rows = rows;
  shape.row_words = m.task.row_words;
  shape.piece_words = m.piece_words;
  shape.piece_elements = m.piece_elements;
  shape.scale_bytes =
      m.task.groups * (static_cast<std::int64_t>(size_of(m.task.scale_type)) +
                       (m.task.zeros != nullptr ? 1 : 0));
  shape.columns_per_row = x_type == NumberType::kFloat32 ? kFloatColumns : 1;
  shape.fewest_pairs = m.wide ? 1 : kMostPairs;
  return plan_linear(shape);
}

Status check_arguments(const LinearArguments& a) {
  if (!is_good_size(a.rows)) return Status::kBadSize;
  if (!is_aligned(a.x, size_of(a.x_type)) ||
      !is_aligned(a.y, size_of(a.y_type)) ||
      !is_aligned(a.bias, size_of(a.bias_type)) || !is_aligned(a.row_steps, 4))
    return Status::kBadAlignment;
  return Status::kOk;
}

Status run_fast(const Matrix& m, const LinearTask& task, Stream stream) {
  const bool fp16 = task.x_type == NumberType::kFloat16;
  const auto start = m.wide ? (fp16 ? launch_wide_fp16 : launch_wide_bf16)
                            : (fp16 ? launch_narrow_fp16 : launch_narrow_bf16);
  const Status status = start(m.bits, task, stream);
  if (status != Status::kOk || task.plan.splits == 1) return status;
  const std::int64_t outputs = task.rows * task.out;
  return launch(add_splits_kernel,
                dim3(static_cast<unsigned>((outputs + 255) / 256)), 256, 0,
                stream, task);
}

template <class W>
Status run(const W& weight, const LinearArguments& arguments, Stream stream) {
  if (const Status s = check(weight); s != Status::kOk) return s;
  if (const Status s = check_arguments(arguments); s != Status::kOk) return s;
  const Matrix m = matrix(weight);
  LinearTask task = m.task;
  task.x = arguments.x;
  task.x_type = arguments.x_type;
  task.row_steps = arguments.row_steps;
  task.bias = arguments.bias;
  task.bias_type = arguments.bias_type;
  task.y = arguments.y;
  task.y_type = arguments.y_type;
  task.rows = arguments.rows;
  task.plan = plan_for(m, arguments.x_type, arguments.rows);
  task.columns_per_row =
      arguments.x_type == NumberType::kFloat32 ? kFloatColumns : 1;
  if (task.plan.fits) {
    if (task.plan.splits > 1) {
      if (arguments.workspace == nullptr) return Status::kNoWorkspace;
      if (!is_aligned(arguments.workspace, 16)) return Status::kBadAlignment;
      task.sums = static_cast<float*>(arguments.workspace);
    }
    return run_fast(m, task, stream);
  }
  const std::int64_t blocks = (weight.out + kWarps - 1) / kWarps;
  const dim3 grid(
      static_cast<unsigned>((arguments.rows + kColumns - 1) / kColumns),
      static_cast<unsigned>(std::min<std::int64_t>(blocks, 65535)));
  return launch(any_layout_kernel, grid, kWarps * 32, 0, stream, task, m.bits);
}

}  // namespace

Status packed_linear(const PackedMatrix& weight,
                     const LinearArguments& arguments, Stream stream) {
  return run(weight, arguments, stream);
}

Status float8_linear(const Float8Matrix& weight,
                     const LinearArguments& arguments, Stream stream) {
  return run(weight, arguments, stream);
}

std::int64_t linear_workspace(const PackedMatrix& weight, NumberType x_type,
                              std::int64_t rows) {
  if (check(weight) != Status::kOk) return 0;
  return plan_for(matrix(weight), x_type, rows).workspace(rows, weight.out);
}

std::int64_t linear_workspace(const Float8Matrix& weight, NumberType x_type,
                              std::int64_t rows) {
  if (check(weight) != Status::kOk) return 0;
  return plan_for(matrix(weight), x_type, rows).workspace(rows, weight.out);
}

}  // namespace autoglm::kernels::cuda
