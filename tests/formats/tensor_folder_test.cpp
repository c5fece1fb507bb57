#include "autoglm/core/json.h"
#include "autoglm/formats/safetensors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

// Five tensors of 400 bytes, two to a shard of 1000.
void write_shards(const TemporaryFolder& folder) {
  TensorFolderWriter writer(folder.path(), 1000);
  for (int i = 0; i < 5; ++i)
    writer.add("t" + std::to_string(i), at::full({100}, i, at::kFloat));
  CHECK(writer.finish() == 2000);
}

}  // namespace

TEST_CASE("tensor folder: shards and index read back as one") {
  const TemporaryFolder folder;
  write_shards(folder);
  const TensorFolder read = TensorFolder::open(folder.path());
  CHECK(read.shards().size() == 3);
  CHECK(read.names().size() == 5);
  for (int i = 0; i < 5; ++i)
    CHECK(read.tensor("t" + std::to_string(i)).sum().item<double>() ==
          100.0 * i);
  CHECK(read_json(folder /
                  "model.safetensors.index.json")["metadata"]["total_size"] ==
        2000);
}

TEST_CASE("tensor folder: one shard needs no index; a group stays together") {
  const TemporaryFolder folder;
  TensorFolderWriter writer(folder.path(), 1000);
  writer.add("a", at::ones({10}));
  writer.finish();
  CHECK(std::filesystem::exists(folder / "model.safetensors"));
  CHECK_FALSE(std::filesystem::exists(folder / "model.safetensors.index.json"));

  const TemporaryFolder second;
  TensorFolderWriter grouped(second.path(), 1000);
  grouped.add("a", at::ones({100}));
  grouped.add({{"b.codes", at::ones({150})}, {"b.scales", at::ones({50})}});
  grouped.finish();
  const TensorFolder read = TensorFolder::open(second.path());
  CHECK(read.file_of("b.codes") == read.file_of("b.scales"));
  CHECK(read.file_of("a") != read.file_of("b.codes"));
}

TEST_CASE("tensor folder: without finish nothing is left") {
  const TemporaryFolder folder;
  {
    TensorFolderWriter writer(folder.path(), 100);
    writer.add("a", at::ones({100}));
    writer.add("b", at::ones({100}));
  }
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("tensor folder: a missing shard and a tensor elsewhere are named") {
  const TemporaryFolder folder;
  write_shards(folder);
  Json index = read_json(folder / "model.safetensors.index.json");
  index["weight_map"]["t0"] = "model-00003-of-00003.safetensors";
  write_file_atomically(folder / "model.safetensors.index.json",
                        to_text(index));
  CHECK(error_of(ErrorKind::kInput, [&] { TensorFolder::open(folder.path()); })
            .find("tensor 't0' should be in the shard "
                  "model-00003-of-00003.safetensors, but is not") !=
        std::string::npos);
  index["weight_map"]["t0"] = "../evil.safetensors";
  write_file_atomically(folder / "model.safetensors.index.json",
                        to_text(index));
  CHECK(
      error_of(ErrorKind::kInput, [&] {
        TensorFolder::open(folder.path());
      }).find("'../evil.safetensors' leaves the folder") != std::string::npos);
  std::filesystem::remove(folder / "model-00001-of-00003.safetensors");
  index["weight_map"].erase("t0");
  write_file_atomically(folder / "model.safetensors.index.json",
                        to_text(index));
  CHECK(error_of(ErrorKind::kInput, [&] { TensorFolder::open(folder.path()); })
            .find("model-00001-of-00003.safetensors is missing") !=
        std::string::npos);
  error_of(ErrorKind::kInput, [&] { TensorFolder::open("/nonexistent"); });
}
