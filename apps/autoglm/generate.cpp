// autoglm generate: continue a text.
#include "autoglm/model/generate.h"

#include <memory>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/pipeline/text_data.h"
#include "commands.h"
#include "print.h"

namespace autoglm::cli {
namespace {

struct Options {
  std::string model, prompt;
  std::int64_t tokens = 64;
  double temperature = 0;
  std::uint64_t seed = 0;
  bool exact = false;
};

void generate_text(const Options& options, const Session& session) {
  session.begin();
  const at::Device device = choose_device(session.device);
  Model model = load_model(options.model);
  const Tokenizer tokenizer = load_tokenizer(model);
  const std::vector<TokenId> ids = tokenizer.prompt(options.prompt);
  if (ids.empty())
    fail(ErrorKind::kConfig,
         "--prompt is empty and this model has no prefix tokens to start from");
  // A GPU's kernels read caches of 16 bits.
  const at::ScalarType dtype = device.is_cuda() ? at::kBFloat16 : at::kFloat;
  const Model compute = to_compute(
      std::move(model), device, dtype,
      options.exact ? QuantizedProduct::kExact : QuantizedProduct::kInteger);

  GenerateOptions generation;
  generation.dtype = dtype;
  generation.max_tokens = options.tokens;
  generation.temperature = options.temperature;
  std::vector<TokenId> text_ids(ids);
  // Text appears as it is made; a character whose bytes are not complete yet
  // decodes to U+FFFD and waits for the next token.
  std::string shown = tokenizer.decode(text_ids, true);
  if (!session.json) print(shown);
  generation.on_token = [&](const at::Tensor& column) {
    text_ids.push_back(static_cast<TokenId>(column.item<std::int64_t>()));
    if (session.json) return true;
    const std::string all = tokenizer.decode(text_ids, true);
    if (all.size() >= shown.size() && !all.ends_with("\uFFFD")) {
      print(std::string_view(all).substr(shown.size()));
      shown = all;
    }
    return true;
  };
  Rng rng(derive_seed(options.seed, "generate"));
  const at::Tensor start =
      at::tensor(std::vector<std::int64_t>(ids.begin(), ids.end()), at::kLong)
          .unsqueeze(0)
          .to(device);
  generate(compute, start, generation, &rng);
  if (session.json)
    print_json({{"prompt_tokens", ids.size()},
                {"ids", text_ids},
                {"text", tokenizer.decode(text_ids, true)}});
  else
    print("\n");
}

}  // namespace

void add_generate(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("generate", "continue a text");
  auto options = std::make_shared<Options>();
  command->add_option("model", options->model, "checkpoint folder")
      ->required()
      ->type_name("MODEL");
  command->add_option("--prompt", options->prompt, "text to continue")
      ->required()
      ->type_name("TEXT");
  command->add_option("--tokens", options->tokens, "at most so many new tokens")
      ->check(CLI::Range(1, 10000000))
      ->capture_default_str();
  command->add_option("--temperature", options->temperature, "0: greedy")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "for a temperature above 0")
      ->capture_default_str();
  command->add_flag("--exact", options->exact,
                    "products with quantized matrices leave activations as "
                    "they are; without it they are rounded to 8 bits (CPU)");
  command->callback([options, &session] { generate_text(*options, session); });
}

}  // namespace autoglm::cli
