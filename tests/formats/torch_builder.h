// Zips and pickles made by hand, honest or not.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace autoglm::test {

/// `value` as `bytes` little-endian bytes.
inline std::string little(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
  return out;
}

struct ZipRecord {
  std::string name;
  std::string data;
  std::uint16_t method = 0;  // 0 stored, 8 deflated
  std::uint16_t flags = 0;   // 1 encrypted
  std::string local_extra = "";
  bool aligned = false;  // more of it, so that data starts at a multiple of 64
  std::string local_name = "";  // another name in the record's own header
  bool zip64 = false;           // sizes and offset in the ZIP64 field
  std::int64_t more_bytes = 0;  // claimed above the data's
};

struct ZipForm {
  bool zip64 = false;             // ZIP64 end record and locator
  std::string comment = "";       // at the end of the file
  std::int64_t more_records = 0;  // claimed above those there are
};

inline std::string make_zip(const std::vector<ZipRecord>& records,
                            const ZipForm& form = {}) {
  std::string out, directory;
  for (const ZipRecord& record : records) {
    const std::uint64_t offset = out.size();
    const std::uint64_t size =
        record.data.size() + static_cast<std::uint64_t>(record.more_bytes);
    const std::string& local =
        record.local_name.empty() ? record.name : record.local_name;
    std::string local_extra = record.local_extra;
    if (record.aligned)
      while ((offset + 30 + local.size() + local_extra.size()) % 64 != 0)
        local_extra += '\0';
    out += "PK\x03\x04" + little(45, 2) + little(record.flags, 2) +
           little(record.method, 2) + std::string(8, '\0') + little(size, 4) +
           little(size, 4) + little(local.size(), 2) +
           little(local_extra.size(), 2) + local + local_extra + record.data;
    std::string extra;
    // A field of another kind comes first.
    if (record.zip64)
      extra = little(0x7777, 2) + little(3, 2) + "abc" + little(1, 2) +
              little(24, 2) + little(size, 8) + little(size, 8) +
              little(offset, 8);
    const auto shorten = [&](std::uint64_t value) {
      return little(record.zip64 ? 0xffffffff : value, 4);
    };
    directory += "PK\x01\x02" + little(45, 2) + little(45, 2) +
                 little(record.flags, 2) + little(record.method, 2) +
                 std::string(8, '\0') + shorten(size) + shorten(size) +
                 little(record.name.size(), 2) + little(extra.size(), 2) +
                 std::string(10, '\0') + shorten(offset) + record.name + extra;
  }
  const std::uint64_t begin = out.size();
  const std::uint64_t count =
      records.size() + static_cast<std::uint64_t>(form.more_records);
  out += directory;
  if (form.zip64) {
    const std::uint64_t end = out.size();
    out += "PK\x06\x06" + little(44, 8) + little(45, 2) + little(45, 2) +
           little(0, 8) + little(count, 8) + little(count, 8) +
           little(directory.size(), 8) + little(begin, 8);
    out += "PK\x06\x07" + little(0, 4) + little(end, 8) + little(1, 4);
  }
  out += "PK\x05\x06" + little(0, 4);
  if (form.zip64)
    out += little(0xffff, 2) + little(0xffff, 2) + little(0xffffffff, 4) +
           little(0xffffffff, 4);
  else
    out += little(count, 2) + little(count, 2) + little(directory.size(), 4) +
           little(begin, 4);
  return out + little(form.comment.size(), 2) + form.comment;
}

// Pieces of a pickle. Each leaves one value on the stack.

inline std::string text(const std::string& value) {
  return 'X' + little(value.size(), 4) + value;
}
inline std::string integer(std::int64_t value) {
  return "\x8a\x08" + little(static_cast<std::uint64_t>(value), 8);
}
inline std::string global(const std::string& module, const std::string& name) {
  return 'c' + module + '\n' + name + '\n';
}
inline std::string tuple(const std::vector<std::string>& items) {
  std::string out = "(";
  for (const std::string& item : items) out += item;
  return out + 't';
}
inline std::string integers(const std::vector<std::int64_t>& values) {
  std::vector<std::string> items;
  for (const std::int64_t value : values) items.push_back(integer(value));
  return tuple(items);
}
inline std::string call(const std::string& function,
                        const std::vector<std::string>& arguments) {
  return function + tuple(arguments) + 'R';
}
inline std::string mapping(
    const std::vector<std::pair<std::string, std::string>>& items) {
  std::string out = "}(";
  for (const auto& [key, value] : items) out += text(key) + value;
  return out + 'u';
}

inline std::string storage(const std::string& type, const std::string& key,
                           std::int64_t count) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"),
                integer(count)}) +
         'Q';
}

struct BuiltTensor {
  std::string type = "FloatStorage";
  std::string key = "0";
  std::int64_t count = 6;  // elements of the storage
  std::int64_t offset = 0;
  std::vector<std::int64_t> size = {2, 3};
  std::vector<std::int64_t> strides = {3, 1};
};

inline std::string tensor(const BuiltTensor& t = {}) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              {storage(t.type, t.key, t.count), integer(t.offset),
               integers(t.size), integers(t.strides), "\x89",
               call(global("collections", "OrderedDict"), {})});
}

/// A whole pickle of one value.
inline std::string pickle(const std::string& value) {
  return "\x80\x02" + value + '.';
}

/// A torch archive with one pickled value and storages 0, 1, ...
inline std::string make_archive(const std::string& value,
                                const std::vector<std::string>& storages) {
  std::vector<ZipRecord> records = {{"archive/data.pkl", pickle(value)}};
  for (std::size_t i = 0; i < storages.size(); ++i) {
    records.push_back({"archive/data/" + std::to_string(i), storages[i]});
    records.back().aligned = true;
  }
  return make_zip(records);
}

}  // namespace autoglm::test
