#include "autoglm/core/json.h"
#include "autoglm/formats/safetensors.h"
#include "tests/formats/torch_builder.h"
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

TEST_CASE("tensor folder: the files of a folder have an order of preference") {
  const TemporaryFolder folder;
  CHECK_FALSE(TensorFolder::has_weights(folder.path()));
  CHECK(error_of(ErrorKind::kInput, [&] { TensorFolder::open(folder.path()); })
            .find("no model.safetensors, no model.safetensors.index.json, no "
                  "pytorch_model.bin, no pytorch_model.bin.index.json, no "
                  "mp_rank_00_model_states.pt in the folder") !=
        std::string::npos);
  const auto shard = [&](const char* name) {
    return TensorFolder::open(folder.path()).shards() ==
           std::vector<std::string>{name};
  };
  const std::string bin = test::make_archive("}", {});
  const auto index = [](const char* file) {
    return to_text({{"weight_map", {{"x", file}}}});
  };
  // From the last choice to the first.
  write_file_atomically(folder / "mp_rank_00_model_states.pt", bin);
  CHECK(shard("mp_rank_00_model_states.pt"));
  write_safetensors(folder / "b", {{"x", at::ones({1})}});
  write_file_atomically(folder / "pytorch_model.bin.index.json", index("b"));
  CHECK(shard("b"));
  write_file_atomically(folder / "pytorch_model.bin", bin);
  CHECK(shard("pytorch_model.bin"));
  write_safetensors(folder / "a", {{"x", at::ones({1})}});
  write_file_atomically(folder / "model.safetensors.index.json", index("a"));
  CHECK(shard("a"));
  write_safetensors(folder / "model.safetensors", {{"x", at::ones({1})}});
  CHECK(shard("model.safetensors"));
  CHECK(TensorFolder::has_weights(folder.path()));
}

TEST_CASE("tensor folder: shards of both kinds under one index of .bin") {
  const TemporaryFolder folder;
  write_safetensors(folder / "1.bin", {{"x", at::ones({2})}});
  write_file_atomically(
      folder / "2.bin",
      test::make_archive(test::mapping({{"y", test::tensor()}}),
                         {std::string(24, '\0')}));
  const auto write_index = [&](const Json& weight_map) {
    write_file_atomically(folder / "pytorch_model.bin.index.json",
                          to_text({{"weight_map", weight_map}}));
  };
  write_index({{"x", "1.bin"}, {"y", "2.bin"}});
  const TensorFolder read = TensorFolder::open(folder.path());
  CHECK(read.tensor("x").sum().item<float>() == 2);
  CHECK(read.tensor("y").sizes() == at::IntArrayRef({2, 3}));
  CHECK(read.file_of("y").filename() == "2.bin");
  write_index({{"x", "../1.bin"}});
  CHECK(error_of(ErrorKind::kInput, [&] {
          TensorFolder::open(folder.path());
        }).find("'../1.bin' leaves the folder") != std::string::npos);
  write_index({{"x", "2.bin"}});
  CHECK(
      error_of(ErrorKind::kInput, [&] {
        TensorFolder::open(folder.path());
      }).find("tensor 'x' should be in the shard 2.bin") != std::string::npos);
}

TEST_CASE("tensor folder: a file of git-lfs is told from weights") {
  const TemporaryFolder folder;
  for (const char* name : {"model.safetensors", "pytorch_model.bin"}) {
    write_file_atomically(folder / name,
                          "version https://git-lfs.github.com/spec/v1\n");
    CHECK(error_of(ErrorKind::kInput, [&] {
            TensorFolder::open_file(folder / name);
          }).find("a pointer of git-lfs") != std::string::npos);
  }
}

TEST_CASE("tensor folder: 50,000 tensors are written and opened in seconds") {
  const TemporaryFolder folder;
  const at::Tensor one = at::ones({1});
  const auto start = std::chrono::steady_clock::now();
  TensorFolderWriter writer(folder.path(), 100'000);
  for (int i = 0; i < 50'000; ++i) writer.add("t" + std::to_string(i), one);
  writer.finish();
  const TensorFolder read = TensorFolder::open(folder.path());
  CHECK(read.shards().size() == 2);
  CHECK(read.names().size() == 50'000);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}
