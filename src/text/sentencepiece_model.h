// A SentencePiece model: Google's library behind one door. Its files are
// checked before the library sees them, and its errors become ours.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autoglm/text/tokenizer.h"

namespace autoglm {

class SentencePieceModel {
 public:
  /// Throws kInput with the file's name.
  explicit SentencePieceModel(const std::filesystem::path& file);
  ~SentencePieceModel();
  SentencePieceModel(SentencePieceModel&&) noexcept;

  std::vector<TokenId> encode(std::string_view text) const;
  /// `ids` are below size().
  std::string decode(const std::vector<TokenId>& ids) const;

  /// Number of pieces; ids are 0 .. size() - 1.
  TokenId size() const { return static_cast<TokenId>(pieces_.size()); }
  std::optional<TokenId> find(std::string_view piece) const;
  const std::string& piece(TokenId id) const;
  /// Bytes of running text: one for a blank (U+2581 in the piece) and for a
  /// byte piece, three for an unknown character (most are CJK), none for
  /// control pieces.
  std::size_t piece_bytes(TokenId id) const;
  bool is_control(TokenId id) const;

 private:
  struct Library;
  struct Piece {
    std::string text;
    std::size_t bytes = 0;
    bool control = false;
  };

  bool merges_stop_at_blanks() const;
  void encode_whole(std::string_view text, std::vector<TokenId>& out) const;

  std::unique_ptr<const Library> library_;
  std::vector<Piece> pieces_;
  bool divisible_ = false;  // long texts may be cut at blanks
};

/// What is wrong with the bytes of a SentencePiece model file, or "". Finds
/// cut files and tables that would make the library read outside its memory.
std::string sentencepiece_problem(std::string_view file);

/// True if the model merges pairs (and does not search the likeliest pieces).
bool is_sentencepiece_bpe(std::string_view file);

}  // namespace autoglm
