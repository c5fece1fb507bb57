// Which rows and columns of a block belong to one head or one FFN channel, in
// every layout of every family. Indices are int64 [n], ascending, on the
// block's device; matrices that are cut must be dense.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "autoglm/model/model.h"

namespace autoglm {

/// Rows of one matrix, by its canonical name below the block.
struct Rows {
  std::string name;
  at::Tensor rows;  // int64, in the order in which they are to stand
};

/// The rows that make the given query heads. Keys and values belong to them
/// where every query head has its own. Of those that a group of heads shares
/// the given `groups` stay; undefined: all.
std::vector<Rows> head_rows(const Architecture& architecture,
                            const Block& block, const at::Tensor& heads,
                            const at::Tensor& groups = {});

/// The columns of attention.output that read the given heads.
at::Tensor head_columns(const Architecture& architecture,
                        const at::Tensor& heads);

/// The slices `kept` of `tensor` along `dim`. Of a meta tensor only the shape
/// is right.
at::Tensor pick(const at::Tensor& tensor, std::int64_t dim,
                const at::Tensor& kept);

/// Keeps the rows of the given heads, and their biases. The columns of
/// attention.output are the caller's to cut.
void keep_head_rows(const Architecture& architecture, Block& block,
                    const at::Tensor& heads, const at::Tensor& groups = {});

/// Keeps the rows of gate and up (in one matrix or two), or of up alone, that
/// make the given channels, and their biases. The columns of down, which have
/// the channels' own numbers, are the caller's to cut.
void keep_channel_rows(Mlp& mlp, const at::Tensor& channels);

}  // namespace autoglm
