#include "formats/torch_zip.h"

#include <algorithm>
#include <optional>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "formats/byte_reader.h"
#include "formats/printable.h"

namespace autoglm {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kCentralHeader = 0x02014b50;
constexpr std::uint32_t kDirectoryEnd = 0x06054b50;
constexpr std::uint32_t kDirectoryEnd64 = 0x06064b50;
constexpr std::uint32_t kDirectoryLocator64 = 0x07064b50;

// Sizes of the fixed parts.
constexpr std::uint64_t kLocalSize = 30;
constexpr std::uint64_t kCentralSize = 46;
constexpr std::uint64_t kEndSize = 22;
constexpr std::uint64_t kEnd64Size = 56;
constexpr std::uint64_t kLocatorSize = 20;

// A field of 32 bits with this value means: see the ZIP64 record.
constexpr std::uint32_t kSee64 = 0xffffffff;

struct Directory {
  std::uint64_t begin;
  std::uint64_t size;
  std::uint64_t count;
};

struct Record {
  std::string name;
  std::uint64_t size;
  std::uint64_t stored_size;
  std::uint64_t local;  // offset of the local header
  std::uint16_t flags;
  std::uint16_t method;
};

class ZipReader {
 public:
  explicit ZipReader(const MappedFile& file) : file_(file), bytes_(file) {}

  std::map<std::string, FileRange, std::less<>> read() const;

 private:
  [[noreturn]] void complain(const std::string& text) const {
    fail(ErrorKind::kInput,
         fmt::format("{}: torch archive: {}", file_.path().string(), text));
  }
  std::optional<std::uint64_t> find_end() const;
  Directory find_directory() const;
  Record read_record(std::uint64_t& at, std::uint64_t end) const;
  void read_extra(Record& record, std::uint64_t begin, std::uint64_t end,
                  std::uint32_t size, std::uint32_t stored_size,
                  std::uint32_t local) const;
  void check_record(const Record& record) const;
  FileRange locate(const Record& record, std::uint64_t directory) const;

