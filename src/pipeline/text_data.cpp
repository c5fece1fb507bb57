#include "autoglm/pipeline/text_data.h"

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

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

Tokenizer load_tokenizer(const Model& model) {
  if (!fs::exists(model.source / "tokenizer.json"))
    fail(ErrorKind::kInput,
         fmt::format("{}: no tokenizer.json; text cannot be read for this "
                     "checkpoint",
                     model.source.string()));
  return Tokenizer::load(model.source);
}

TokenWindows load_windows(const Model& model, const DataSource& source) {
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
