#include "print.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm::cli {
namespace {

std::string ratio(double after, double before) {
  return before > 0 ? fmt::format("{:.1f} %", 100 * after / before) : "-";
}

void add_latency(TextTable& table, const char* name, const LatencyPhase& before,
                 const LatencyPhase& after) {
  const std::string label =
      after.simulated ? fmt::format("{} (simulated)", name) : name;
  table.add_row({label, fmt::format("{:.3f} ms", before.median_ms),
                 fmt::format("{:.3f} ms", after.median_ms),
                 after.simulated ? "-"
                                 : ratio(after.median_ms, before.median_ms)});
}

}  // namespace

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
      std::fflush(stdout) != 0)
    fail(ErrorKind::kResources,
         fmt::format("cannot write to standard output: {}",
                     std::strerror(errno)));
}

void print_json(const Json& json) { print(to_text(json)); }

std::string comparison_table(const Record& record) {
  TextTable table({"", "before", "after", "after / before"});
  const ModelRecord& before = record.before;
  const ModelRecord& after = record.after.value();
  const auto size = [&](const char* name, std::uint64_t a, std::uint64_t b,
                        auto&& format) {
    table.add_row({name, format(a), format(b),
                   ratio(static_cast<double>(b), static_cast<double>(a))});
  };
  size("parameters", before.parameters, after.parameters, format_count);
  size("weights", before.weight_bytes, after.weight_bytes, format_bytes);
  size("on disk", before.disk_bytes, after.disk_bytes, format_bytes);
  if (before.scorecard && after.scorecard) {
    const Scorecard& b = *before.scorecard;
    const Scorecard& a = *after.scorecard;
    table.add_row({"perplexity", fmt::format("{:.3f}", b.perplexity),
                   fmt::format("{:.3f}", a.perplexity),
                   ratio(a.perplexity, b.perplexity)});
    table.add_row({"bits per byte", fmt::format("{:.4f}", b.bits_per_byte),
                   fmt::format("{:.4f}", a.bits_per_byte),
                   ratio(a.bits_per_byte, b.bits_per_byte)});
    table.add_row({"accuracy", fmt::format("{:.2f} %", 100 * b.accuracy),
                   fmt::format("{:.2f} %", 100 * a.accuracy),
                   ratio(a.accuracy, b.accuracy)});
    if (a.divergence) {
      table.add_row({"KL (nats)", "0", fmt::format("{:.3g}", a.divergence->kl),
                     "-"});
      table.add_row({"top-1 agreement", "100 %",
                     fmt::format("{:.2f} %", 100 * a.divergence->top1_agreement),
                     "-"});
    }
  }
  if (before.latency && after.latency) {
    add_latency(table, "prefill", before.latency->prefill,
                after.latency->prefill);
    add_latency(table, "decode per token", before.latency->decode,
                after.latency->decode);
  }
  return table.text();
}

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
