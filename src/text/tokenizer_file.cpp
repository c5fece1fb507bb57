#include "text/tokenizer_file.h"

#include <limits>

#include "autoglm/core/error.h"
#include "autoglm/core/json.h"
#include "autoglm/core/text.h"
#include "text/byte_alphabet.h"

namespace autoglm {
namespace {

// Ids beyond this are no token ids; it bounds the table a file can ask for.
constexpr std::int64_t kMaxId = 1 << 24;

// The pattern that ByteLevel applies itself when use_regex is true (GPT-2).
constexpr const char* kByteLevelPattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
    "\\s+(?!\\S)|\\s+";

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path)
      : source_(path.string()), json_(read_json(path)) {
    if (!json_.is_object()) complain("an object was expected");
  }

  TokenizerFile read() {
    read_normalizer();
    read_pre_tokenizer(field("pre_tokenizer"), "pre_tokenizer");
    read_model();
    read_added_tokens();
    read_post_processor(field("post_processor"), "post_processor");
    read_decoder();
    return std::move(out_);
  }

 private:
  [[noreturn]] void complain(const std::string& text) const {
    fail(ErrorKind::kInput, source_ + ": " + text);
  }

  Json field(const char* key) const {
    return json_.contains(key) ? json_[key] : Json();
  }

  std::string type_of(const Json& json, const std::string& where) const {
    if (!json.is_object() || !json.contains("type") ||
        !json["type"].is_string())
      complain(where + " has no type");
    return json["type"].get<std::string>();
  }

  const Json& list(const Json& json, const char* key,
                   const std::string& where) const {
    if (!json.contains(key) || !json[key].is_array())
      complain(fmt::format("{}.{} should be a list", where, key));
    return json[key];
  }

  bool flag(const Json& json, const char* key, bool fallback) const {
    return json_bool_or(json, key, fallback, source_);
  }

  void read_normalizer() const {
    const Json normalizer = field("normalizer");
    if (normalizer.is_null()) return;
    const std::string type = type_of(normalizer, "normalizer");
    if (type == "Sequence" &&
        list(normalizer, "normalizers", "normalizer").empty())
      return;
    complain(fmt::format("normalizer {} is not supported", type));
  }

  void read_pre_tokenizer(const Json& json, const std::string& where) {
    if (json.is_null()) return;
    const std::string type = type_of(json, where);
    if (type == "Sequence") {
      for (const Json& step : list(json, "pretokenizers", where))
        read_pre_tokenizer(step, where);
    } else if (type == "Split") {
      if (json.value("behavior", std::string()) != "Isolated" ||
          flag(json, "invert", false))
        complain(where +
                 ": Split is supported with behavior Isolated, not "
                 "inverted");
      const Json pattern = json.value("pattern", Json());
      if (!pattern.is_object() || !pattern.contains("Regex") ||
          !pattern["Regex"].is_string())
        complain(where + ": Split has no pattern.Regex");
      out_.splits.emplace_back(pattern["Regex"].get<std::string>(), source_);
    } else if (type == "ByteLevel") {
      byte_level_ = true;
      if (flag(json, "add_prefix_space", true)) out_.prefix_space = true;
      if (flag(json, "use_regex", true))
        out_.splits.emplace_back(kByteLevelPattern, source_);
    } else {
      complain(fmt::format("{}: {} is not supported", where, type));
    }
  }

  TokenId read_id(const Json& value, const std::string& what) const {
    if (!value.is_number_integer() || value.get<std::int64_t>() < 0 ||
        value.get<std::int64_t>() > kMaxId)
      complain(fmt::format("the id of {} is not a number from 0 to {}", what,
                           kMaxId));
    return value.get<TokenId>();
  }

  void place(TokenId id, std::string bytes, bool special) {
    const auto index = static_cast<std::size_t>(id);
    if (index >= out_.tokens.size()) out_.tokens.resize(index + 1);
    out_.tokens[index] = {std::move(bytes), true, special};
  }

  void read_model() {
    const Json model = field("model");
    if (!model.is_object()) complain("model is missing");
    // Old files leave the type out; they are BPE when they have merges.
    const std::string type =
        model.contains("type") ? type_of(model, "model")
                               : (model.contains("merges") ? "BPE" : "(none)");
    if (type != "BPE")
      complain(fmt::format("unsupported tokenizer model {}; BPE is supported",
                           type));
    if (!byte_level_)
      complain(
          "only byte-level BPE is supported, and there is no ByteLevel "
          "pre-tokenizer");
    for (const char* key : {"dropout", "continuing_subword_prefix",
                            "end_of_word_suffix", "unk_token"})
      if (model.contains(key) && !model[key].is_null() && model[key] != "" &&
          model[key] != 0.0)
        complain(fmt::format("model.{} is not supported", key));
    if (flag(model, "byte_fallback", false))
      complain("model.byte_fallback is not supported");
    out_.model.ignore_merges = flag(model, "ignore_merges", false);
    read_vocabulary(model);
    read_merges(model);
  }

