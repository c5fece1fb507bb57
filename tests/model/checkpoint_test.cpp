// Broken checkpoints, and whole ones read and written again.
#include "autoglm/model/checkpoint.h"

#include <ATen/core/grad_mode.h>
#include <unistd.h>

#include "tests/model/checkpoint_files.h"
#include "tests/model/golden.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

namespace fs = std::filesystem;
const fs::path kBroken = test::kGolden / "broken";

// What the process prints on stdout while `body` runs, children included.
template <class Body>
std::string printed(Body&& body) {
  const TemporaryFolder folder;
  std::fflush(stdout);
  const int saved = dup(STDOUT_FILENO);
  REQUIRE(std::freopen((folder / "out").c_str(), "w", stdout) != nullptr);
  body();
  std::fflush(stdout);
  dup2(saved, STDOUT_FILENO);
  close(saved);
  return read_file(folder / "out");
}

}  // namespace

TEST_CASE("checkpoint: every damaged one is refused with what is wrong") {
  set_log_level(LogLevel::kOff);
  int seen = 0;
  for (const Json& entry : read_json(kBroken / "expect.json")) {
    const std::string name = entry["dir"].get<std::string>();
    fs::path broken = kBroken / name;
    const TemporaryFolder empty;
    if (name == "15_empty_directory") broken = empty.path();  // not in git
    INFO(name);
    ++seen;
    if (!entry["must_fail"].get<bool>()) continue;
    const std::string text =
        error_of(ErrorKind::kInput, [&] { read_checkpoint(broken); });
    for (const Json& word : entry["mention"])
      CHECK(text.find(word.get<std::string>()) != std::string::npos);
  }
  CHECK(seen == 25);
  CHECK(error_of(ErrorKind::kInput, [] {
          read_checkpoint("no/such/folder");
        }) == "no/such/folder: no such checkpoint folder");
}

TEST_CASE("checkpoint: of the damaged ones three load, one with a warning") {
  CHECK(test::logged([] { read_checkpoint(kBroken / "00_valid"); }).empty());
  const std::string warning =
      test::logged([] { read_checkpoint(kBroken / "12_nan_weight"); });
  CHECK(warning.find("warning") != std::string::npos);
  CHECK(warning.find("'model.layers.0.mlp.gate_up_proj.weight' contains NaN") !=
        std::string::npos);
  // Entries of a zip are never unpacked, whatever they are called.
  const Model model = read_checkpoint(kBroken / "14_zip_path_traversal");
  CHECK(at::isfinite(forward(model, at::ones({1, 2}, at::kLong)))
            .all()
            .item<bool>());
  for (const fs::path& evil :
       {fs::path("/evil.txt"), fs::path("../evil.txt"),
        fs::path("../../evil.txt"), kBroken / "../evil.txt",
        kBroken / "../../evil.txt"})
    CHECK_FALSE(fs::exists(evil));
}

TEST_CASE("checkpoint: a pickle that calls a command runs nothing") {
  std::string text;
  const std::string out = printed([&] {
    text = error_of(ErrorKind::kInput, [] {
      read_checkpoint(kBroken / "13_pickle_runs_command");
    });
  });
  CHECK(out.empty());
  CHECK(text.find("system") != std::string::npos);
}

TEST_CASE("checkpoint: not compressed it is written back byte for byte") {
  const at::NoGradGuard no_grad;
  std::vector<fs::path> sources = {fs::path(AUTOGLM_SOURCE_DIR) /
                                   "examples/glm-books"};
  for (const std::string& name : test::golden_names())
    sources.push_back(test::kGolden / name);
  for (const fs::path& source : sources) {
    INFO(source.filename().string());
    const TemporaryFolder folder;
    test::logged([&] {
      const Model model = read_checkpoint(source);
      write_checkpoint(model, folder.path());
      test::check_same_model(model, read_checkpoint(folder.path()));
    });
    CHECK(read_file(folder / "config.json") ==
          read_file(source / "config.json"));
    test::check_same_tensors(test::stored_tensors(source),
                             test::stored_tensors(folder.path()));
    for (const auto& entry : fs::directory_iterator(source)) {
      const std::string name = entry.path().filename();
      if (entry.path().extension() == ".json" &&
          name.find(".index.json") == std::string::npos)
        CHECK(read_file(entry.path()) == read_file(folder / name));
    }
  }
}

TEST_CASE("checkpoint: a model of every family comes back from its files") {
  const at::NoGradGuard no_grad;
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = test::tiny_model(family);
    const TemporaryFolder folder;
    std::optional<Model> again;
    CHECK(test::logged([&] {
            write_checkpoint(model, folder.path());
            again = read_checkpoint(folder.path());
          }).empty());
    CHECK(again->extra.empty());
    CHECK(again->config == model.config);
    CHECK_NOTHROW(verify_model(*again));
    test::check_same_model(model, *again);
  }
}

TEST_CASE("checkpoint: widths that differ between layers come back") {
  const at::NoGradGuard no_grad;
  Model model = test::tiny_model("glm4_moe");
  Mlp& dense = model.blocks[0].mlp;
  for (Linear* part : {&dense.gate, &dense.up})
    part->weight = DenseWeight{at::randn({20, 32})};
  dense.down.weight = DenseWeight{at::randn({32, 20})};
  Mixture& mixture = model.blocks[1].mixture;
  mixture.experts.pop_back();
  mixture.router = mixture.router.narrow(0, 0, 3);
  mixture.correction_bias = mixture.correction_bias.narrow(0, 0, 3);
  for (Linear* part : {&mixture.shared.gate, &mixture.shared.up})
    part->weight = DenseWeight{at::randn({10, 32})};
  mixture.shared.down.weight = DenseWeight{at::randn({32, 10})};
  update_widths(model);
  CHECK_NOTHROW(verify_model(model));
  const TemporaryFolder folder;
  write_checkpoint(model, folder.path());
  const Model again = read_checkpoint(folder.path());
  CHECK((again.architecture.blocks == model.architecture.blocks));
  test::check_same_model(model, again);
}
