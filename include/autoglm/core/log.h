// The log: one line per event on stderr, and in a file when asked for. The
// library logs and never prints; results are for apps/ to print on stdout.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "autoglm/core/text.h"

namespace autoglm {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

/// Sets what reaches stderr. The log file, if any, gets everything.
void set_log_level(LogLevel level);
void set_log_file(const std::filesystem::path& file);

void log_message(LogLevel level, std::string_view message);

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::kDebug,
              fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::kInfo,
              fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::kWarning,
              fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace autoglm
