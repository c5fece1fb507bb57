#include "pipeline/workspace.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"
#include "autoglm/core/log.h"
#include "autoglm/core/text.h"
#include "autoglm/model/checkpoint.h"

namespace autoglm {

namespace fs = std::filesystem;

Workspace::Workspace(fs::path output, std::string key, bool fresh)
    : key_(std::move(key)) {
  if (!output.has_filename()) output = output.parent_path();
  folder_ = output.string() + ".partial";
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error)
    fail(ErrorKind::kResources, fmt::format("cannot make the folder {}: {}",
                                            folder_.string(), error.message()));
  lock_ = open((folder_ / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock_ < 0 || flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    if (lock_ >= 0) close(lock_);
    fail(ErrorKind::kConfig,
         fmt::format("another run is writing {}; wait for it or choose "
                     "another output",
                     output.string()));
  }
  if (!fresh) read_state();
  if (finished_.empty())  // nothing usable: start clean, keep the lock
    for (const auto& entry : fs::directory_iterator(folder_))
      if (entry.path().filename() != "lock") fs::remove_all(entry.path());
}

Workspace::~Workspace() {
  std::error_code ignored;
  if (finished_.empty())
    fs::remove_all(folder_, ignored);
  else
    fs::remove_all(staging(), ignored);
  if (lock_ >= 0) close(lock_);
}

void Workspace::read_state() {
  const fs::path file = folder_ / "state.json";
  if (!fs::exists(file)) return;
  try {
    const Json state = read_json(file);
    if (json_string(state, "key", file.string()) != key_) {
      log_info(
          "an unfinished run in {} belongs to another recipe or input; "
          "starting anew",
          folder_.string());
      return;
    }
    std::vector<StepRecord> steps;
    for (const Json& step : state.at("steps"))
      steps.push_back(step_from_json(step, file.string()));
    if (fs::exists(snapshot(steps.size()) / "config.json"))
      finished_ = std::move(steps);
  } catch (const std::exception& unreadable) {
    log_warning("the unfinished run in {} cannot be read ({}); starting anew",
                folder_.string(), unreadable.what());
  }
}

fs::path Workspace::snapshot(std::size_t steps) const {
  return folder_ / fmt::format("after-{}", steps);
}

Model Workspace::load_snapshot(const fs::path& source) const {
  AUTOGLM_ENSURE(!finished_.empty());
  Model model = read_checkpoint(snapshot(finished_.size()));
  model.source = source;
  return model;
}

void Workspace::save_snapshot(const Model& model, StepRecord step) {
  const fs::path target = snapshot(finished_.size() + 1);
  StagedFolder staged(target, target.string() + ".tmp");
  write_checkpoint(model, staged.path());
  staged.commit();
  finished_.push_back(std::move(step));
  Json state = {{"key", key_}, {"steps", Json::array()}};
  for (const StepRecord& done : finished_)
    state["steps"].push_back(to_json(done));
  write_file_atomically(folder_ / "state.json", to_text(state));
  // The state names the new snapshot from here on; the older one is waste.
  std::error_code ignored;
  fs::remove_all(snapshot(finished_.size() - 1), ignored);
}

}  // namespace autoglm
