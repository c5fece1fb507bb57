// Writing safetensors: one file, or a folder of shards with an index.
#include <algorithm>
#include <unordered_set>

#include "autoglm/core/error.h"
#include "autoglm/core/json.h"
#include "autoglm/core/text.h"
#include "autoglm/formats/safetensors.h"
#include "formats/dtypes.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct DtypeName {
  const char* name;
  at::ScalarType dtype;
};

constexpr DtypeName kDtypes[] = {
    {"F64", at::kDouble},
    {"F32", at::kFloat},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"I64", at::kLong},
    {"I32", at::kInt},
    {"I16", at::kShort},
    {"I8", at::kChar},
    {"U8", at::kByte},
    {"U16", at::kUInt16},
    {"U32", at::kUInt32},
    {"U64", at::kUInt64},
    {"BOOL", at::kBool},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E5M2", at::kFloat8_e5m2},
    {"C64", at::kComplexFloat},
};

std::uint64_t bytes_of(const at::Tensor& tensor) {
  return static_cast<std::uint64_t>(tensor.numel()) *
         static_cast<std::uint64_t>(tensor.element_size());
}

// Writes without renaming; the caller owns the temporary name.
void write_plain(const fs::path& file, NamedTensors tensors,
                 std::map<std::string, std::string> metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    const auto size_a = a.second.element_size();
    const auto size_b = b.second.element_size();
    return size_a != size_b ? size_a > size_b : a.first < b.first;
  });
  metadata.emplace("format", "pt");
  // Appended without looking for the key: with 50,000 of them that would take
  // longer than the writing.
  Json::object_t header;
  header.push_back({"__metadata__", metadata});
  std::unordered_set<std::string_view> names;
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::uint64_t end = offset + bytes_of(tensor);
    AUTOGLM_ENSURE(names.insert(name).second);
    header.push_back({name,
                      {{"dtype", safetensors_dtype(tensor.scalar_type())},
                       {"shape", tensor.sizes().vec()},
                       {"data_offsets", {offset, end}}}});
    offset = end;
  }
  std::string text = Json(std::move(header)).dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  OutputFile out(file);
  unsigned char length[8];
  for (int i = 0; i < 8; ++i)
    length[i] = static_cast<unsigned char>(text.size() >> (8 * i));
  out.write(length, sizeof length);
  out.write(text.data(), text.size());
  for (const auto& [name, tensor] : tensors) {
    if (tensor.numel() == 0) continue;
    const at::Tensor plain = tensor.to(at::kCPU).contiguous();
    out.write(plain.const_data_ptr(), bytes_of(plain));
  }
  out.finish();
}

}  // namespace

std::string safetensors_dtype(at::ScalarType dtype) {
  for (const DtypeName& known : kDtypes)
    if (known.dtype == dtype) return known.name;
  fail(ErrorKind::kInternal,
       fmt::format("safetensors has no dtype for {}", c10::toString(dtype)));
}

std::optional<at::ScalarType> find_safetensors_dtype(std::string_view name) {
  for (const DtypeName& known : kDtypes)
    if (known.name == name) return known.dtype;
  return std::nullopt;
}

void write_safetensors(const fs::path& file, const NamedTensors& tensors,
                       std::map<std::string, std::string> metadata) {
  const fs::path temporary = file.string() + ".tmp";
  try {
    write_plain(temporary, tensors, std::move(metadata));
    fs::rename(temporary, file);
  } catch (const fs::filesystem_error& error) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    fail(ErrorKind::kResources,
         fmt::format("{}: cannot write: {}", file.string(),
                     error.code().message()));
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

// Shards are written under temporary names, as their number is in their names
// and known only at the end.
struct TensorFolderWriter::State {
  fs::path folder;
  std::uint64_t shard_bytes;
  NamedTensors pending;
  std::uint64_t pending_bytes = 0;
  std::uint64_t total_bytes = 0;
  std::vector<fs::path> shards;
  std::vector<std::pair<std::string, std::size_t>> placed;  // name, shard

  void flush() {
    const fs::path file =
        folder / fmt::format("shard-{}.safetensors.tmp", shards.size() + 1);
    shards.push_back(file);
    write_plain(file, pending, {});
    for (const auto& [name, tensor] : pending)
      placed.emplace_back(name, shards.size() - 1);
    pending.clear();
    pending_bytes = 0;
  }
};

TensorFolderWriter::TensorFolderWriter(fs::path folder,
                                       std::uint64_t shard_bytes)
    : state_(std::make_unique<State>()) {
  state_->folder = std::move(folder);
  state_->shard_bytes = shard_bytes;
}

TensorFolderWriter::~TensorFolderWriter() {
  std::error_code ignored;
  for (const fs::path& shard : state_->shards) fs::remove(shard, ignored);
}

void TensorFolderWriter::add(const NamedTensors& group) {
  std::uint64_t size = 0;
  for (const auto& [name, tensor] : group) size += bytes_of(tensor);
  if (!state_->pending.empty() &&
      state_->pending_bytes + size > state_->shard_bytes)
    state_->flush();
  state_->pending.insert(state_->pending.end(), group.begin(), group.end());
  state_->pending_bytes += size;
  state_->total_bytes += size;
}

void TensorFolderWriter::add(const std::string& name,
                             const at::Tensor& tensor) {
  add(NamedTensors{{name, tensor}});
}

std::uint64_t TensorFolderWriter::finish() {
  State& state = *state_;
  if (!state.pending.empty() || state.shards.empty()) state.flush();
  const std::size_t count = state.shards.size();
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i)
    names.push_back(count == 1 ? "model.safetensors"
                               : fmt::format("model-{:05}-of-{:05}.safetensors",
                                             i + 1, count));
  for (std::size_t i = 0; i < count; ++i) {
    std::error_code error;
    fs::rename(state.shards[i], state.folder / names[i], error);
    if (error)
      fail(ErrorKind::kResources,
           fmt::format("{}: cannot write: {}",
                       (state.folder / names[i]).string(), error.message()));
  }
  state.shards.clear();
  if (count > 1) {
    std::map<std::string, std::string> weight_map;
    for (const auto& [name, shard] : state.placed)
      weight_map[name] = names[shard];
    const Json index = {{"metadata", {{"total_size", state.total_bytes}}},
                        {"weight_map", weight_map}};
    write_file_atomically(state.folder / "model.safetensors.index.json",
                          to_text(index));
  }
  return state.total_bytes;
}

}  // namespace autoglm
