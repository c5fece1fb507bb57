#include "autoglm/core/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::info;
}

spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    sink->set_level(spdlog::level::info);
    spdlog::logger made("autoglm", sink);
    made.set_level(spdlog::level::debug);
    made.set_pattern("%H:%M:%S %l: %v");
    made.flush_on(spdlog::level::info);
    return made;
  }();
  return instance;
}

}  // namespace

void set_log_level(LogLevel level) {
  logger().sinks().front()->set_level(spdlog_level(level));
}

void set_log_file(const std::filesystem::path& file) {
  try {
    auto sink =
        std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string());
    sink->set_level(spdlog::level::debug);
    sink->set_pattern("%Y-%m-%d %H:%M:%S %l: %v");
    logger().sinks().push_back(std::move(sink));
  } catch (const spdlog::spdlog_ex& error) {
    fail(ErrorKind::kResources, fmt::format("cannot write the log file {}: {}",
                                            file.string(), error.what()));
  }
}

void log_message(LogLevel level, std::string_view message) {
  logger().log(spdlog_level(level), message);
}

}  // namespace autoglm
