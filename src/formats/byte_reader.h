// Little-endian numbers out of a mapped file. Reading past its end is our bug
// (callers check with holds()) and stops with kInternal instead of a crash.
#pragma once

#include <cstdint>
#include <string_view>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"

namespace autoglm {

class ByteReader {
 public:
  explicit ByteReader(const MappedFile& file)
      : data_(reinterpret_cast<const char*>(file.data())), size_(file.size()) {}

  std::uint64_t size() const { return size_; }
  bool holds(std::uint64_t at, std::uint64_t count) const {
    return at <= size_ && count <= size_ - at;
  }
  std::uint16_t u16(std::uint64_t at) const {
    return static_cast<std::uint16_t>(number(at, 2));
  }
  std::uint32_t u32(std::uint64_t at) const {
    return static_cast<std::uint32_t>(number(at, 4));
  }
  std::uint64_t u64(std::uint64_t at) const { return number(at, 8); }
  std::string_view text(std::uint64_t at, std::uint64_t count) const {
    AUTOGLM_ENSURE(holds(at, count));
    return {data_ + at, count};
  }

 private:
  std::uint64_t number(std::uint64_t at, int count) const {
    AUTOGLM_ENSURE(holds(at, static_cast<std::uint64_t>(count)));
    std::uint64_t out = 0;
    for (int i = count - 1; i >= 0; --i)
      out = out << 8 | static_cast<unsigned char>(data_[at + i]);
    return out;
  }
  const char* data_;
  std::uint64_t size_;
};

}  // namespace autoglm
