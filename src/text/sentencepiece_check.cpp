// Walks the protocol buffer of a SentencePiece model without the library. The
// fields are those of sentencepiece_model.proto.
#include <bit>
#include <cstdint>
#include <cstring>

#include "autoglm/core/text.h"
#include "text/sentencepiece_model.h"

namespace autoglm {
namespace {

// ModelProto, NormalizerSpec, TrainerSpec.
constexpr std::uint64_t kPieces = 1, kTrainer = 2, kNormalizer = 3,
                        kDenormalizer = 5;
constexpr std::uint64_t kCharacterMap = 2;
constexpr std::uint64_t kModelType = 3, kBpe = 2;

// The fields of one message in order; stops with cut() where the bytes are not
// whole fields.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : rest_(bytes) {}

  std::uint64_t number = 0;  // of the field
  std::uint64_t value = 0;   // of a varint
  std::string_view content;  // of bytes, text and messages

  /// Goes to the next field.
  bool next() {
    if (rest_.empty()) return false;
    number = varint();
    const std::uint64_t type = number & 7;
    number >>= 3;
    value = 0;
    content = {};
    if (type == 0)
      value = varint();
    else if (type == 1)
      take(8);
    else if (type == 2)
      content = take(varint());
    else if (type == 5)
      take(4);
    else
      cut_ = true;
    return !cut_;
  }

  bool cut() const { return cut_; }

 private:
  std::uint64_t varint() {
    std::uint64_t out = 0;
    for (int shift = 0; shift < 64 && !cut_; shift += 7) {
      const std::string_view byte = take(1);
      if (byte.empty()) return 0;
      out |= static_cast<std::uint64_t>(byte[0] & 0x7F) << shift;
      if ((byte[0] & 0x80) == 0) return out;
    }
    cut_ = true;
    return 0;
  }

  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) {
      cut_ = true;
      rest_ = {};
    }
    const std::string_view out =
        rest_.substr(0, static_cast<std::size_t>(size));
    rest_.remove_prefix(out.size());
    return out;
  }

  std::string_view rest_;
  bool cut_ = false;
};

std::uint32_t word(std::string_view bytes, std::size_t index) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.data() + 4 * index, 4);
  return value;
}

// A character map is a size, a double-array trie of 32-bit units (darts-clone)
// and texts that end with NUL, to which the trie's values point. The library
// follows it without looking at its ends. From unit i it goes to
// i ^ offset(i) ^ byte, so all 256 of these must lie inside.
bool character_map_fits(std::string_view map) {
  if (map.empty()) return true;
  if (map.size() <= 4) return false;
  const std::size_t trie_bytes = word(map, 0);
  map.remove_prefix(4);
  if (trie_bytes >= map.size() || trie_bytes % 4 != 0 || trie_bytes == 0)
    return false;
  const std::size_t texts = map.size() - trie_bytes;
  if (map.back() != '\0') return false;
  const std::size_t units = trie_bytes / 4;
  for (std::size_t i = 0; i < units; ++i) {
    const std::uint32_t unit = word(map, i);
    if (unit >> 31) {
      if ((unit & 0x7FFFFFFF) >= texts) return false;
      continue;
    }
    const std::size_t offset = (unit >> 10) << ((unit & 0x200) >> 6);
    if (((i ^ offset) | 0xFF) >= units) return false;
  }
  return true;
}

// A normalizer or denormalizer; "" if the library may have it.
std::string normalizer_problem(std::string_view message) {
  Fields spec(message);
  while (spec.next())
    if (spec.number == kCharacterMap && !character_map_fits(spec.content))
      return "its character map is damaged";
  return spec.cut() ? "its normalizer is damaged" : "";
}

}  // namespace

std::string sentencepiece_problem(std::string_view file) {
  static_assert(std::endian::native == std::endian::little);
  Fields model(file);
  std::size_t pieces = 0;
  bool trainer = false, normalizer = false;
  while (model.next()) {
    if (model.number == kPieces) ++pieces;
    if (model.number == kTrainer) trainer = true;
    if (model.number != kNormalizer && model.number != kDenormalizer) continue;
    normalizer = normalizer || model.number == kNormalizer;
    const std::string problem = normalizer_problem(model.content);
    if (!problem.empty()) return problem;
  }
  if (model.cut()) return fmt::format("cut or damaged after {} pieces", pieces);
  if (pieces == 0) return "it has no pieces";
  // Every trainer writes both behind the pieces.
  if (!trainer || !normalizer)
    return fmt::format("it ends after {} pieces, without its settings", pieces);
  return "";
}

bool is_sentencepiece_bpe(std::string_view file) {
  std::uint64_t type = 0;
  for (Fields model(file); model.next();) {
    if (model.number != kTrainer) continue;
    for (Fields trainer(model.content); trainer.next();)
      if (trainer.number == kModelType) type = trainer.value;
  }
  return type == kBpe;
}

}  // namespace autoglm
