#include "autoglm/core/error.h"

#include <fmt/format.h>

namespace autoglm {

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kGate:
      return 1;
    case ErrorKind::kConfig:
      return 2;
    case ErrorKind::kInput:
      return 3;
    case ErrorKind::kNumeric:
      return 4;
    case ErrorKind::kResources:
      return 5;
    case ErrorKind::kInternal:
      return 70;
    case ErrorKind::kInterrupted:
      return 130;
  }
  return 70;
}

Error::Error(ErrorKind kind, std::string message)
    : kind_(kind), message_(std::move(message)), text_(message_) {}

void Error::add_context(std::string line) {
  text_ += "\n  " + line;
  context_.push_back(std::move(line));
}

void fail(ErrorKind kind, std::string message) {
  throw Error(kind, std::move(message));
}

void fail_ensure(const char* condition, std::source_location at) {
  // The file's own name is enough to find it; the build folder says nothing.
  const std::string_view file = at.file_name();
  fail(ErrorKind::kInternal,
       fmt::format(
           "internal check failed: {} ({}:{}); this is a bug in autoglm",
           condition, file.substr(file.find_last_of('/') + 1), at.line()));
}

}  // namespace autoglm
