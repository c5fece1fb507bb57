#include "autoglm/model/dense_product.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/cpu/Utils.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <string_view>

#include "model/needs_gradient.h"

namespace autoglm {
namespace {

namespace autograd = torch::autograd;
using autograd::variable_list;

// libtorch registers oneDNN's linear layer, with something done to every output
// ("none" here), for its compiler; it has no C++ header.
using Scalars = c10::List<std::optional<at::Scalar>>;
using LinearOperator = at::Tensor(const at::Tensor& x, const at::Tensor& weight,
                                  const std::optional<at::Tensor>& bias,
                                  std::string_view attribute, Scalars scalars,
                                  std::optional<std::string_view> algorithm);

std::optional<c10::TypedOperatorHandle<LinearOperator>> find_onednn() {
  const auto found = c10::Dispatcher::singleton().findSchema(
      {"mkldnn::_linear_pointwise", ""});
  if (!found || !found->hasKernelForDispatchKey(c10::DispatchKey::CPU))
    return std::nullopt;
  try {
    return found->typed<LinearOperator>();
  } catch (const c10::Error&) {
    return std::nullopt;  // a libtorch in which it takes something else
  }
}

const std::optional<c10::TypedOperatorHandle<LinearOperator>>& onednn() {
  static const auto handle = find_onednn();
  return handle;
}

at::Tensor product(const at::Tensor& x, const at::Tensor& weight,
                   const std::optional<at::Tensor>& bias = std::nullopt) {
  return onednn()->call(x, weight, bias, "none", Scalars(), "");
}

bool is_usable() { return onednn() && at::globalContext().userEnabledMkldnn(); }

bool takes(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.numel() > 0;
}

// y = x w', so dL/dx = g w and dL/dw = g' x.
struct DenseProduct : autograd::Function<DenseProduct> {
  static at::Tensor forward(autograd::AutogradContext* context,
                            const at::Tensor& x, const at::Tensor& weight) {
    context->save_for_backward({x, weight});
    return product(x, weight);
  }

  static variable_list backward(autograd::AutogradContext* context,
                                const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& g = gradients[0];
    variable_list out(2);
    if (context->needs_input_grad(0)) out[0] = product(g, saved[1].t());
    if (context->needs_input_grad(1))
      out[1] = product(g.flatten(0, -2).t(), saved[0].flatten(0, -2).t());
    return out;
  }
};

}  // namespace

at::Tensor dense_product(const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& bias) {
  if (!is_usable() || !takes(x) || !takes(weight) ||
      (bias.defined() && !takes(bias)) || x.dim() < 2)
    return at::linear(x, weight, bias);
  if (needs_gradient(x) || needs_gradient(weight)) {
    const at::Tensor y = DenseProduct::apply(x, weight);
    return bias.defined() ? y + bias : y;
  }
  if (bias.defined() && bias.requires_grad()) return product(x, weight) + bias;
  return product(
      x, weight,
      bias.defined() ? std::optional(bias) : std::optional<at::Tensor>());
}

bool has_bfloat16_product() {
  static const bool found = [] {
    const auto capabilities = at::cpu::get_cpu_capabilities();
    const auto has = [&](const char* name) {
      const auto at = capabilities.find(name);
      return at != capabilities.end() && at->second.isBool() &&
             at->second.toBool();
    };
    return has("avx512_bf16") || has("amx_bf16");
  }();
  return found && at::globalContext().userEnabledMkldnn();
}

const char* dense_product_library() {
  return is_usable() ? "oneDNN" : "libtorch";
}

}  // namespace autoglm
