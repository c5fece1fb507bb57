#include "print.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm::cli {

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
      std::fflush(stdout) != 0)
    fail(ErrorKind::kResources,
         fmt::format("cannot write to standard output: {}",
                     std::strerror(errno)));
}

void print_json(const Json& json) { print(to_text(json)); }

std::string scorecard_text(const Scorecard& s) {
  TextTable table({"measure", "value"});
  const auto add = [&](const char* name, std::string value) {
    table.add_row({name, std::move(value)});
  };
  add("tokens", std::to_string(s.tokens));
  add("perplexity", fmt::format("{:.4f}", s.perplexity));
  add("bits_per_byte", fmt::format("{:.5f}", s.bits_per_byte));
  add("accuracy", fmt::format("{:.5f}", s.accuracy));
  if (s.divergence) {
    const Divergence& d = *s.divergence;
    add("accuracy_retention", fmt::format("{:.5f}", d.accuracy_retention));
    add("kl", fmt::format("{:.4e}", d.kl));
    add("kl_p99", fmt::format("{:.4e}", d.kl_p99));
    add("top1_agreement", fmt::format("{:.5f}", d.top1_agreement));
    add("cosine", fmt::format("{:.6f}", d.cosine));
    add("l2", fmt::format("{:.4e}", d.l2));
  }
  return fmt::format("{}: {} windows of {} tokens\n", s.data, s.windows,
                     s.length) +
         table.text();
}

}  // namespace autoglm::cli
