// Special tokens as the small JSON files beside a vocabulary describe them.
#include <charconv>

#include "autoglm/core/error.h"
#include "autoglm/core/json.h"
#include "autoglm/core/text.h"
#include "text/tokenizer_files.h"

namespace autoglm {

Json read_beside(const std::filesystem::path& file, const char* name) {
  const std::filesystem::path path = file.parent_path() / name;
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return Json::object();
  Json json = read_json(path);
  if (!json.is_object())
    fail(ErrorKind::kInput, path.string() + ": an object was expected");
  return json;
}

AddedToken read_added_token(const Json& json, bool special,
                            const std::string& source) {
  AddedToken token;
  if (json.is_string()) {
    token.content = json.get<std::string>();
    token.special = special;
    token.normalized = !special;
    return token;
  }
  if (!json.is_object())
    fail(ErrorKind::kInput,
         source + ": an added token is neither a string nor an object");
  token.content = json_string(json, "content", source);
  token.single_word = json_bool_or(json, "single_word", false, source);
  token.lstrip = json_bool_or(json, "lstrip", false, source);
  token.rstrip = json_bool_or(json, "rstrip", false, source);
  token.special = json_bool_or(json, "special", special, source);
  token.normalized = json_bool_or(json, "normalized", !token.special, source);
  return token;
}

std::vector<AddedToken> read_added_tokens_decoder(const Json& config,
                                                  const std::string& source) {
  std::vector<AddedToken> out;
  if (!config.contains("added_tokens_decoder")) return out;
  const Json& decoder = config["added_tokens_decoder"];
  if (!decoder.is_object())
    fail(ErrorKind::kInput,
         source + ": added_tokens_decoder should be an object");
  for (const auto& [key, value] : decoder.items()) {
    AddedToken token = read_added_token(value, true, source);
    const char* end = key.data() + key.size();
    const auto [stop, error] = std::from_chars(key.data(), end, token.id);
    if (error != std::errc() || stop != end || token.id < 0 ||
        token.id > kMaxTokenId)
      fail(ErrorKind::kInput,
           fmt::format("{}: added_tokens_decoder: '{}' is not an id from 0 to "
                       "{}",
                       source, key, kMaxTokenId));
    out.push_back(std::move(token));
  }
  return out;
}

}  // namespace autoglm
