// A folder of weights: one file, or the shards an index names.
#include "autoglm/formats/tensor_folder.h"

#include <array>
#include <map>
#include <optional>
#include <utility>

#include "autoglm/core/error.h"
#include "autoglm/core/json.h"
#include "autoglm/core/text.h"
#include "formats/tensor_file.h"

namespace autoglm {

namespace fs = std::filesystem;

struct TensorFolder::Data {
  fs::path folder;
  std::vector<TensorFile> shards;
  std::map<std::string, std::size_t, std::less<>> place;  // tensor -> shard

  void add(TensorFile file) {
    for (const auto& [name, entry] : file.entries())
      place.emplace_hint(place.end(), name, shards.size());
    shards.push_back(std::move(file));
  }
  void add_shards(const fs::path& index);
  const TensorFile& shard_of(const std::string& name) const;
};

namespace {

// In order of preference.
constexpr std::array kWeightFiles = {
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
    "pytorch_model.bin.index.json", "mp_rank_00_model_states.pt"};

std::optional<fs::path> find_weights(const fs::path& folder) {
  for (const char* name : kWeightFiles)
    if (fs::exists(folder / name)) return folder / name;
  return std::nullopt;
}

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

void TensorFolder::Data::add_shards(const fs::path& index_file) {
  const LargeJson index =
      parse_large_json(read_file(index_file), index_file.string());
  if (!index.is_object() || !index.contains("weight_map") ||
      !index["weight_map"].is_object())
    fail(ErrorKind::kInput, index_file.string() + ": weight_map is missing");
  const LargeJson& weight_map = index["weight_map"];
  std::map<std::string, std::size_t> numbers;  // shard name -> number
  for (const auto& [tensor, shard] : weight_map.items()) {
    if (!shard.is_string())
      fail(ErrorKind::kInput,
           fmt::format("{}: the shard of tensor '{}' is not text",
                       index_file.string(), tensor));
    numbers.emplace(shard.get_ref<const std::string&>(), 0);
  }
  for (auto& [name, number] : numbers) {
    check_shard_name(name, index_file);
    if (!fs::exists(folder / name))
      fail(ErrorKind::kInput,
           fmt::format("{}: the shard {} is missing in the folder",
                       index_file.string(), name));
    number = shards.size();
    shards.push_back(TensorFile::open(folder / name));
  }
  for (const auto& [tensor, shard] : weight_map.items()) {
    const auto& name = shard.get_ref<const std::string&>();
    const std::size_t number = numbers.at(name);
    if (!shards[number].entries().contains(tensor))
      fail(ErrorKind::kInput,
           fmt::format("{}: tensor '{}' should be in the shard {}, but is not",
                       index_file.string(), tensor, name));
    place.emplace_hint(place.end(), tensor, number);
  }
}

const TensorFile& TensorFolder::Data::shard_of(const std::string& name) const {
  const auto found = place.find(name);
  if (found == place.end())
    fail(ErrorKind::kInput,
         fmt::format("{}: no tensor '{}'", folder.string(), name));
  return shards[found->second];
}

TensorFolder TensorFolder::open_file(const fs::path& file) {
  auto data = std::make_shared<Data>();
  data->folder = file.parent_path();
  data->add(TensorFile::open(file));
  TensorFolder out;
  out.data_ = std::move(data);
  return out;
}

TensorFolder TensorFolder::open(const fs::path& folder) {
  const std::optional<fs::path> weights = find_weights(folder);
  if (!weights)
    fail(ErrorKind::kInput,
         fmt::format("{}: no {} in the folder", folder.string(),
                     fmt::join(kWeightFiles, ", no ")));
  if (weights->extension() != ".json") return open_file(*weights);
  auto data = std::make_shared<Data>();
  data->folder = folder;
  data->add_shards(*weights);
  TensorFolder out;
  out.data_ = std::move(data);
  return out;
}

bool TensorFolder::has_weights(const fs::path& folder) {
  return find_weights(folder).has_value();
}

std::vector<std::string> TensorFolder::names() const {
  std::vector<std::string> out;
  for (const auto& [name, shard] : data_->place) out.push_back(name);
  return out;
}

bool TensorFolder::contains(const std::string& name) const {
  return data_->place.contains(name);
}

const TensorEntry& TensorFolder::entry(const std::string& name) const {
  return data_->shard_of(name).entries().at(name);
}

at::Tensor TensorFolder::tensor(const std::string& name) const {
  return data_->shard_of(name).tensor(name);
}

const fs::path& TensorFolder::file_of(const std::string& name) const {
  return data_->shard_of(name).path();
}

std::vector<std::string> TensorFolder::shards() const {
  std::vector<std::string> out;
  for (const TensorFile& shard : data_->shards)
    out.push_back(shard.path().filename().string());
  return out;
}

}  // namespace autoglm