  void read_vocabulary(const Json& model) {
    if (!model.contains("vocab") || !model["vocab"].is_object())
      complain("model.vocab is missing");
    for (const auto& [text, value] : model["vocab"].items()) {
      const TokenId id = read_id(value, fmt::format("'{}'", text));
      if (static_cast<std::size_t>(id) < out_.tokens.size() &&
          out_.tokens[static_cast<std::size_t>(id)].known)
        complain(fmt::format("the id {} is given to two tokens", id));
      // A text outside the alphabet can never come out of a merge of bytes.
      const std::string bytes = alphabet_to_bytes(text).value_or(text);
      out_.model.ids[bytes] = id;
      place(id, bytes, false);
    }
    for (int b = 0; b < 256; ++b) {
      const auto found =
          out_.model.ids.find(std::string(1, static_cast<char>(b)));
      out_.model.byte_ids[b] =
          found == out_.model.ids.end() ? -1 : found->second;
    }
  }

  void read_merges(const Json& model) {
    std::int32_t rank = 0;
    for (const Json& merge : list(model, "merges", "model")) {
      std::string left, right;
      if (merge.is_string()) {
        const std::string text = merge.get<std::string>();
        const std::size_t space = text.find(' ');
        if (space == std::string::npos ||
            text.find(' ', space + 1) != std::string::npos)
          complain(fmt::format("merge '{}' is not a pair", text));
        left = text.substr(0, space);
        right = text.substr(space + 1);
      } else if (merge.is_array() && merge.size() == 2 &&
                 merge[0].is_string() && merge[1].is_string()) {
        left = merge[0].get<std::string>();
        right = merge[1].get<std::string>();
      } else {
        complain(fmt::format("merge number {} is not a pair", rank));
      }
      const auto id = [&](const std::string& token) {
        const auto found =
            out_.model.ids.find(alphabet_to_bytes(token).value_or(token));
        if (found == out_.model.ids.end())
          complain(
              fmt::format("merge '{} {}' uses the token '{}', which is not "
                          "in the vocabulary",
                          left, right, token));
        return found->second;
      };
      const TokenId a = id(left), b = id(right);
      out_.model.merges[static_cast<std::uint64_t>(a) << 32 |
                        static_cast<std::uint32_t>(b)] = {rank++,
                                                          id(left + right)};
    }
  }

  void read_added_tokens() {
    const Json added = field("added_tokens");
    if (added.is_null()) return;
    if (!added.is_array()) complain("added_tokens should be a list");
    for (const Json& json : added) {
      if (!json.is_object()) complain("an added token is not an object");
      AddedToken token;
      token.content = json_string(json, "content", source_ + ": added_tokens");
      token.id = read_id(json.value("id", Json()),
                         fmt::format("the added token '{}'", token.content));
      token.single_word = flag(json, "single_word", false);
      token.lstrip = flag(json, "lstrip", false);
      token.rstrip = flag(json, "rstrip", false);
      token.special = flag(json, "special", false);
      token.normalized = flag(json, "normalized", !token.special);
      place(token.id, alphabet_to_bytes(token.content).value_or(token.content),
            token.special);
      out_.added.push_back(std::move(token));
    }
  }

  void read_post_processor(const Json& json, const std::string& where) {
    if (json.is_null()) return;
    const std::string type = type_of(json, where);
    if (type == "ByteLevel") return;  // changes offsets only
    if (type == "Sequence") {
      for (const Json& step : list(json, "processors", where))
        read_post_processor(step, where);
      return;
    }
    if (type != "TemplateProcessing")
      complain(fmt::format("{}: {} is not supported", where, type));
    bool seen_text = false;
    for (const Json& piece : list(json, "single", where)) {
      if (piece.contains("Sequence")) {
        seen_text = true;
        continue;
      }
      if (!piece.contains("SpecialToken"))
        complain(where + ": a template piece is neither text nor token");
      const std::string name =
          json_string(piece["SpecialToken"], "id", source_ + ": " + where);
      const Json specials = json.value("special_tokens", Json::object());
      if (!specials.contains(name))
        complain(
            fmt::format("{}: the template names '{}', which "
                        "special_tokens does not list",
                        where, name));
      for (const Json& id : list(specials[name], "ids", where))
        (seen_text ? out_.after : out_.before)
            .push_back(read_id(id, fmt::format("'{}'", name)));
    }
  }

  void read_decoder() const {
    const Json decoder = field("decoder");
    if (decoder.is_null()) return;
    if (const std::string type = type_of(decoder, "decoder");
        type != "ByteLevel")
      complain(fmt::format("decoder {} is not supported", type));
  }

  std::string source_;
  Json json_;
  TokenizerFile out_;
  bool byte_level_ = false;
};

}  // namespace

TokenizerFile read_tokenizer_file(const std::filesystem::path& file) {
  return Reader(file).read();
}

}  // namespace autoglm
