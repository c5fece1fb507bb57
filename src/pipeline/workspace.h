// The folder of an unfinished run, `<output>.partial`: a snapshot of the model
// after the last finished pass and the records of all finished passes. A later
// run of the same recipe on the same input goes on from there.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "autoglm/model/model.h"
#include "autoglm/pipeline/record.h"

namespace autoglm {

class Workspace {
 public:
  /// `key` identifies recipe, input and program; an unfinished run with
  /// another key, or any with `fresh`, is removed. Throws kConfig when another
  /// process works there at this moment.
  Workspace(std::filesystem::path output, std::string key, bool fresh);
  /// Removes the folder unless a finished pass is kept in it.
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  /// Records of the passes that an earlier run finished.
  const std::vector<StepRecord>& finished() const { return finished_; }
  /// The model after them; call only if finished() is not empty. Files that
  /// are copied through still come from `source`.
  Model load_snapshot(const std::filesystem::path& source) const;

  /// Keeps the model after one more pass, then forgets the one before.
  void save_snapshot(const Model& model, StepRecord step);

  /// A folder inside for the final checkpoint.
  std::filesystem::path staging() const { return folder_ / "checkpoint"; }
  const std::filesystem::path& folder() const { return folder_; }
  /// Everything is in place: remove the folder in any case.
  void discard() { finished_.clear(); }

 private:
  std::filesystem::path snapshot(std::size_t steps) const;
  void read_state();

  std::filesystem::path folder_;
  std::string key_;
  int lock_ = -1;
  std::vector<StepRecord> finished_;
};

}  // namespace autoglm
