#include <algorithm>

#include "kernels/cuda/attention_kernel.cuh"
#include "kernels/cuda/checks.h"

namespace autoglm::kernels::cuda {
namespace {

// Two blocks for each processor of an H200; but not below one step a warp.
constexpr std::int64_t kEnoughBlocks = 264;
constexpr std::int64_t kLeastTokens = kAttentionWarps * kStepTokens;
constexpr int kMergeThreads = 128;

std::int64_t up(std::int64_t n, std::int64_t unit) {
  return (n + unit - 1) / unit;
}

struct Cut {
  std::int64_t query_tiles, splits, split_tokens;
};

Cut cut(std::int64_t batch, std::int64_t heads, std::int64_t groups,
        std::int64_t tokens) {
  Cut c = {};
  c.query_tiles = up(heads / groups, kQueries);
  const std::int64_t blocks = batch * groups * c.query_tiles;
  const std::int64_t wanted = std::clamp<std::int64_t>(
      up(kEnoughBlocks, blocks), 1, up(tokens, kLeastTokens));
  c.split_tokens = up(up(tokens, wanted), kLeastTokens) * kLeastTokens;
  c.splits = up(tokens, c.split_tokens);
  return c;
}

// A block per head: merges its splits, in their order.
__global__ void __launch_bounds__(kMergeThreads)
    merge_splits_kernel(const AttentionTask task) {
  const int size = static_cast<int>(task.a.size);
  const std::int64_t head =
      static_cast<std::int64_t>(blockIdx.y) * task.a.heads + blockIdx.x;
  const float* all = task.partial + head * task.splits * (size + 2);
  const int d = static_cast<int>(threadIdx.x);
  if (d >= size) return;
  const Merged m = merge(all, size + 2, all + 2 + d, size + 2, task.splits);
  put_number(task.a.y, task.a.type, head * size + d,
             m.sum > 0 ? m.value / m.sum : 0);
}

Status check(const AttentionArguments& a) {
  if (a.type == NumberType::kFloat32) return Status::kBadType;
  if (a.cache_bits != 0 && a.cache_bits != 4 && a.cache_bits != 8)
    return Status::kBadBits;
  if (a.size != 64 && a.size != 128) return Status::kBadHeadSize;
  for (const std::int64_t n : {a.batch, a.heads, a.groups, a.tokens})
    if (!is_good_size(n)) return Status::kBadSize;
  if (a.heads % a.groups != 0 || a.batch > 65535 || a.heads > 65535)
    return Status::kBadSize;
  const std::int64_t unit = a.cache_bits == 0 ? 8 : 4;  // elements of a load
  for (const std::int64_t stride :
       {a.cache_batch_stride, a.cache_group_stride, a.cache_token_stride})
    if (stride % unit != 0) return Status::kBadAlignment;
  const std::size_t bytes = a.cache_bits == 0 ? 16 : 4;
  if (!is_aligned(a.keys, bytes) || !is_aligned(a.values, bytes) ||
      !is_aligned(a.query, 2) || !is_aligned(a.y, 2) ||
      !is_aligned(a.bias, 4) || !is_aligned(a.lengths, 4) ||
      !is_aligned(a.workspace, 16))
    return Status::kBadAlignment;
  return Status::kOk;
}

template <class Cache, class Number, int kSize>
Status start(const AttentionTask& task, Stream stream) {
  const dim3 grid(static_cast<unsigned>(task.splits),
                  static_cast<unsigned>(task.a.groups * task.query_tiles),
                  static_cast<unsigned>(task.a.batch));
  return launch(attention_kernel<Cache, Number, kSize>, grid,
                kAttentionWarps * 32, attention_shared_bytes<kSize>(), stream,
                task);
}

template <class Number, int kSize>
Status start_cache(const AttentionTask& task, Stream stream) {
  if (task.a.cache_bits == 8)
    return start<CodedCache<Number, 8>, Number, kSize>(task, stream);
  if (task.a.cache_bits == 4)
    return start<CodedCache<Number, 4>, Number, kSize>(task, stream);
  return start<PlainCache<Number>, Number, kSize>(task, stream);
}

template <class Number>
Status start_size(const AttentionTask& task, Stream stream) {
  return task.a.size == 64 ? start_cache<Number, 64>(task, stream)
                           : start_cache<Number, 128>(task, stream);
}

}  // namespace

std::int64_t attention_workspace(std::int64_t batch, std::int64_t heads,
                                 std::int64_t groups, std::int64_t tokens,
                                 std::int64_t size) {
  if (batch < 1 || groups < 1 || heads < groups || tokens < 1) return 0;
  const Cut c = cut(batch, heads, groups, tokens);
  return c.splits > 1 ? batch * heads * c.splits * (size + 2) * 4 : 0;
}

Status decode_attention(const AttentionArguments& arguments, Stream stream) {
  if (const Status s = check(arguments); s != Status::kOk) return s;
  const Cut c =
      cut(arguments.batch, arguments.heads, arguments.groups, arguments.tokens);
  AttentionTask task = {};
  task.a = arguments;
  task.queries_per_group = static_cast<int>(arguments.heads / arguments.groups);
  task.query_tiles = static_cast<int>(c.query_tiles);
  task.splits = static_cast<int>(c.splits);
  task.split_tokens = static_cast<int>(c.split_tokens);
  if (c.splits > 1) {
    if (arguments.workspace == nullptr) return Status::kNoWorkspace;
    task.partial = static_cast<float*>(arguments.workspace);
  }
  const Status status = arguments.type == NumberType::kBFloat16
                            ? start_size<BFloat16>(task, stream)
                            : start_size<Float16>(task, stream);
  if (status != Status::kOk || c.splits == 1) return status;
  const dim3 grid(static_cast<unsigned>(arguments.heads),
                  static_cast<unsigned>(arguments.batch));
  return launch(merge_splits_kernel, grid, kMergeThreads, 0, stream, task);
}

}  // namespace autoglm::kernels::cuda
