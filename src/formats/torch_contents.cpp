#include "formats/torch_contents.h"

#include <utility>
#include <vector>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "formats/byte_reader.h"
#include "formats/printable.h"

namespace autoglm {
namespace {

// 0x1950a86a20f9469cfc6c as the bytes of a pickled integer, and the version:
// torch/serialization.py, MAGIC_NUMBER and PROTOCOL_VERSION.
constexpr std::string_view kMagic("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19",
                                  10);
constexpr std::int64_t kLegacyVersion = 1001;

// Reads one pickle after the other, then the storages.
class LegacyReader {
 public:
  explicit LegacyReader(const MappedFile& file) : file_(file), bytes_(file) {}

  TorchContents read() {
    const Pickle magic = take_pickle("magic number");
    if (top(magic).kind != PickleKind::kLong || top(magic).text != kMagic)
      complain("its magic number is wrong");
    const Pickle version = take_pickle("version");
    if (top(version).kind != PickleKind::kInt ||
        top(version).number != kLegacyVersion)
      complain("its version is not 1001");
    check_system(take_pickle("system"));
    TorchContents out;
    out.pickle = take_pickle("object");
    read_storages(out, take_pickle("storage keys"));
    return out;
  }

 private:
  [[noreturn]] void complain(const std::string& text) const {
    fail(ErrorKind::kInput, fmt::format("{}: torch.save before 1.6: {}",
                                        file_.path().string(), text));
  }
  static const PickleValue& top(const Pickle& pickle) {
    return pickle.values[pickle.top];
  }
  Pickle take_pickle(const char* what) {
    Pickle out = read_pickle(
        bytes_.text(next_, bytes_.size() - next_),
        fmt::format("{}: pickle of the {}", file_.path().string(), what));
    next_ += out.length;
    return out;
  }
  void check_system(const Pickle& system) const {
    const std::vector<PickleId>& items = top(system).items;
    if (top(system).kind != PickleKind::kDict)
      complain("its description of the system is not a mapping");
    for (std::size_t i = 0; i < items.size(); i += 2)
      if (system.values[items[i]].text == "little_endian" &&
          system.values[items[i + 1]].number != 1)
        complain("it was written by a big-endian machine");
  }
  void read_storages(TorchContents& out, const Pickle& keys);

  const MappedFile& file_;
  ByteReader bytes_;
  std::uint64_t next_ = 0;
};

// The keys say in which order the storages follow; how wide their elements are
// stands in the object alone.
void LegacyReader::read_storages(TorchContents& out, const Pickle& keys) {
  std::map<std::string_view, const PickledStorage*> types;
  for (const PickledStorage& storage : out.pickle.storages)
    types.emplace(storage.key, &storage);
  if (top(keys).kind != PickleKind::kList)
    complain("its storage keys are not a list");
  for (const PickleId id : top(keys).items) {
    const PickleValue& key = keys.values[id];
    if (key.kind != PickleKind::kText) complain("a storage key is not text");
    const std::string name(key.text);
    const auto type = types.find(name);
    if (type == types.end())
      complain(fmt::format("no tensor uses its storage '{}'", printable(name)));
    const std::uint64_t width = c10::elementSize(type->second->dtype);
    if (!bytes_.holds(next_, 8))
      complain("it is cut short before the size of a storage");
    const std::uint64_t count = bytes_.u64(next_);
    next_ += 8;
    if (count > (bytes_.size() - next_) / width)
      complain(
          fmt::format("storage '{}' of {} elements of {} bytes reaches "
                      "past the end; the file is cut short or damaged",
                      printable(name), count, width));
    if (!out.storages.emplace(name, FileRange{next_, count * width}).second)
      complain(fmt::format("storage '{}' is given twice", printable(name)));
    next_ += count * width;
  }
}

}  // namespace

TorchContents read_torch_archive(const MappedFile& file) {
  const std::string name = file.path().string();
  const ByteReader bytes(file);
  const auto records = read_torch_zip(file);
  const auto text = [&](const FileRange& range) {
    return bytes.text(range.begin, range.size);
  };
  if (const auto order = records.find("byteorder");
      order != records.end() && text(order->second) != "little")
    fail(ErrorKind::kInput,
         fmt::format("{}: its byte order is '{}'; only little-endian files "
                     "are read",
                     name, printable(text(order->second))));
  TorchContents out;
  // The directory promises that this record is there.
  out.pickle =
      read_pickle(text(records.find("data.pkl")->second), name + ": data.pkl");
  constexpr std::string_view kData = "data/";
  for (auto it = records.lower_bound(kData);
       it != records.end() && it->first.starts_with(kData); ++it)
    out.storages.emplace_hint(out.storages.end(),
                              it->first.substr(kData.size()), it->second);
  return out;
}

TorchContents read_torch_legacy(const MappedFile& file) {
  return LegacyReader(file).read();
}

bool starts_like_torch_legacy(const MappedFile& file) {
  // PROTO and its number, from protocol 4 on FRAME and its length, LONG1.
  constexpr std::uint64_t kStart = 2 + 9 + 2 + kMagic.size();
  const ByteReader bytes(file);
  if (!bytes.holds(0, kStart)) return false;
  const std::string_view start = bytes.text(0, kStart);
  return start[0] == '\x80' && start.find(kMagic) != std::string_view::npos;
}

}  // namespace autoglm
