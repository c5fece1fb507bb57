// The channels of the residual stream, which all blocks share: what has one
// row, column or number for each of them, in every family.
#pragma once

#include <ATen/ATen.h>

#include <string_view>

#include "autoglm/model/model.h"

namespace autoglm {

enum class HiddenRole {
  kNone,    // has nothing to do with the stream
  kReads,   // [out, H]: columns, of what a norm of the stream gives
  kWrites,  // [H, in]: rows, and a bias
  kNorm,    // [H]: gain or bias of a norm of the stream
};

/// By the name below a block: "attention.output", "mlp.router.weight",
/// "middle_norm.bias".
HiddenRole hidden_role(std::string_view name);

/// `model` with the channels `kept` of its stream alone (int64 [n], ascending,
/// on its device; of meta tensors the first n). Dense matrices; nothing else
/// changes, norms divide by the mean over fewer channels. Tensors beside the
/// model that no longer fit it, such as layers that predict further tokens, are
/// left out.
Model keep_hidden(Model model, const at::Tensor& kept);

}  // namespace autoglm
