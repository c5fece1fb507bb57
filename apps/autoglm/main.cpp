// autoglm: parse the command line, run one command, turn errors into a message
// and an exit code.
#include <ATen/Parallel.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <thread>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/log.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/version.h"
#include "autoglm/model/torch_guard.h"
#include "commands.h"

namespace autoglm::cli {

void Session::begin() const {
  if (!log_file.empty()) set_log_file(log_file);
  set_log_level(quiet     ? LogLevel::kError
                : verbose ? LogLevel::kDebug
                          : LogLevel::kInfo);
  set_progress_visible(!quiet);
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  at::set_num_threads(threads > 0 ? threads : std::max(1, cores));
}

namespace {

void add_common_options(CLI::App& app, Session& session) {
  app.add_option("--device", session.device, "auto, cpu, cuda or cuda:N")
      ->capture_default_str();
  app.add_option("--threads", session.threads, "CPU threads; 0: all cores")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  app.add_flag("--json", session.json,
               "print one JSON document on standard output");
  app.add_flag("-v,--verbose", session.verbose, "log more");
  app.add_flag("-q,--quiet", session.quiet, "log errors only, no progress");
  app.add_option("--log-file", session.log_file, "append the whole log to FILE")
      ->type_name("FILE");
}

void print_error(const std::string& text) {
  std::fprintf(stderr, "autoglm: error: %s\n", text.c_str());
}

// Large tensors come and go, and each time the system hands their pages over
// anew: in huge ones a pass over large matrices takes a quarter less time.
// libtorch asks for these if this is set before its first tensor
// (c10/core/impl/alloc_cpu.cpp); what the user has set stays.
void ask_for_huge_pages() { setenv("THP_MEM_ALLOC_ENABLE", "1", 0); }

int run(int argc, char** argv) {
  CLI::App app{"autoglm makes GLM language models smaller and faster.",
               "autoglm"};
  app.set_version_flag("--version", std::string("autoglm ") + version());
  app.require_subcommand(1);
  app.fallthrough();
  Session session;
  add_common_options(app, session);
  add_compress(app, session);
  add_plan(app, session);
  add_eval(app, session);
  add_verify(app, session);
  add_bench(app, session);
  add_inspect(app, session);
  add_sensitivity(app, session);
  add_generate(app, session);
  add_logits(app, session);
  add_tokenize(app, session);
  add_export(app, session);
  add_report(app, session);
  add_passes(app, session);
  add_doctor(app, session);
  for (CLI::App* command : app.get_subcommands({})) command->fallthrough();
  app.footer(
      "Exit codes: 0 fine, 1 a constraint or gate is not met, 2 usage or "
      "configuration,\n3 bad input file, 4 numeric failure, 5 out of "
      "resources, 70 internal, 130 interrupted.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {
    return app.exit(done);  // --help, --version
  } catch (const CLI::ParseError& error) {
    print_error(std::string(error.what()) + "\nRun with --help for usage.");
    return exit_code(ErrorKind::kConfig);
  }
  return session.exit_code;
}

}  // namespace
}  // namespace autoglm::cli

int main(int argc, char** argv) {
  using namespace autoglm;
  cli::ask_for_huge_pages();
  install_interrupt_handler();
  try {
    return guard_torch([&] { return cli::run(argc, argv); });
  } catch (const Error& error) {
    cli::print_error(error.what());
    return exit_code(error.kind());
  } catch (const std::exception& error) {
    cli::print_error(std::string("internal: ") + error.what());
    return exit_code(ErrorKind::kInternal);
  }
}
