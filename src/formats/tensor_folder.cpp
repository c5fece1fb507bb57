// A folder of safetensors files: one file, or the shards an index names.
#include <algorithm>

#include "autoglm/core/error.h"
#include "autoglm/core/json.h"
#include "autoglm/core/text.h"
#include "autoglm/formats/safetensors.h"

namespace autoglm {

namespace fs = std::filesystem;

struct TensorFolder::Data {
  fs::path folder;
  std::vector<SafetensorsFile> shards;
  std::map<std::string, std::size_t> place;  // tensor -> shard
};

namespace {

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kSingle = "model.safetensors";

// A shard name must stay in its folder.
void check_shard_name(const std::string& name, const fs::path& index) {
  if (name.empty() || name == "." || name == ".." ||
      name.find_first_of("/\\") != std::string::npos ||
      name.find('\0') != std::string::npos)
    fail(ErrorKind::kInput,
         fmt::format("{}: the shard name '{}' leaves the folder; refused",
                     index.string(), name));
}

}  // namespace

TensorFolder TensorFolder::open_file(const fs::path& file) {
  auto data = std::make_shared<Data>();
  data->folder = file.parent_path();
  data->shards.push_back(SafetensorsFile::open(file));
  for (const auto& [name, entry] : data->shards[0].entries())
    data->place[name] = 0;
  TensorFolder out;
  out.data_ = std::move(data);
  return out;
}

TensorFolder TensorFolder::open(const fs::path& folder) {
  const fs::path index_file = folder / kIndex;
  if (!fs::exists(index_file)) {
    if (fs::exists(folder / kSingle)) return open_file(folder / kSingle);
    fail(ErrorKind::kInput, fmt::format("{}: no {} and no {} in the folder",
                                        folder.string(), kSingle, kIndex));
  }
  const Json index = read_json(index_file);
  if (!index.is_object() || !index.contains("weight_map") ||
      !index["weight_map"].is_object())
    fail(ErrorKind::kInput, index_file.string() + ": weight_map is missing");
  auto data = std::make_shared<Data>();
  data->folder = folder;
  std::map<std::string, std::size_t> numbers;  // shard name -> number
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    if (!shard.is_string())
      fail(ErrorKind::kInput,
           fmt::format("{}: the shard of tensor '{}' is not text",
                       index_file.string(), tensor));
    numbers.emplace(shard.get<std::string>(), 0);
  }
  for (auto& [name, number] : numbers) {
    check_shard_name(name, index_file);
    if (!fs::exists(folder / name))
      fail(ErrorKind::kInput,
           fmt::format("{}: the shard {} is missing in the folder",
                       index_file.string(), name));
    number = data->shards.size();
    data->shards.push_back(SafetensorsFile::open(folder / name));
  }
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    const std::string name = shard.get<std::string>();
    const std::size_t number = numbers[name];
    if (!data->shards[number].entries().contains(tensor))
      fail(ErrorKind::kInput,
           fmt::format("{}: tensor '{}' should be in the shard {}, but is not",
                       index_file.string(), tensor, name));
    data->place[tensor] = number;
  }
  TensorFolder out;
  out.data_ = std::move(data);
  return out;
}

std::vector<std::string> TensorFolder::names() const {
  std::vector<std::string> out;
  for (const auto& [name, shard] : data_->place) out.push_back(name);
  return out;
}

bool TensorFolder::contains(const std::string& name) const {
  return data_->place.contains(name);
}

const SafetensorsFile& TensorFolder::shard_of(const std::string& name) const {
  const auto found = data_->place.find(name);
  if (found == data_->place.end())
    fail(ErrorKind::kInput,
         fmt::format("{}: no tensor '{}'", data_->folder.string(), name));
  return data_->shards[found->second];
}

const TensorEntry& TensorFolder::entry(const std::string& name) const {
  return shard_of(name).entries().at(name);
}

at::Tensor TensorFolder::tensor(const std::string& name) const {
  return shard_of(name).tensor(name);
}

const fs::path& TensorFolder::file_of(const std::string& name) const {
  return shard_of(name).path();
}

std::vector<std::string> TensorFolder::shards() const {
  std::vector<std::string> out;
  for (const SafetensorsFile& shard : data_->shards)
    out.push_back(shard.path().filename().string());
  return out;
}

}  // namespace autoglm
