// What a report says, before it is HTML or Markdown: the same rows and words
// for both.
#pragma once

#include <string>
#include <vector>

#include "autoglm/pipeline/record.h"
#include "report/numbers.h"

namespace autoglm::report {

/// One measure before and after. Texts carry their units.
struct Comparison {
  std::string group;    // "Size", "Quality", "Latency"
  std::string measure;  // "perplexity"
  std::string better;   // "lower", "higher"
  std::string before, after;
  std::string change;      // "-85.7 %", "1.9x faster", "simulated"
  int verdict = 0;         // 1 better, -1 worse, 0 neither or not to be judged
  bool simulated = false;  // `after` is no measurement of a real kernel
};

/// The last state of the model that the record knows: the output, or of a run
/// that stopped the model after its last finished step. Null pointer if no
/// step finished.
const ModelRecord* last_state(const Record& record);

/// "after", or "after step 2 of 3" for a run that stopped.
std::string last_state_name(const Record& record);

/// All measures that both sides have. Measures against the original itself
/// (KL, agreement) have the values they take by definition as baseline.
std::vector<Comparison> compare(const Record& record);

/// One line on the text the quality was measured on; empty without one.
std::string evaluation_note(const Record& record);

/// A constraint in words.
struct Verdict {
  std::string measure, limit, measured, margin;  // "by 0.008 (0.8 %)"
  double use = 0;  // measured / bound, for at-most; inverse for at-least
  bool met = false;
};
Verdict judge(const ConstraintRecord& constraint);

/// "passes 1 to 3", the state of the run in one sentence.
std::string status_sentence(const Record& record);

/// Rows "input", "seed", "hardware" ... of where the numbers come from.
std::vector<std::pair<std::string, std::string>> provenance(
    const Record& record);

/// The resolved configuration as YAML text; empty without one.
std::string resolved_yaml(const Record& record);

/// All that was measured of latency, one row per phase and model; the first
/// row is the header. Empty when one side was not measured.
std::vector<std::vector<std::string>> latency_table(const Record& record);

/// True if no speed-up may be claimed between the two.
bool simulated(const LatencyPhase& before, const LatencyPhase& after);
/// "1.9x faster", "1.2x slower", "same"; "simulated" if it must not be said.
std::string speed(const LatencyPhase& before, const LatencyPhase& after);

}  // namespace autoglm::report
