// The sub-commands: one file each. Every function adds its command to the
// program; its callback puts the exit code into `Session::exit_code`.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace autoglm::cli {

/// Options common to all commands, and the outcome.
struct Session {
  std::string device = "auto";
  int threads = 0;  // 0: all cores
  bool json = false;
  bool verbose = false;
  bool quiet = false;
  std::string log_file;
  int exit_code = 0;

  /// Applies threads and log settings; every callback calls it first.
  void begin() const;
};

void add_compress(CLI::App& app, Session& session);
void add_plan(CLI::App& app, Session& session);
void add_eval(CLI::App& app, Session& session);
void add_verify(CLI::App& app, Session& session);
void add_bench(CLI::App& app, Session& session);
void add_inspect(CLI::App& app, Session& session);
void add_sensitivity(CLI::App& app, Session& session);
void add_generate(CLI::App& app, Session& session);
void add_logits(CLI::App& app, Session& session);
void add_tokenize(CLI::App& app, Session& session);
void add_export(CLI::App& app, Session& session);
void add_report(CLI::App& app, Session& session);
void add_passes(CLI::App& app, Session& session);
void add_doctor(CLI::App& app, Session& session);

}  // namespace autoglm::cli
