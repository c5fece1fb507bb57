// Text to token ids and back, for every tokenizer of the GLM line: byte-level
// BPE (`tokenizer.json`, tiktoken's `tokenizer.model`, GPT-2's `vocab.json` and
// `merges.txt`) and SentencePiece (`tokenizer.model`, `ice_text.model`,
// `cog-pretrain.model`). The files decide; what they leave open is as the
// family published it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

using TokenId = std::int32_t;

/// How encode() reads strings like "<|user|>" and the start of a text.
enum class TextForm {
  kUsual,     // as the family's published tokenizer does
  kPlain,     // special-token strings are ordinary text (a string that a
              // SentencePiece model itself holds as a symbol stays one)
  kSpecials,  // they are tokens; of ChatGLM3 the role strings are
  kContinued  // ChatGLM-6B: no blank is put before the text; else kUsual
};

/// How conversations are written down; see chat.h.
enum class ChatForm {
  kTemplate,        // <|role|>\ncontent as one text: tokenizer.json
  kRoleTokens,      // role token, "\n", content, each encoded by itself:
                    // GLM-4-9B, ChatGLM3
  kRoundsFromOne,   // [Round 1]\n\n...: ChatGLM2
  kRoundsFromZero,  // [Round 0]\n...: ChatGLM-6B
  kJoined           // contents on lines of their own: GLM 2021 has no form
};

/// What tells the second position and the visible part of a sequence in the
/// families with two positions per token.
struct BlankTokens {
  /// Groups in falling priority: the blank is the first token that belongs to
  /// the first group of which the sequence holds any.
  std::vector<std::vector<TokenId>> masks;
  TokenId start = 0;  // the generated text begins with it
};

struct LoadedTokenizer;

/// Immutable after loading and safe to use from several threads; copies share.
class Tokenizer {
 public:
  /// Reads a tokenizer file, or the one in a checkpoint folder. Throws kInput
  /// with the file and what is wrong or not supported.
  static Tokenizer load(const std::filesystem::path& path);

  /// True if `folder` holds a tokenizer file of a name we know.
  static bool exists(const std::filesystem::path& folder);

  /// For people: "byte-level BPE (tokenizer.json)".
  std::string kind() const;

  /// Ids of `text` (UTF-8; invalid bytes throw kInput). `with_special` adds
  /// what the family puts around a bare text: for GLM-4 [gMASK]<sop> before
  /// it, for ChatGLM-6B [gMASK] <sop> after it.
  std::vector<TokenId> encode(std::string_view text, bool with_special = false,
                              TextForm form = TextForm::kUsual) const;

  /// Text of `ids`; bytes that are not valid UTF-8 become U+FFFD. Special
  /// tokens are dropped if `skip_special`. Throws kInput on an unknown id.
  std::string decode(std::span<const TokenId> ids,
                     bool skip_special = false) const;

  /// UTF-8 bytes that a token stands for in running text (0 for special ones
  /// and unknown ids). Over an encoded text they add up to its bytes, except
  /// with SentencePiece: the blank that it puts before a text counts one, a
  /// run of unknown characters three, normalised text as it became.
  std::size_t token_bytes(TokenId id) const;

  /// Tokens that come before every evaluated text of this model family: what
  /// the post-processor of tokenizer.json puts in front of a text, or without
  /// a template [gMASK] and <sop> (or sop) when the vocabulary has both;
  /// [gMASK] sop of ChatGLM; [CLS] [gMASK] <|endoftext|> <|startofpiece|> of
  /// GLM 2021 ([MASK] where there is no [gMASK]); else nothing.
  std::vector<TokenId> prefix() const;

  /// The ids from which the model continues `text`: prefix() and the text;
  /// ChatGLM-6B: text [gMASK] <sop>; GLM 2021: [CLS] text [gMASK]
  /// <|endoftext|> <|startofpiece|>. A text of these two that holds a mask
  /// token gets no second one. Throws kInput on invalid UTF-8.
  std::vector<TokenId> prompt(std::string_view text) const;

  /// Only of ChatGLM-6B and GLM 2021, which have two positions per token.
  std::optional<BlankTokens> blank_tokens() const;

  ChatForm chat_form() const;

  /// By the spelling of the vocabulary file; of tiktoken by its bytes.
  std::optional<TokenId> find_token(std::string_view token) const;

  /// One more than the largest id.
  std::int64_t vocabulary_size() const;

 private:
  std::shared_ptr<const LoadedTokenizer> data_;
};

}  // namespace autoglm
