// ice_text.model of ChatGLM-6B: SentencePiece that holds its special tokens
// itself, but cannot hold newlines, tabs and runs of blanks, which are
// rewritten to symbols of their own before and after.
#include <charconv>

#include "autoglm/core/error.h"
#include "autoglm/core/json.h"
#include "autoglm/core/text.h"
#include "text/byte_alphabet.h"
#include "text/sentencepiece_model.h"
#include "text/tokenizer_files.h"

namespace autoglm {
namespace {

constexpr std::size_t kMostBlanks = 80;  // in one symbol
constexpr std::string_view kNewline = "<n>", kTab = "<|tab|>",
                           kBlanks = "<|blank_";
// The first release (150528 rows) put ids for images before those of text.
constexpr std::int64_t kFirstReleaseImages = 20000;

// Symbols of the model that are not text.
constexpr const char* kSpecials[] = {
    "<unk>",   "<s>",   "</s>",       "<pad>", "[MASK]", "[gMASK]",
    "[sMASK]", "<sop>", "<unused_0>", "<eop>", "<ENC>",  "<dBLOCK>"};

std::string rewrite(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '\n') {
      out += kNewline;
    } else if (text[at] == '\t') {
      out += kTab;
    } else if (text[at] == ' ') {
      std::size_t end = text.find_first_not_of(' ', at);
      end = std::min({end, text.size(), at + kMostBlanks});
      if (end - at > 1)
        out += fmt::format("{}{}|>", kBlanks, end - at);
      else
        out += ' ';
      at = end;
      continue;
    } else {
      out += text[at];
    }
    ++at;
  }
  return out;
}

// How many blanks a symbol at the start of `text` stands for, and its length;
// 0 if there is none.
std::size_t blank_symbol(std::string_view text, std::size_t& length) {
  if (!text.starts_with(kBlanks)) return 0;
  std::size_t count = 0;
  const char* begin = text.data() + kBlanks.size();
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, count);
  length = static_cast<std::size_t>(stop - text.data()) + 2;
  if (error != std::errc() || count > kMostBlanks ||
      !std::string_view(stop, static_cast<std::size_t>(end - stop))
           .starts_with("|>"))
    return 0;
  return count;
}

std::string restore(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    std::size_t length = 1;
    if (text.starts_with(kNewline)) {
      out += '\n';
      length = kNewline.size();
    } else if (text.starts_with(kTab)) {
      out += '\t';
      length = kTab.size();
    } else if (const std::size_t blanks = blank_symbol(text, length);
               blanks > 0) {
      out.append(blanks, ' ');
    } else {
      out += text[0];
      length = 1;
    }
    text.remove_prefix(length);
  }
  return out;
}

class IceTextEncoder final : public Encoder {
 public:
  IceTextEncoder(SentencePieceModel model, TokenId images)
      : model_(std::move(model)),
        images_(images),
        special_(static_cast<std::size_t>(model_.size())) {
    for (const char* name : kSpecials)
      if (const auto id = model_.find(name))
        special_[static_cast<std::size_t>(*id)] = true;
  }

  std::vector<TokenId> encode(std::string_view text,
                              TextForm form) const override {
    std::string rewritten = rewrite(text);
    const bool continued = form == TextForm::kContinued;
    if (continued) rewritten.insert(0, kNewline);
    std::vector<TokenId> ids = model_.encode(rewritten);
    // The blank that SentencePiece puts before every text, and the newline
    // that kept it away from this one.
    if (continued)
      ids.erase(ids.begin(),
                ids.begin() + std::min<std::ptrdiff_t>(2, std::ssize(ids)));
    for (TokenId& id : ids) id += images_;
    return ids;
  }

  std::string decode(std::span<const TokenId> ids,
                     bool skip_special) const override {
    std::vector<TokenId> pieces;
    for (const TokenId id : ids) {
      if (id < 0 || id >= vocabulary_size()) fail_unknown_id(id);
      if (id < images_ || (skip_special && is_special(id))) continue;
      pieces.push_back(id - images_);
    }
    return to_valid_utf8(restore(model_.decode(pieces)));
  }

  std::size_t token_bytes(TokenId id) const override {
    if (id < images_ || id >= vocabulary_size() || is_special(id)) return 0;
    const std::string& piece = model_.piece(id - images_);
    std::size_t length = 0;
    if (piece == kNewline || piece == kTab) return 1;
    if (const std::size_t blanks = blank_symbol(piece, length)) return blanks;
    return model_.piece_bytes(id - images_);
  }

  std::optional<TokenId> find_token(std::string_view token) const override {
    const auto id = model_.find(token);
    if (!id) return std::nullopt;
    return *id + images_;
  }

  std::int64_t vocabulary_size() const override {
    return model_.size() + images_;
  }

 private:
  bool is_special(TokenId id) const {
    return special_[static_cast<std::size_t>(id - images_)];
  }

  SentencePieceModel model_;
  TokenId images_;             // is added to every id
  std::vector<bool> special_;  // by piece
};

// tokenizer_config.json says it; where it does not, the rows of the model.
TokenId read_image_tokens(const std::filesystem::path& file, TokenId pieces) {
  constexpr const char* kKey = "num_image_tokens";
  const std::string source =
      (file.parent_path() / "tokenizer_config.json").string();
  const Json own = read_beside(file, "tokenizer_config.json");
  std::int64_t images = 0;
  if (own.contains(kKey)) {
    images = json_int(own, kKey, source);
  } else {
    const Json config = read_beside(file, "config.json");
    const std::int64_t rows = json_int_or(
        config, "vocab_size", 0, (file.parent_path() / "config.json").string());
    if (rows - pieces >= kFirstReleaseImages) images = kFirstReleaseImages;
  }
  if (images < 0 || images > kMaxTokenId - pieces)
    fail(ErrorKind::kInput, fmt::format("{}: {} is not a number from 0 to {}",
                                        source, kKey, kMaxTokenId - pieces));
  return static_cast<TokenId>(images);
}

}  // namespace

LoadedTokenizer read_ice_text(const std::filesystem::path& file) {
  SentencePieceModel model(file);
  if (model.size() > kMaxTokenId)
    fail(ErrorKind::kInput, file.string() + ": too many pieces");
  const TokenId images = read_image_tokens(file, model.size());
  LoadedTokenizer out;
  out.kind = "SentencePiece (ice_text.model)";
  out.chat = ChatForm::kRoundsFromZero;
  out.encoder = std::make_unique<IceTextEncoder>(std::move(model), images);
  const auto require = [&](const char* name) {
    const auto id = out.encoder->find_token(name);
    if (!id)
      fail(ErrorKind::kInput,
           fmt::format("{}: the model has no piece {}", file.string(), name));
    return *id;
  };
  const TokenId blank = require("[MASK]"), rest = require("[gMASK]"),
                start = require("<sop>");
  out.after = out.prefix = {rest, start};
  out.prompt.masks = {rest, blank};
  out.prompt.after = {start};
  out.blanks = BlankTokens{{{rest}, {blank}}, start};
  return out;
}

}  // namespace autoglm
