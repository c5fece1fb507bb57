// The command line of the programs in bench/, read by CLI11.
#pragma once

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

namespace autoglm::bench {

/// An option that takes one list, a,b,c.
template <class T>
CLI::Option* add_list(CLI::App& app, const std::string& name,
                      std::vector<T>& values, const std::string& help) {
  return app.add_option(name, values, help)
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
}

/// Reads the command line into what `app` was told, then does the work. The
/// exit code: 2 for a wrong command line, 1 where the work throws, said on
/// standard error.
inline int run_program(CLI::App& app, int count, char** words,
                       const std::function<void()>& work) {
  try {
    app.parse(count, words);
    work();
    return 0;
  } catch (const CLI::ParseError& error) {  // --help is one, with code 0
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", app.get_name(), error.what());
    return 1;
  }
}

}  // namespace autoglm::bench
