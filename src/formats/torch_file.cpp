// From the pickled object of a torch file to named tensors: which mapping has
// them, and whether each fits its storage.
#include "autoglm/formats/torch_file.h"

#include <cstring>
#include <limits>
#include <optional>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "formats/printable.h"
#include "formats/torch_contents.h"

namespace autoglm {
namespace {

constexpr std::size_t kMaxDimensions = 64;  // of ATen

// A stride of 0 makes a large tensor of few bytes. Honest files have small
// masks of that kind; a hostile one would ask for terabytes as soon as
// somebody makes the tensor contiguous. So no tensor may be larger than its
// file and this.
constexpr std::uint64_t kExpandedBytes = 16'777'216;

bool multiply(std::uint64_t& product, std::uint64_t factor) {
  return !__builtin_mul_overflow(product, factor, &product) &&
         product <= static_cast<std::uint64_t>(
                        std::numeric_limits<std::int64_t>::max());
}

class Resolver {
 public:
  Resolver(const MappedFile& file, const TorchContents& contents)
      : file_(file), contents_(contents), pickle_(contents.pickle) {}

  /// The mapping with the tensors.
  const PickleValue& weights() const;

  struct Resolved {
    TensorEntry entry;
    std::vector<std::int64_t> strides;  // empty if row-major
  };
  Resolved resolve(const std::string& name, const PickledTensor& tensor) const;

  const PickleValue& value(PickleId id) const { return pickle_.values[id]; }
  [[noreturn]] void complain(const std::string& text) const {
    fail(ErrorKind::kInput, fmt::format("{}: {}", file_.path().string(), text));
  }
  [[noreturn]] void complain(const std::string& tensor,
                             const std::string& text) const {
    complain(fmt::format("tensor '{}': {}", printable(tensor), text));
  }

 private:
  bool has_tensors(const PickleValue& mapping) const;
  const PickleValue* find(const PickleValue& mapping,
                          std::string_view key) const;
  FileRange storage_of(const std::string& name,
                       const PickledStorage& storage) const;
  std::vector<std::int64_t> numbers(const std::string& name, PickleId tuple,
                                    const char* what) const;

