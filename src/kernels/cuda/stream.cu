// What stands between two products, each in one pass.
#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "autoglm/kernels/cuda_stream_kernels.h"
#include "kernels/cuda/checks.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/numbers.cuh"

namespace autoglm::kernels::cuda {
namespace {

constexpr int kWarpSize = 32;
constexpr int kMostWarps = 32;
constexpr int kThreads = 256;  // of kernels without a reduction

// A block per row: about four elements a thread, so that a row of a few
// thousand is one round of loads.
unsigned threads_for(std::int64_t size) {
  const std::int64_t warps = (size / 4 + kWarpSize - 1) / kWarpSize;
  return static_cast<unsigned>(kWarpSize *
                               std::clamp<std::int64_t>(warps, 1, kMostWarps));
}

int threads_of_block(std::int64_t size) {
  return static_cast<int>(threads_for(size));
}

struct Sum {
  __device__ static float of_warp(float value) { return warp_sum(value); }
  __device__ static float join(float a, float b) { return a + b; }
};
struct Maximum {
  __device__ static float of_warp(float value) { return warp_maximum(value); }
  __device__ static float join(float a, float b) { return maximum(a, b); }
};

// Over all threads of the block, the same in each; always in the same order.
template <class Reduction>
__device__ float reduce_block(float value, int threads) {
  auto* of_warps = dynamic_shared<float>();
  const float mine = Reduction::of_warp(value);
  if (threadIdx.x % kWarpSize == 0) of_warps[threadIdx.x / kWarpSize] = mine;
  __syncthreads();
  float out = of_warps[0];
  for (int warp = 1; warp < threads / kWarpSize; ++warp)
    out = Reduction::join(out, of_warps[warp]);
  return out;
}

__global__ void __launch_bounds__(kMostWarps* kWarpSize)
    rms_norm_kernel(const NormArguments a, int threads) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * a.size;
  const int first = static_cast<int>(threadIdx.x);
  float squares = 0;
  for (int i = first; i < a.size; i += threads) {
    float h = number_at(a.x, a.type, row + i);
    if (a.residual != nullptr) {
      h = rounded_to(a.type, h + number_at(a.residual, a.type, row + i));
      put_number(a.sum, a.type, row + i, h);
    }
    squares += h * h;
  }
  const float mean =
      reduce_block<Sum>(squares, threads) / static_cast<float>(a.size);
  const float factor = rsqrtf(mean + a.epsilon);
  // Each thread reads what it has written itself.
  const void* h = a.residual != nullptr ? a.sum : a.x;
  for (int i = first; i < a.size; i += threads) {
    const float scaled =
        rounded_to(a.type, number_at(h, a.type, row + i) * factor);
    put_number(a.y, a.type, row + i, number_at(a.gain, a.type, i) * scaled);
  }
}

__global__ void __launch_bounds__(kThreads)
    silu_product_kernel(const SiluArguments a) {
  const std::int64_t i =
      static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= a.size) return;
  for (std::int64_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
    const float gate = number_at(a.gate, a.type, row * a.stride + i);
    const float up = number_at(a.up, a.type, row * a.stride + i);
    const float silu = rounded_to(a.type, gate / (1.0f + expf(-gate)));
    put_number(a.y, a.type, row * a.size + i, silu * up);
  }
}

// A thread per element of y. Products and sum are rounded one by one, as where
// they are made by separate operations.
__global__ void __launch_bounds__(kThreads)
    rotate_heads_kernel(const RotaryArguments a) {
  const std::int64_t per_token = a.heads * a.size;
  const std::int64_t i =
      static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= a.batch * a.tokens * per_token) return;
  const int d = static_cast<int>(i % a.size);
  const std::int64_t token = i / a.size % a.tokens;
  const std::int64_t head = i / a.size / a.tokens % a.heads;
  const std::int64_t b = i / a.size / a.tokens / a.heads;
  const std::int64_t from =
      b * a.batch_stride + head * a.head_stride + token * a.token_stride;
  const float own = number_at(a.x, a.type, from + d);
  if (d >= a.turned) {
    put_number(a.y, a.type, i, own);
    return;
  }
  const int pairs = static_cast<int>(a.turned / 2);
  const int pair = a.interleaved ? d / 2 : d % pairs;
  const bool first = a.interleaved ? d % 2 == 0 : d < pairs;
  const int apart = a.interleaved ? 1 : pairs;
  const float other =
      number_at(a.x, a.type, from + (first ? d + apart : d - apart));
  const std::int64_t angle = b * a.angle_batch_stride + token * pairs + pair;
  const float along = __fmul_rn(own, a.cosine[angle]);
  const float across = __fmul_rn(other, a.sine[angle]);
  put_number(a.y, a.type, i, __fadd_rn(along, first ? -across : across));
}

