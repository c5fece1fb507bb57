// autoglm bench --profile: where the time of a step goes.
#include "autoglm/core/text.h"
#include "autoglm/eval/profile.h"
#include "bench.h"
#include "print.h"

namespace autoglm::cli {

void bench_profile(const BenchOptions& options, Subjects subjects,
                   const LatencyOptions& at, const Session& session) {
  LatencyOptions where = at;
  Json json = Json::array();
  std::string text;
  for (std::size_t i = 0; i < subjects.models.size(); ++i) {
    const Model model = to_compute(std::move(subjects.models[i]), where.device,
                                   where.dtype, where.product);
    for (const LatencyPoint& point : bench_points(options)) {
      static_cast<LatencyPoint&>(where) = point;
      for (const Profile& one : profile(model, where)) {
        json.push_back(autoglm::to_json(one));
        json.back()["model"] = subjects.names[i];
        TextTable table({"part", "ms", "share"});
        for (const PartTime& part : one.parts)
          table.add_row(
              {part.part, fmt::format("{:.4f}", part.ms),
               fmt::format("{:.1f} %", 100 * part.ms / one.sum_ms())});
        text += fmt::format(
            "{}{}: {}, batch {}, {} tokens; sum {:.4f} ms, the step without "
            "clocks {:.4f} ms ({:+.1f} %)\n\n{}",
            text.empty() ? "" : "\n", subjects.names[i], one.phase, one.batch,
            one.prompt, one.sum_ms(), one.step_ms,
            100 * (one.sum_ms() / one.step_ms - 1), table.text());
      }
    }
  }
  if (session.json) return print_json(json);
  print(text);
}

}  // namespace autoglm::cli
