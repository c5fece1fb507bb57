#include "autoglm/pipeline/text_data.h"

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/text.h"
#include "autoglm/model/checkpoint.h"

namespace autoglm {

namespace fs = std::filesystem;

fs::path shipped_text(const std::string& name) {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const std::string file = name + ".txt";
  const fs::path installed =
      program.parent_path().parent_path() / "share/autoglm/data" / file;
  for (const fs::path& path : {installed, fs::path(AUTOGLM_DATA_DIR) / file})
    if (fs::is_regular_file(path)) return path;
  fail(ErrorKind::kInput,
       fmt::format("the {0} text that comes with autoglm is not installed "
                   "({1}); name a text file of your own",
                   name, installed.string()));
}

Model load_model(const fs::path& folder) {
  Model model = read_checkpoint(folder);
  if (!model.architecture.two_dimensional() || !Tokenizer::exists(folder))
    return model;
  if (const auto blank = Tokenizer::load(folder).blank_tokens()) {
    BlankIds& ids = model.architecture.blank;
    ids = {};
    ids.start = blank->start;
    for (const auto& group : blank->masks)
      ids.masks.emplace_back(group.begin(), group.end());
  }
  return model;
}

Tokenizer load_tokenizer(const Model& model) {
  if (!Tokenizer::exists(model.source))
    fail(ErrorKind::kInput,
         fmt::format("{}: no tokenizer file; text cannot be read for this "
                     "checkpoint",
                     model.source.string()));
  return Tokenizer::load(model.source);
}

namespace {

// A model that has learned its positions one by one reads no further than they
// go.
std::int64_t window_length(const Model& model, std::size_t prefix,
                           const DataSource& source) {
  const std::int64_t rows = model.architecture.position_rows;
  // The row of position 0 of the second dimension belongs to no text token.
  const std::int64_t longest = rows - static_cast<std::int64_t>(prefix) - 1;
  if (rows == 0 || source.length <= longest) return source.length;
  if (longest < 1)
    fail(ErrorKind::kInput,
         fmt::format("{}: {} positions leave no room for a text",
                     model.source.string(), rows));
  log_warning(
      "{}: windows of {} tokens instead of {}; the model has {} "
      "positions",
      source.file.string(), longest, source.length, rows);
  return longest;
}

}  // namespace

TokenWindows load_windows(const Model& model, const DataSource& source,
                          Pick pick) {
  if (!Tokenizer::exists(model.source)) {
    log_warning(
        "{}: no tokenizer file; every byte of {} is taken for a token. That "
        "compares models with each other and says nothing about language",
        model.source.string(), source.file.string());
    return make_byte_windows(model.architecture.vocabulary, source.file,
                             source.windows, window_length(model, 0, source),
                             pick);
  }
  const Tokenizer tokenizer = load_tokenizer(model);
  TokenWindows windows = make_windows(
      tokenizer, source.file, source.windows,
      window_length(model, tokenizer.prefix().size(), source), pick);
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