  const MappedFile& file_;
  ByteReader bytes_;
};

// The end record is last in the file, before a comment of at most 65535 bytes
// whose length it names.
std::optional<std::uint64_t> ZipReader::find_end() const {
  if (bytes_.size() < kEndSize) return std::nullopt;
  const std::uint64_t last = bytes_.size() - kEndSize;
  const std::uint64_t first = last - std::min<std::uint64_t>(last, 0xffff);
  for (std::uint64_t at = last + 1; at-- > first;)
    if (bytes_.u32(at) == kDirectoryEnd && bytes_.u16(at + 20) == last - at)
      return at;
  return std::nullopt;
}

Directory ZipReader::find_directory() const {
  const std::optional<std::uint64_t> end = find_end();
  if (!end)
    complain("it has no zip directory at its end; the file is cut short");
  if (bytes_.u16(*end + 4) != 0 || bytes_.u16(*end + 6) != 0)
    complain("it is one part of a zip in several files");
  Directory out = {bytes_.u32(*end + 16), bytes_.u32(*end + 12),
                   bytes_.u16(*end + 10)};
  std::uint64_t limit = *end;
  if (*end >= kLocatorSize &&
      bytes_.u32(*end - kLocatorSize) == kDirectoryLocator64) {
    const std::uint64_t record = bytes_.u64(*end - kLocatorSize + 8);
    limit = *end - kLocatorSize;
    if (!bytes_.holds(record, kEnd64Size) || record > limit - kEnd64Size ||
        bytes_.u32(record) != kDirectoryEnd64)
      complain("its ZIP64 directory record is not where its locator says");
    out = {bytes_.u64(record + 48), bytes_.u64(record + 40),
           bytes_.u64(record + 32)};
    limit = record;
  }
  if (out.begin > limit || out.size > limit - out.begin)
    complain(
        fmt::format("its directory of {} bytes at {} does not fit the "
                    "file of {} bytes",
                    out.size, out.begin, bytes_.size()));
  // Before anything is made of the count.
  if (out.count > out.size / kCentralSize)
    complain(fmt::format("{} records do not fit a directory of {} bytes",
                         out.count, out.size));
  return out;
}

// Sizes and offset beyond 32 bits stand in the ZIP64 extra field, in this
// order, each only if its short field says so (4.5.3).
void ZipReader::read_extra(Record& record, std::uint64_t begin,
                           std::uint64_t end, std::uint32_t size,
                           std::uint32_t stored_size,
                           std::uint32_t local) const {
  record.size = size;
  record.stored_size = stored_size;
  record.local = local;
  if (size != kSee64 && stored_size != kSee64 && local != kSee64) return;
  for (std::uint64_t at = begin; end - at >= 4;) {
    const std::uint16_t id = bytes_.u16(at);
    const std::uint64_t length = bytes_.u16(at + 2);
    at += 4;
    if (length > end - at) break;
    if (id == 1) {
      std::uint64_t left = length, from = at;
      const auto take = [&](std::uint32_t field, std::uint64_t& out) {
        if (field != kSee64) return true;
        if (left < 8) return false;
        out = bytes_.u64(from);
        from += 8;
        left -= 8;
        return true;
      };
      if (take(size, record.size) && take(stored_size, record.stored_size) &&
          take(local, record.local))
        return;
      break;
    }
    at += length;
  }
  complain(fmt::format("record '{}': its ZIP64 sizes are missing",
                       printable(record.name)));
}

Record ZipReader::read_record(std::uint64_t& at, std::uint64_t end) const {
  if (end - at < kCentralSize || bytes_.u32(at) != kCentralHeader)
    complain(fmt::format("its directory is damaged at byte {}", at));
  const std::uint64_t name_size = bytes_.u16(at + 28);
  const std::uint64_t extra_size = bytes_.u16(at + 30);
  const std::uint64_t comment_size = bytes_.u16(at + 32);
  if (name_size + extra_size + comment_size > end - at - kCentralSize)
    complain(fmt::format("its directory is damaged at byte {}", at));
  Record out;
  out.name = bytes_.text(at + kCentralSize, name_size);
  out.flags = bytes_.u16(at + 8);
  out.method = bytes_.u16(at + 10);
  const std::uint64_t extra = at + kCentralSize + name_size;
  read_extra(out, extra, extra + extra_size, bytes_.u32(at + 24),
             bytes_.u32(at + 20), bytes_.u32(at + 42));
  at = extra + extra_size + comment_size;
  return out;
}

// Names never become paths here, so such a record is no danger; it is no part
// of the weights either.
bool climbs_out(std::string_view name) {
  if (name.empty() || name.front() == '/' ||
      name.find_first_of(std::string_view("\\\0", 2)) != std::string_view::npos)
    return true;
  if (name.back() == '/') name.remove_suffix(1);  // a folder of its own
  while (true) {
    const std::size_t slash = name.find('/');
    const std::string_view part = name.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return true;
    if (slash == std::string_view::npos) return false;
    name.remove_prefix(slash + 1);
  }
}

void ZipReader::check_record(const Record& record) const {
  if ((record.flags & 0x2041) != 0)  // bits 0, 6, 13: kinds of encryption
    complain(fmt::format("record '{}' is encrypted", printable(record.name)));
  if (record.method != 0 || record.size != record.stored_size)
    complain(
        fmt::format("record '{}' is compressed (method {}); torch.save "
                    "stores records as they are",
                    printable(record.name), record.method));
}

// The local header has lengths of its own: PyTorch pads its extra field so
// that data starts at a multiple of 64 bytes.
FileRange ZipReader::locate(const Record& record,
                            std::uint64_t directory) const {
  if (!bytes_.holds(record.local, kLocalSize) ||
      bytes_.u32(record.local) != kLocalHeader)
    complain(fmt::format("record '{}' is not where the directory says",
                         printable(record.name)));
  const std::uint64_t name_size = bytes_.u16(record.local + 26);
  const std::uint64_t begin =
      record.local + kLocalSize + name_size + bytes_.u16(record.local + 28);
  if (begin > directory || record.size > directory - begin)
    complain(
        fmt::format("record '{}' of {} bytes reaches past the end of the "
                    "data; the file is cut short or damaged",
                    printable(record.name), record.size));
  if (bytes_.text(record.local + kLocalSize, name_size) != record.name)
    complain(fmt::format("record '{}' has another name in its own header",
                         printable(record.name)));
  return {begin, record.size};
}

std::map<std::string, FileRange, std::less<>> ZipReader::read() const {
  const Directory directory = find_directory();
  constexpr std::string_view kPickle = "/data.pkl";
  std::map<std::string, FileRange, std::less<>> all;
  std::string root;
  std::uint64_t at = directory.begin;
  const std::uint64_t end = directory.begin + directory.size;
  for (std::uint64_t i = 0; i < directory.count; ++i) {
    const Record record = read_record(at, end);
    if (climbs_out(record.name)) continue;
    check_record(record);
    const FileRange range = locate(record, directory.begin);
    const std::string& name = record.name;
    if (name.ends_with(kPickle) &&
        name.find('/') == name.size() - kPickle.size()) {
      if (!root.empty() && name != root + "data.pkl")
        complain("it has more than one folder with a data.pkl");
      root = name.substr(0, name.size() - kPickle.size() + 1);
    }
    if (!all.emplace(name, range).second)
      complain(fmt::format("it has two records '{}'", printable(name)));
  }
  if (root.empty())
    complain("it has no <folder>/data.pkl; a zip, but not of torch.save");
  std::map<std::string, FileRange, std::less<>> out;
  for (auto it = all.lower_bound(root);
       it != all.end() && it->first.starts_with(root); ++it)
    out.emplace_hint(out.end(), it->first.substr(root.size()), it->second);
  return out;
}

}  // namespace

std::map<std::string, FileRange, std::less<>> read_torch_zip(
    const MappedFile& file) {
  return ZipReader(file).read();
}

bool starts_like_zip(const MappedFile& file) {
  const ByteReader bytes(file);
  if (!bytes.holds(0, 4)) return false;
  return bytes.u32(0) == kLocalHeader || bytes.u32(0) == kDirectoryEnd;
}

}  // namespace autoglm