  const MappedFile& file_;
  const TorchContents& contents_;
  const Pickle& pickle_;
};

bool Resolver::has_tensors(const PickleValue& mapping) const {
  if (mapping.kind != PickleKind::kDict) return false;
  for (std::size_t i = 0; i < mapping.items.size(); i += 2)
    if (value(mapping.items[i]).kind == PickleKind::kText &&
        value(mapping.items[i + 1]).kind == PickleKind::kTensor)
      return true;
  return false;
}

const PickleValue* Resolver::find(const PickleValue& mapping,
                                  std::string_view key) const {
  for (std::size_t i = 0; i < mapping.items.size(); i += 2)
    if (value(mapping.items[i]).kind == PickleKind::kText &&
        value(mapping.items[i]).text == key)
      return &value(mapping.items[i + 1]);
  return nullptr;
}

// `module` comes before the top level, as DeepSpeed puts the states of random
// generators, tensors too, beside it.
const PickleValue& Resolver::weights() const {
  const PickleValue& top = value(pickle_.top);
  if (top.kind != PickleKind::kDict)
    complain("it holds no mapping of names to tensors at its top level");
  if (const PickleValue* module = find(top, "module");
      module != nullptr && has_tensors(*module))
    return *module;
  if (top.items.empty() || has_tensors(top)) return top;
  for (const char* key : {"state_dict", "model"})
    if (const PickleValue* nested = find(top, key);
        nested != nullptr && has_tensors(*nested))
      return *nested;
  complain(
      "it holds no tensors, neither at its top level nor under 'module', "
      "'state_dict' or 'model'");
}

FileRange Resolver::storage_of(const std::string& name,
                               const PickledStorage& storage) const {
  const auto found = contents_.storages.find(storage.key);
  if (found == contents_.storages.end())
    complain(name, fmt::format("its storage '{}' is missing in the file",
                               printable(storage.key)));
  const std::uint64_t width = c10::elementSize(storage.dtype);
  std::uint64_t bytes = width;
  if (storage.count < 0 ||
      !multiply(bytes, static_cast<std::uint64_t>(storage.count)))
    complain(name, fmt::format("a storage of {} elements is not possible",
                               storage.count));
  const std::uint64_t size = found->second.size;
  // A storage may end with a part of an element.
  if (bytes > size || size - bytes >= width)
    complain(name, fmt::format("its storage '{}' should have {} bytes ({} "
                               "elements of {}), but has {}",
                               printable(storage.key), bytes, storage.count,
                               width, size));
  return found->second;
}

std::vector<std::int64_t> Resolver::numbers(const std::string& name,
                                            PickleId tuple,
                                            const char* what) const {
  const std::vector<PickleId>& items = value(tuple).items;
  if (items.size() > kMaxDimensions)
    complain(name, fmt::format("{} dimensions; at most {} are possible",
                               items.size(), kMaxDimensions));
  std::vector<std::int64_t> out;
  for (const PickleId id : items) {
    if (value(id).kind != PickleKind::kInt || value(id).number < 0)
      complain(name,
               fmt::format("a {} is not a whole number of at least 0", what));
    out.push_back(value(id).number);
  }
  return out;
}

Resolver::Resolved Resolver::resolve(const std::string& name,
                                     const PickledTensor& tensor) const {
  const FileRange range = storage_of(name, pickle_.storages[tensor.storage]);
  const std::uint64_t width = c10::elementSize(tensor.dtype);
  Resolved out;
  TensorEntry& entry = out.entry;
  entry.dtype = tensor.dtype;
  entry.shape = numbers(name, tensor.size, "dimension");
  std::vector<std::int64_t> strides = numbers(name, tensor.strides, "stride");
  if (entry.shape.size() != strides.size())
    complain(name, fmt::format("{} dimensions, but {} strides",
                               entry.shape.size(), strides.size()));
  if (tensor.offset < 0)
    complain(name,
             fmt::format("its storage offset {} is negative", tensor.offset));

  // Bytes up to the first element, and from there to the end of the last; the
  // size of the whole counts dimensions of 0 as 1, so that ATen's own sums
  // cannot overflow later.
  std::uint64_t begin = width, bytes = width, span = 0;
  bool possible = multiply(begin, static_cast<std::uint64_t>(tensor.offset));
  bool empty = false, row_major = true;
  std::uint64_t expected = 1;  // the stride of a row-major tensor, from behind
  for (std::size_t i = entry.shape.size(); i-- > 0;) {
    const auto n = static_cast<std::uint64_t>(entry.shape[i]);
    std::uint64_t last = n == 0 ? 0 : n - 1;
    row_major = row_major &&
                (n == 1 || static_cast<std::uint64_t>(strides[i]) == expected);
    possible = possible && multiply(bytes, n == 0 ? 1 : n) &&
               multiply(last, static_cast<std::uint64_t>(strides[i])) &&
               !__builtin_add_overflow(span, last, &span);
    if (!possible) break;
    expected *= n == 0 ? 1 : n;
    empty = empty || n == 0;
  }
  possible = possible && !__builtin_add_overflow(span, 1, &span) &&
             multiply(span, width);
  if (!possible) complain(name, "its size overflows");
  if (empty) {
    entry.begin = entry.end = range.begin;
    return out;
  }
  if (begin > range.size || span > range.size - begin)
    complain(name,
             fmt::format(
                 "shape [{}] with strides [{}] from offset {} needs {} bytes, "
                 "but its storage '{}' has {}",
                 fmt::join(entry.shape, ", "), fmt::join(strides, ", "),
                 tensor.offset, begin + span,
                 printable(pickle_.storages[tensor.storage].key), range.size));
  if (bytes > file_.size() + kExpandedBytes)
    complain(name, fmt::format("shape [{}] is {} bytes, more than the file "
                               "has; its elements overlap",
                               fmt::join(entry.shape, ", "), bytes));
  entry.begin = range.begin + begin;
  entry.end = entry.begin + span;
  if (!row_major) out.strides = std::move(strides);
  return out;
}

}  // namespace

bool TorchFile::recognizes(const MappedFile& file) {
  return starts_like_zip(file) || starts_like_torch_legacy(file);
}

TorchFile TorchFile::open(const std::filesystem::path& path) {
  TorchFile out(MappedFile::open(path));
  if (!recognizes(out.file_))
    fail(ErrorKind::kInput,
         fmt::format("{}: not a torch archive: {} bytes that start neither "
                     "like a zip nor like torch.save before 1.6",
                     path.string(), out.file_.size()));
  const TorchContents contents = starts_like_zip(out.file_)
                                     ? read_torch_archive(out.file_)
                                     : read_torch_legacy(out.file_);
  const Resolver resolver(out.file_, contents);
  const PickleValue& weights = resolver.weights();
  for (std::size_t i = 0; i < weights.items.size(); i += 2) {
    const PickleValue& key = resolver.value(weights.items[i]);
    const PickleValue& item = resolver.value(weights.items[i + 1]);
    // Counters, versions and the like stand beside the tensors.
    if (key.kind != PickleKind::kText || item.kind != PickleKind::kTensor)
      continue;
    const std::string name(key.text);
    if (!is_utf8(name)) resolver.complain(name, "its name is not UTF-8");
    const auto index = static_cast<std::size_t>(item.number);
    Resolver::Resolved resolved =
        resolver.resolve(name, contents.pickle.tensors[index]);
    if (!out.entries_.emplace(name, std::move(resolved.entry)).second)
      resolver.complain(name, "it is given twice");
    if (!resolved.strides.empty())
      out.strides_.emplace(name, std::move(resolved.strides));
  }
  return out;
}

at::Tensor TorchFile::tensor(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end())
    fail(ErrorKind::kInput,
         fmt::format("{}: no tensor '{}'", path().string(), name));
  const TensorEntry& entry = found->second;
  const at::TensorOptions options(entry.dtype);
  if (entry.begin == entry.end) return at::empty(entry.shape, options);
  const auto strides = strides_.find(name);
  const auto view = [&](const at::Tensor& flat) {
    return strides == strides_.end()
               ? flat.view(entry.shape)
               : flat.as_strided(entry.shape, strides->second);
  };
  const std::uint64_t bytes = entry.end - entry.begin;
  const std::uint64_t width = c10::elementSize(entry.dtype);
  const auto count = static_cast<std::int64_t>(bytes / width);
  void* data = const_cast<std::byte*>(file_.data() + entry.begin);
  // The format before 1.6 aligns nothing, and so do zips written by others; a
  // misaligned load is undefined behaviour.
  if (reinterpret_cast<std::uintptr_t>(data) % width == 0)
    return view(at::from_blob(
        data, {count}, [alive = file_.keep_alive()](void*) {}, options));
  at::Tensor copy = at::empty({count}, options);
  std::memcpy(copy.mutable_data_ptr(), data, bytes);
  return view(copy);
}

}  // namespace autoglm
