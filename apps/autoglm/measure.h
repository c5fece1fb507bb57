// What eval, verify and bench share: which text, which windows.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "autoglm/model/model.h"
#include "autoglm/text/corpus.h"
#include "commands.h"

namespace autoglm::cli {

/// --data --windows --length; the text that comes with autoglm by default.
struct TextOptions {
  std::string data;
  std::int64_t windows = 200;
  std::int64_t length = 256;
};

void add_text_options(CLI::App& command, TextOptions& options);
TokenWindows text_windows(const Model& model, const TextOptions& options);

}  // namespace autoglm::cli
