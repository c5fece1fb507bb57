#include "autoglm/pipeline/text_data.h"

#include "autoglm/core/log.h"
#include "autoglm/core/progress.h"
#include "autoglm/model/generate.h"

namespace autoglm {
namespace {

bool has_tokenizer(const Model& model) {
  return std::filesystem::exists(model.source / "tokenizer.json");
}

// Samples windows in batches. A model without a tokenizer (a bare test
// checkpoint) starts from a random token, as there is no known prefix.
TokenWindows generate_windows(const Model& model, const DataSource& source,
                              std::uint64_t seed, at::Device device) {
  log_info("no text file is named: {} windows of {} tokens are sampled from "
           "the model itself",
           source.windows, source.length);
  TokenWindows out;
  out.source = "self-generated";
  out.length = source.length;
  std::optional<Tokenizer> tokenizer;
  if (has_tokenizer(model)) {
    tokenizer = load_tokenizer(model);
    out.prefix = tokenizer->prefix();
  }
  const Model compute = to_compute(model, device, at::kFloat);
  Rng rng(derive_seed(seed, "self-generated text"));
  constexpr std::int64_t kBatch = 32;
  const std::int64_t lead =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(out.prefix.size()));
  Progress progress("sampling text", source.windows * source.length, "tokens");
  for (std::int64_t done = 0; done < source.windows; done += kBatch) {
    const std::int64_t batch = std::min(kBatch, source.windows - done);
    at::Tensor ids = at::empty({batch, lead}, at::kLong);
    auto access = ids.accessor<std::int64_t, 2>();
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t p = 0; p < lead; ++p)
        access[b][p] =
            out.prefix.empty()
                ? static_cast<std::int64_t>(rng.below(
                      static_cast<std::uint64_t>(model.architecture.vocabulary)))
                : out.prefix[static_cast<std::size_t>(p)];
    GenerateOptions options;
    options.max_tokens = source.length;
    options.temperature = 1;
    options.stop_at_end = false;
    options.on_token = [&](const at::Tensor&) {
      progress.step(batch);
      return true;
    };
    const at::Tensor text =
        generate(compute, ids.to(device), options, &rng)
            .narrow(1, lead, source.length)
            .to(at::kCPU, at::kInt)
            .contiguous();
    for (std::int64_t b = 0; b < batch; ++b) {
      const std::int32_t* row = text.data_ptr<std::int32_t>() + b * source.length;
      out.windows.emplace_back(row, row + source.length);
      if (tokenizer)
        for (const TokenId id : out.windows.back())
          out.text_bytes += tokenizer->token_bytes(id);
    }
  }
  return out;
}

}  // namespace

Tokenizer load_tokenizer(const Model& model) {
  if (!has_tokenizer(model))
    fail(ErrorKind::kInput,
         fmt::format("{}: no tokenizer.json; text cannot be read for this "
                     "checkpoint",
                     model.source.string()));
  return Tokenizer::load(model.source);
}

TokenWindows load_windows(const Model& model, const DataSource& source,
                          std::uint64_t seed, at::Device device) {
  if (source.file.empty()) return generate_windows(model, source, seed, device);
  TokenWindows windows = make_windows(load_tokenizer(model), source.file,
                                      source.windows, source.length);
  for (const auto& window : windows.windows)
    for (const TokenId id : window)
      if (id >= model.architecture.vocabulary)
        fail(ErrorKind::kInput,
             fmt::format("{}: token {} of the tokenizer has no row in the "
                         "embedding table ({} rows)",
                         model.source.string(), id,
                         model.architecture.vocabulary));
  return windows;
}

}  // namespace autoglm
