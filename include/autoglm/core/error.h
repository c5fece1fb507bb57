// The one exception type of autoglm. An Error carries a kind (which fixes the
// program's exit code), a message that says where, what was found and what was
// expected, and context lines added while it travels outwards.
#pragma once

#include <exception>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace autoglm {

enum class ErrorKind {
  kGate,         // ran, but a constraint is not met          exit 1
  kConfig,       // wrong command line or configuration       exit 2
  kInput,        // a bad or missing input file               exit 3
  kNumeric,      // non-finite or diverged numbers            exit 4
  kResources,    // out of memory or disk                     exit 5
  kInternal,     // our bug                                   exit 70
  kInterrupted,  // Ctrl-C                                    exit 130
};

/// The process exit code of an error kind (DESIGN, "The command line").
int exit_code(ErrorKind kind);

class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string message);

  ErrorKind kind() const { return kind_; }
  const std::string& message() const { return message_; }
  const std::vector<std::string>& context() const { return context_; }
  void add_context(std::string line);

  /// The message, then one indented line per context, innermost first.
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  ErrorKind kind_;
  std::string message_;
  std::vector<std::string> context_;
  std::string text_;
};

[[noreturn]] void fail(ErrorKind kind, std::string message);

/// Runs `body`; an Error that leaves it gains the line `frame()`, which is
/// computed only then.
template <class Frame, class Body>
auto with_context(Frame&& frame, Body&& body) -> decltype(body()) {
  try {
    return std::forward<Body>(body)();
  } catch (Error& error) {
    error.add_context(frame());
    throw;
  }
}

[[noreturn]] void fail_ensure(const char* condition, std::source_location at);

}  // namespace autoglm

/// Checks what we ourselves promised; always on; throws kInternal.
#define AUTOGLM_ENSURE(condition)                                          \
  do {                                                                     \
    if (!(condition))                                                      \
      ::autoglm::fail_ensure(#condition, std::source_location::current()); \
  } while (false)
