// A model without some of its blocks, or of their parts.
#pragma once

#include <cstddef>
#include <vector>

#include "autoglm/model/model.h"

namespace autoglm {

enum class BlockPart { kAttention, kMlp };

/// "attention", "mlp".
const char* part_name(BlockPart part);
bool has_part(const Block& block, BlockPart part);
/// `block` without the part's matrices and norms: the stream passes it by.
Block without_part(Block block, BlockPart part);

/// Are the blocks `removed` (ascending) fewer than all, and does no block that
/// attends to the tokens an earlier one selected become the first?
bool can_remove_blocks(const Architecture& architecture,
                       const std::vector<std::size_t>& removed);

/// `model` without the blocks `removed` (ascending), for which
/// can_remove_blocks() holds. Those that stay are counted anew, and what says
/// something of each layer follows: in `architecture`, in the lists and counts
/// of `config`, and in the names of tensors that are copied through, such as
/// those of layers after the last one, which predict further tokens.
Model without_blocks(const Model& model,
                     const std::vector<std::size_t>& removed);

/// `model` without what is stored after its last block to predict further
/// tokens, for when the widths in `config` no longer describe it.
Model without_next_token_blocks(Model model);

}  // namespace autoglm