__global__ void __launch_bounds__(kMostWarps* kWarpSize)
    round_to_int8_kernel(const RoundArguments a, int threads) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * a.size;
  const int first = static_cast<int>(threadIdx.x);
  float step;
  if (a.given != nullptr) {
    step = a.given[0];
  } else {
    float most = 0;
    for (int i = first; i < a.size; i += threads) {
      const float size = fabsf(number_at(a.x, a.type, row + i));
      most = maximum(size, most);
    }
    step = __fdiv_rn(reduce_block<Maximum>(most, threads), 127.0f);
    if (step == 0) step = 1;
  }
  if (first == 0) a.steps[blockIdx.x] = step;
  for (int i = first; i < a.size; i += threads) {
    const float steps = rintf(__fdiv_rn(number_at(a.x, a.type, row + i), step));
    const float code = fminf(fmaxf(steps, -127.0f), 127.0f);
    if (a.codes != nullptr)
      a.codes[row + i] = static_cast<std::int8_t>(static_cast<int>(code));
    if (a.numbers != nullptr) a.numbers[row + i] = to_bf16(code);
  }
}

bool are_aligned(NumberType type, std::initializer_list<const void*> all) {
  return std::all_of(all.begin(), all.end(), [&](const void* pointer) {
    return is_aligned(pointer, size_of(type));
  });
}

constexpr std::size_t kReductionBytes = kMostWarps * sizeof(float);

}  // namespace

Status rms_norm(const NormArguments& a, Stream stream) {
  if (!is_good_size(a.rows) || !is_good_size(a.size) ||
      (a.residual == nullptr) != (a.sum == nullptr))
    return Status::kBadSize;
  if (!are_aligned(a.type, {a.x, a.residual, a.sum, a.gain, a.y}))
    return Status::kBadAlignment;
  return launch(rms_norm_kernel, dim3(static_cast<unsigned>(a.rows)),
                threads_for(a.size), kReductionBytes, stream, a,
                threads_of_block(a.size));
}

Status silu_product(const SiluArguments& a, Stream stream) {
  if (!is_good_size(a.rows) || !is_good_size(a.size) || a.stride < a.size)
    return Status::kBadSize;
  if (!are_aligned(a.type, {a.gate, a.up, a.y})) return Status::kBadAlignment;
  const dim3 grid(static_cast<unsigned>((a.size + kThreads - 1) / kThreads),
                  static_cast<unsigned>(std::min<std::int64_t>(a.rows, 65535)));
  return launch(silu_product_kernel, grid, kThreads, 0, stream, a);
}

Status rotate_heads(const RotaryArguments& a, Stream stream) {
  for (const std::int64_t n : {a.batch, a.heads, a.tokens, a.size})
    if (!is_good_size(n)) return Status::kBadSize;
  if (a.turned < 0 || a.turned > a.size || a.turned % 2 != 0)
    return Status::kBadSize;
  if (!are_aligned(a.type, {a.x, a.y}) || !is_aligned(a.cosine, 4) ||
      !is_aligned(a.sine, 4))
    return Status::kBadAlignment;
  const std::int64_t count = a.batch * a.heads * a.tokens * a.size;
  const std::int64_t blocks = (count + kThreads - 1) / kThreads;
  if (blocks > kMostSize) return Status::kBadSize;
  return launch(rotate_heads_kernel, dim3(static_cast<unsigned>(blocks)),
                kThreads, 0, stream, a);
}

Status round_to_int8(const RoundArguments& a, Stream stream) {
  if (!is_good_size(a.rows) || !is_good_size(a.size)) return Status::kBadSize;
  if (!are_aligned(a.type, {a.x}) || !is_aligned(a.numbers, 2) ||
      !is_aligned(a.steps, 4) || !is_aligned(a.given, 4))
    return Status::kBadAlignment;
  return launch(round_to_int8_kernel, dim3(static_cast<unsigned>(a.rows)),
                threads_for(a.size), kReductionBytes, stream, a,
                threads_of_block(a.size));
}

}  // namespace autoglm::kernels::cuda
