#include "autoglm/core/error.h"

#include "tests/support/throws.h"

using namespace autoglm;

TEST_CASE("error: kinds map to the documented exit codes") {
  CHECK(exit_code(ErrorKind::kGate) == 1);
  CHECK(exit_code(ErrorKind::kConfig) == 2);
  CHECK(exit_code(ErrorKind::kInput) == 3);
  CHECK(exit_code(ErrorKind::kNumeric) == 4);
  CHECK(exit_code(ErrorKind::kResources) == 5);
  CHECK(exit_code(ErrorKind::kInternal) == 70);
  CHECK(exit_code(ErrorKind::kInterrupted) == 130);
}

TEST_CASE("error: context lines are added on the way out, innermost first") {
  const std::string text = test::error_of(ErrorKind::kInput, [] {
    with_context([] { return "outer"; },
                 [] {
                   with_context([] { return "inner"; },
                                [] { fail(ErrorKind::kInput, "bad"); });
                 });
  });
  CHECK(text == "bad\n  inner\n  outer");
}

TEST_CASE("error: the context is not computed when nothing fails") {
  bool asked = false;
  const int value = with_context(
      [&] {
        asked = true;
        return std::string();
      },
      [] { return 7; });
  CHECK(value == 7);
  CHECK_FALSE(asked);
}

TEST_CASE("error: a broken promise of our own is internal and names the line") {
  const std::string text =
      test::error_of(ErrorKind::kInternal, [] { AUTOGLM_ENSURE(1 > 2); });
  CHECK(text.find("1 > 2 (error_test.cpp:") != std::string::npos);
}
