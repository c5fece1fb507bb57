// tokenizer.json of Hugging Face's tokenizers library, with a byte-level BPE
// model: the file's own pre-tokenizer pattern, added tokens, merges and
// post-processor decide, nothing is assumed.
#include "autoglm/core/json.h"
#include "autoglm/core/text.h"
#include "text/byte_level.h"
#include "text/tokenizer_files.h"

namespace autoglm {
namespace {

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path)
      : source_(path.string()), json_(read_json(path)), builder_(source_) {
    if (!json_.is_object()) complain("an object was expected");
  }

  LoadedTokenizer read() {
    read_normalizer();
    read_pre_tokenizer(field("pre_tokenizer"), "pre_tokenizer");
    read_model();
    read_added_tokens();
    read_post_processor(field("post_processor"), "post_processor");
    read_decoder();
    out_.kind = "byte-level BPE (tokenizer.json)";
    out_.chat = ChatForm::kTemplate;
    out_.encoder = builder_.finish();
    out_.prefix = out_.before;
    if (out_.prefix.empty()) out_.prefix = named_prefix();
    out_.prompt.before = out_.prefix;
    return std::move(out_);
  }

 private:
  [[noreturn]] void complain(const std::string& text) const {
    builder_.complain(text);
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

  // Files without a template leave the prefix to the chat template.
  std::vector<TokenId> named_prefix() const {
    const auto mask = out_.encoder->find_token("[gMASK]");
    for (const char* name : {"<sop>", "sop"})
      if (const auto start = out_.encoder->find_token(name); mask && start)
        return {*mask, *start};
    return {};
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
      if (json.value("behavior", Json()) != "Isolated" ||
          flag(json, "invert", false))
        complain(where +
                 ": Split is supported with behavior Isolated, not "
                 "inverted");
      const Json pattern = json.value("pattern", Json());
      if (!pattern.is_object() || !pattern.contains("Regex") ||
          !pattern["Regex"].is_string())
        complain(where + ": Split has no pattern.Regex");
      builder_.model().splits.emplace_back(pattern["Regex"].get<std::string>(),
                                           source_);
    } else if (type == "ByteLevel") {
      byte_level_ = true;
      if (flag(json, "add_prefix_space", true))
        builder_.model().prefix_space = true;
      if (flag(json, "use_regex", true))
        builder_.model().splits.emplace_back(kGpt2Pattern, source_);
    } else {
      complain(fmt::format("{}: {} is not supported", where, type));
    }
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
    builder_.model().bpe.ignore_merges = flag(model, "ignore_merges", false);
    if (!model.contains("vocab") || !model["vocab"].is_object())
      complain("model.vocab is missing");
    builder_.add_vocabulary(model["vocab"]);
    read_merges(model);
  }

  void read_merges(const Json& model) {
    std::size_t number = 0;
    for (const Json& merge : list(model, "merges", "model")) {
      if (merge.is_string())
        builder_.add_merge(merge.get<std::string>());
      else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string())
        builder_.add_merge(merge[0].get<std::string>(),
                           merge[1].get<std::string>());
      else
        complain(fmt::format("merge number {} is not a pair", number));
      ++number;
    }
  }

  void read_added_tokens() {
    const Json added = field("added_tokens");
    if (added.is_null()) return;
    if (!added.is_array()) complain("added_tokens should be a list");
    for (const Json& json : added) {
      if (!json.is_object()) complain("an added token is not an object");
      AddedToken token =
          read_added_token(json, false, source_ + ": added_tokens");
      token.id =
          builder_.read_id(json.value("id", Json()),
                           fmt::format("the added token '{}'", token.content));
      builder_.add_special(std::move(token));
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
            .push_back(builder_.read_id(id, fmt::format("'{}'", name)));
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
  ByteLevelBuilder builder_;
  LoadedTokenizer out_;
  bool byte_level_ = false;
};

}  // namespace

LoadedTokenizer read_tokenizer_json(const std::filesystem::path& file) {
  return Reader(file).read();
}

}  // namespace autoglm
