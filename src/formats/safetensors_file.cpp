// Reading one safetensors file: every claim of the header is checked before a
// byte of data is used.
#include <algorithm>
#include <limits>
#include <optional>

#include "autoglm/core/error.h"
#include "autoglm/core/json.h"
#include "autoglm/core/text.h"
#include "autoglm/formats/safetensors.h"
#include "formats/dtypes.h"

namespace autoglm {

namespace {

// The limit of the reference implementation.
constexpr std::uint64_t kMaxHeader = 100'000'000;

struct Claim {
  std::string name;
  TensorEntry entry;  // offsets relative to the data
};

// Where complaints about one tensor start: "file: tensor 'name': ".
class Complaint {
 public:
  Complaint(const std::filesystem::path& file, const std::string& name)
      : file_(file), name_(name) {}
  [[noreturn]] void operator()(const std::string& text) const {
    fail(ErrorKind::kInput,
         fmt::format("{}: tensor '{}': {}", file_.string(), name_, text));
  }

 private:
  const std::filesystem::path& file_;
  const std::string& name_;
};

std::uint64_t read_unsigned(const LargeJson& value, const char* what,
                            const Complaint& complain) {
  if (!value.is_number_unsigned())
    complain(fmt::format("{} is not a whole number of at least 0", what));
  return value.get<std::uint64_t>();
}

TensorEntry read_entry(const LargeJson& json, const Complaint& complain) {
  if (!json.is_object()) complain("its header entry is not an object");
  for (const char* key : {"dtype", "shape", "data_offsets"})
    if (!json.contains(key)) complain(fmt::format("{} is missing", key));
  if (!json["dtype"].is_string()) complain("dtype is not text");
  const std::string dtype = json["dtype"].get<std::string>();
  const std::optional<at::ScalarType> type = find_safetensors_dtype(dtype);
  if (!type) complain(fmt::format("unknown dtype {}", dtype));
  TensorEntry entry;
  entry.dtype = *type;

  if (!json["shape"].is_array() || json["shape"].size() > 64)
    complain("shape is not a list of at most 64 numbers");
  std::uint64_t size = c10::elementSize(entry.dtype);
  bool empty = false;
  for (const LargeJson& dimension : json["shape"]) {
    const std::uint64_t n = read_unsigned(dimension, "a dimension", complain);
    if (n >
        static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      complain(fmt::format("dimension {} is not possible", n));
    entry.shape.push_back(static_cast<std::int64_t>(n));
    empty = empty || n == 0;
  }
  for (const std::int64_t n : entry.shape) {
    // Beside a dimension of 0 too, as ATen multiplies the others.
    if (n == 0) continue;
    if (size > std::numeric_limits<std::uint64_t>::max() / 2 /
                   static_cast<std::uint64_t>(n))
      complain("the shape's size overflows");
    size *= static_cast<std::uint64_t>(n);
  }
  if (empty) size = 0;

  const LargeJson& offsets = json["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2)
    complain("data_offsets is not a pair");
  entry.begin = read_unsigned(offsets[0], "an offset", complain);
  entry.end = read_unsigned(offsets[1], "an offset", complain);
  if (entry.begin > entry.end)
    complain(fmt::format("data_offsets [{}, {}] are reversed", entry.begin,
                         entry.end));
  if (entry.end - entry.begin != size)
    complain(fmt::format(
        "shape [{}] of {} needs {} bytes, but data_offsets "
        "give it {}",
        fmt::join(entry.shape, ", "), dtype, size, entry.end - entry.begin));
  return entry;
}

// Sorted by offset the tensors must cover the data exactly.
void check_cover(std::vector<Claim>& claims, const std::filesystem::path& file,
                 std::uint64_t data_size) {
  std::sort(claims.begin(), claims.end(), [](const Claim& a, const Claim& b) {
    return std::tie(a.entry.begin, a.entry.end) <
           std::tie(b.entry.begin, b.entry.end);
  });
  std::uint64_t covered = 0;
  for (std::size_t i = 0; i < claims.size(); ++i) {
    const TensorEntry& entry = claims[i].entry;
    const Complaint complain(file, claims[i].name);
    if (entry.end > data_size && i + 1 == claims.size() &&
        entry.begin <= data_size && entry.begin == covered)
      fail(ErrorKind::kInput,
           fmt::format("{}: tensor '{}': data_offsets end at {}, past the end "
                       "of the file: the header promises {} data bytes, the "
                       "file has {}; it is cut short or damaged",
                       file.string(), claims[i].name, entry.end, entry.end,
                       data_size));
    if (entry.end > data_size)
      complain(
          fmt::format("data_offsets end at {}, past the end of the file's "
                      "{} data bytes; it is cut short or damaged",
                      entry.end, data_size));
    if (entry.begin < covered)
      complain(fmt::format("data_offsets overlap those of '{}'",
                           claims[i - 1].name));
    if (entry.begin > covered)
      complain(fmt::format("data_offsets leave a hole of {} bytes before it",
                           entry.begin - covered));
    covered = entry.end;
  }
  if (covered != data_size)
    fail(ErrorKind::kInput,
         fmt::format("{}: the header promises {} data bytes, the file has {}",
                     file.string(), covered, data_size));
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile out(MappedFile::open(path));
  const MappedFile& file = out.file_;
  const std::string name = path.string();
  if (file.size() < 8)
    fail(ErrorKind::kInput,
         fmt::format("{}: too short for a safetensors file: {} bytes", name,
                     file.size()));
  std::uint64_t header = 0;
  for (int i = 7; i >= 0; --i)
    header = header << 8 | static_cast<std::uint64_t>(file.data()[i]);
  if (header > kMaxHeader)
    fail(ErrorKind::kInput,
         fmt::format("{}: header length {} is impossible; not a safetensors "
                     "file?",
                     name, header));
  if (header > file.size() - 8)
    fail(ErrorKind::kInput,
         fmt::format("{}: the header's length is {}, but only {} bytes follow; "
                     "the file is cut short",
                     name, header, file.size() - 8));
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8,
                              header);
  const LargeJson json = parse_large_json(text, name + ": header");
  if (!json.is_object())
    fail(ErrorKind::kInput, name + ": the header is not a JSON object");

  const std::uint64_t data_begin = 8 + header;
  std::vector<Claim> claims;
  for (const auto& [key, value] : json.items()) {
    if (key == "__metadata__") {
      if (!value.is_object())
        fail(ErrorKind::kInput, name + ": __metadata__ is not an object");
      for (const auto& [label, content] : value.items()) {
        if (!content.is_string())
          fail(ErrorKind::kInput,
               fmt::format("{}: __metadata__.{} is not text", name, label));
        out.metadata_[label] = content.get<std::string>();
      }
      continue;
    }
    claims.push_back({key, read_entry(value, Complaint(path, key))});
  }
  check_cover(claims, path, file.size() - data_begin);
  for (Claim& claim : claims) {
    claim.entry.begin += data_begin;
    claim.entry.end += data_begin;
    out.entries_.emplace(std::move(claim.name), std::move(claim.entry));
  }
  return out;
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end())
    fail(ErrorKind::kInput,
         fmt::format("{}: no tensor '{}'", path().string(), name));
  const TensorEntry& entry = found->second;
  const at::TensorOptions options(entry.dtype);
  if (entry.begin == entry.end) return at::empty(entry.shape, options);
  void* data = const_cast<std::byte*>(file_.data() + entry.begin);
  at::Tensor mapped = at::from_blob(
      data, entry.shape, [alive = file_.keep_alive()](void*) {}, options);
  // Old writers align nothing; a misaligned load is undefined behaviour.
  const bool aligned =
      reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(entry.dtype) ==
      0;
  if (aligned) return mapped;
  at::Tensor copy = at::empty(entry.shape, options);
  std::memcpy(copy.mutable_data_ptr(), data, entry.end - entry.begin);
  return copy;
}

}  // namespace autoglm
