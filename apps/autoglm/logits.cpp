// autoglm logits: the raw forward pass, file to file, for parity checks.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <memory>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/formats/safetensors.h"
#include "autoglm/model/checkpoint.h"
#include "autoglm/model/forward.h"
#include "commands.h"
#include "print.h"

namespace autoglm::cli {
namespace {

struct Options {
  std::string model, input, output;
  bool hidden = false;
};

using Shape = std::vector<std::int64_t>;

at::Tensor optional_input(const TensorFolder& input, const char* name,
                          const std::vector<Shape>& shapes,
                          const std::string& file) {
  if (!input.contains(name)) return {};
  const at::Tensor tensor = input.tensor(name);
  const bool fits = std::find(shapes.begin(), shapes.end(),
                              tensor.sizes().vec()) != shapes.end();
  if (!fits || !at::isIntegralType(tensor.scalar_type(), true)) {
    std::vector<std::string> texts;
    for (const Shape& shape : shapes)
      texts.push_back(fmt::format("[{}]", fmt::join(shape, ", ")));
    fail(ErrorKind::kInput, fmt::format("{}: {} must be integers {}", file,
                                        name, fmt::join(texts, " or ")));
  }
  return tensor.to(at::kLong);
}

void logits(const Options& options, const Session& session) {
  session.begin();
  const at::Device device = choose_device(session.device);
  const TensorFolder input = TensorFolder::open_file(options.input);
  if (!input.contains("input_ids"))
    fail(ErrorKind::kInput, options.input + ": no tensor input_ids");
  const at::Tensor ids = input.tensor("input_ids");
  if (ids.dim() != 2 || ids.numel() == 0 ||
      !at::isIntegralType(ids.scalar_type(), false))
    fail(ErrorKind::kInput,
         options.input + ": input_ids must be integers [B, T]");
  // Each matrix becomes fp32 when its turn comes: a second copy of the whole
  // model would serve one pass only.
  const Model model = to_device(read_checkpoint(options.model), device);
  const std::int64_t largest = ids.max().item<std::int64_t>();
  if (largest >= model.architecture.vocabulary ||
      ids.min().item<std::int64_t>() < 0)
    fail(ErrorKind::kInput,
         fmt::format("{}: input_ids must lie in 0 .. {}", options.input,
                     model.architecture.vocabulary - 1));
  ForwardOptions forward_options;
  const std::int64_t batch = ids.size(0), tokens = ids.size(1);
  std::vector<Shape> position_shapes = {{batch, tokens}};
  if (model.architecture.two_dimensional())
    position_shapes.push_back({batch, 2, tokens});
  forward_options.mask = optional_input(
      input, "attention_mask", {{batch, tokens}, {batch, 1, tokens, tokens}},
      options.input);
  forward_options.positions =
      optional_input(input, "position_ids", position_shapes, options.input);
  for (at::Tensor* tensor : {&forward_options.mask, &forward_options.positions})
    if (tensor->defined()) *tensor = tensor->to(device);
  std::vector<std::pair<std::string, at::Tensor>> out;
  if (options.hidden)
    forward_options.on_hidden = [&](const at::Tensor& x) {
      out.emplace_back(fmt::format("hidden.{}", out.size()),
                       x.to(at::kCPU, at::kFloat));
    };
  const at::NoGradGuard no_grad;
  const at::Tensor result =
      forward(model, ids.to(at::kLong).to(device), forward_options);
  out.emplace_back("logits", result.to(at::kCPU, at::kFloat));
  write_safetensors(options.output, out);
  if (session.json)
    print_json({{"output", options.output},
                {"shape", {result.size(0), result.size(1), result.size(2)}}});
  else
    print(fmt::format("{}: logits [{}, {}, {}]\n", options.output,
                      result.size(0), result.size(1), result.size(2)));
}

}  // namespace

void add_logits(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "logits", "raw forward pass from a safetensors file to another");
  auto options = std::make_shared<Options>();
  command->add_option("model", options->model, "checkpoint folder")
      ->required()
      ->type_name("MODEL");
  command
      ->add_option("--input", options->input,
                   "input_ids [B, T]; optional attention_mask [B, T] or "
                   "[B, 1, T, T], position_ids [B, T], of GLM 2021 and "
                   "ChatGLM-6B also [B, 2, T]")
      ->required()
      ->type_name("FILE");
  command->add_option("--output", options->output, "logits [B, T, V] fp32")
      ->required()
      ->type_name("FILE");
  command->add_flag("--hidden", options->hidden, "also hidden.0 .. hidden.L");
  command->callback([options, &session] { logits(*options, session); });
}

}  // namespace autoglm::cli
