#include "text/sentencepiece_model.h"

#include <sentencepiece_processor.h>

#include <exception>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

constexpr std::string_view kBlank = "\u2581";
constexpr std::size_t kUnknownBytes = 3;
// The library needs 90 bytes of memory per byte of text, and time beyond the
// caches; larger parts are slower, smaller ones no faster.
constexpr std::size_t kPartBytes = 1 << 14;

std::size_t text_bytes(std::string_view piece) {
  std::size_t bytes = piece.size();
  for (std::size_t at = 0;
       (at = piece.find(kBlank, at)) != std::string_view::npos;
       at += kBlank.size())
    bytes -= kBlank.size() - 1;
  return bytes;
}

bool is_letter(char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }

// A single blank between two letters, from `at` on.
std::size_t find_cut(std::string_view text, std::size_t at) {
  for (; (at = text.find(' ', at)) < text.size(); ++at)
    if (at > 0 && at + 1 < text.size() && is_letter(text[at - 1]) &&
        is_letter(text[at + 1]))
      return at;
  return std::string_view::npos;
}

// The library answers with a status; the little that it throws (out of memory,
// a trie that cannot be built) must not leave it as a foreign exception.
void check(const sentencepiece::util::Status& status,
           const std::string& source) {
  if (!status.ok())
    fail(ErrorKind::kInput,
         fmt::format("{}: the SentencePiece library refuses it: {}", source,
                     status.error_message()));
}

}  // namespace

struct SentencePieceModel::Library {
  sentencepiece::SentencePieceProcessor processor;
  std::string source;
};

SentencePieceModel::SentencePieceModel(const std::filesystem::path& file) {
  auto library = std::make_unique<Library>();
  library->source = file.string();
  const std::string content = read_file(file);
  if (const std::string problem = sentencepiece_problem(content);
      !problem.empty())
    fail(ErrorKind::kInput,
         fmt::format("{}: not a usable SentencePiece model: {}",
                     library->source, problem));
  try {
    check(library->processor.LoadFromSerializedProto(content), library->source);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    fail(ErrorKind::kInput,
         fmt::format("{}: the SentencePiece library refuses it: {}",
                     library->source, error.what()));
  }
  const auto& processor = library->processor;
  pieces_.resize(static_cast<std::size_t>(processor.GetPieceSize()));
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    Piece& piece = pieces_[static_cast<std::size_t>(id)];
    piece.text = processor.IdToPiece(id);
    piece.control = processor.IsControl(id);
    if (processor.IsByte(id))
      piece.bytes = 1;
    else if (processor.IsUnknown(id))
      piece.bytes = kUnknownBytes;
    else if (!piece.control)
      piece.bytes = text_bytes(piece.text);
  }
  library_ = std::move(library);
  divisible_ = is_sentencepiece_bpe(content) && merges_stop_at_blanks();
}

SentencePieceModel::~SentencePieceModel() = default;
SentencePieceModel::SentencePieceModel(SentencePieceModel&&) noexcept = default;

// No piece reaches over a blank, and the library puts before a text the blank
// at which we cut: the parts of a text have the ids of the whole.
bool SentencePieceModel::merges_stop_at_blanks() const {
  for (const Piece& piece : pieces_) {
    std::string_view text = piece.text;
    while (text.starts_with(kBlank)) text.remove_prefix(kBlank.size());
    if (text.find(kBlank) != std::string_view::npos) return false;
  }
  std::vector<TokenId> whole, parts;
  encode_whole("a b", whole);
  encode_whole("a", parts);
  encode_whole("b", parts);
  return whole == parts;
}

std::vector<TokenId> SentencePieceModel::encode(std::string_view text) const {
  std::vector<TokenId> ids;
  while (divisible_ && text.size() > kPartBytes) {
    const std::size_t cut = find_cut(text, kPartBytes);
    if (cut == std::string_view::npos) break;
    encode_whole(text.substr(0, cut), ids);
    text.remove_prefix(cut + 1);
  }
  encode_whole(text, ids);
  return ids;
}

void SentencePieceModel::encode_whole(std::string_view text,
                                      std::vector<TokenId>& out) const {
  std::vector<TokenId> ids;
  check(library_->processor.Encode(text, &ids), library_->source);
  out.insert(out.end(), ids.begin(), ids.end());
}

std::string SentencePieceModel::decode(const std::vector<TokenId>& ids) const {
  std::string text;
  check(library_->processor.Decode(ids, &text), library_->source);
  return text;
}

std::optional<TokenId> SentencePieceModel::find(std::string_view piece) const {
  // The library answers with the unknown piece for what it does not have.
  const TokenId id = library_->processor.PieceToId(piece);
  if (id < 0 || id >= size() || this->piece(id) != piece) return std::nullopt;
  return id;
}

const std::string& SentencePieceModel::piece(TokenId id) const {
  return pieces_[static_cast<std::size_t>(id)].text;
}

std::size_t SentencePieceModel::piece_bytes(TokenId id) const {
  return pieces_[static_cast<std::size_t>(id)].bytes;
}

bool SentencePieceModel::is_control(TokenId id) const {
  return pieces_[static_cast<std::size_t>(id)].control;
}

}  // namespace autoglm
