#include "text/glm_2021.h"

#include <algorithm>
#include <map>

#include "autoglm/core/error.h"
#include "autoglm/core/json.h"
#include "autoglm/core/text.h"
#include "text/tokenizer_files.h"

namespace autoglm {
namespace {

constexpr const char* kMasks[] = {"[gMASK]", "[MASK]", "[sMASK]"};
constexpr const char* kAddedTokens = "added_tokens.json";

// Tokens by content as the two files describe them, the first one first.
std::map<std::string, AddedToken> read_descriptions(
    const std::filesystem::path& file) {
  std::map<std::string, AddedToken> out;
  for (const char* name :
       {"special_tokens_map.json", "tokenizer_config.json"}) {
    const std::string source = (file.parent_path() / name).string();
    const Json json = read_beside(file, name);
    const auto add = [&](const Json& value) {
      if (value.is_null()) return;
      AddedToken token = read_added_token(value, true, source);
      if (value.is_string())
        token.lstrip = std::ranges::find(kMasks, token.content) !=
                       std::ranges::end(kMasks);
      out.emplace(token.content, token);
    };
    for (const char* key : {"eos_token", "pad_token", "cls_token", "mask_token",
                            "sep_token", "unk_token", "bos_token"})
      if (json.contains(key)) add(json[key]);
    if (!json.contains("additional_special_tokens")) continue;
    const Json& list = json["additional_special_tokens"];
    if (!list.is_array())
      fail(ErrorKind::kInput,
           source + ": additional_special_tokens should be a list");
    for (const Json& value : list) add(value);
  }
  return out;
}

std::vector<std::pair<std::string, TokenId>> read_ids(
    const std::filesystem::path& file, TokenId vocabulary,
    std::span<const CommandToken> otherwise) {
  std::vector<std::pair<std::string, TokenId>> out;
  const Json added = read_beside(file, kAddedTokens);
  for (const auto& [content, id] : added.items()) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 ||
        id.get<std::int64_t>() > kMaxTokenId)
      fail(ErrorKind::kInput,
           fmt::format("{}: the id of '{}' is not a number from 0 to {}",
                       (file.parent_path() / kAddedTokens).string(), content,
                       kMaxTokenId));
    out.emplace_back(content, id.get<TokenId>());
  }
  if (out.empty())
    for (const CommandToken& token : otherwise)
      out.emplace_back(token.content, vocabulary + token.offset);
  return out;
}

}  // namespace

std::vector<AddedToken> read_command_tokens(
    const std::filesystem::path& file, TokenId vocabulary,
    std::span<const CommandToken> otherwise,
    const std::function<std::optional<TokenId>(const std::string&)>& find) {
  std::map<std::string, AddedToken> descriptions = read_descriptions(file);
  std::vector<AddedToken> out;
  for (const auto& [content, id] : read_ids(file, vocabulary, otherwise)) {
    AddedToken token;
    token.content = content;
    token.lstrip =
        std::ranges::find(kMasks, content) != std::ranges::end(kMasks);
    if (const auto found = descriptions.find(content);
        found != descriptions.end()) {
      token = found->second;
      descriptions.erase(found);
    }
    token.id = id;
    token.special = true;
    out.push_back(std::move(token));
  }
  for (auto& [content, token] : descriptions)
    if (const auto id = find(content)) {
      token.id = *id;
      out.push_back(std::move(token));
    }
  return out;
}

void surround_glm_2021(LoadedTokenizer& tokenizer) {
  tokenizer.chat = ChatForm::kJoined;
  const auto find = [&](const char* name) {
    return tokenizer.encoder->find_token(name);
  };
  const auto begin = find("[CLS]"), end = find("<|endoftext|>"),
             start = find("<|startofpiece|>");
  std::vector<TokenId> masks;
  for (const char* name : kMasks)
    if (const auto id = find(name)) masks.push_back(*id);
  if (!begin || !end || !start || masks.empty()) return;
  tokenizer.before = {*begin};
  tokenizer.after = {*end};
  tokenizer.prefix = {*begin, masks[0], *end, *start};
  tokenizer.prompt.before = {*begin};
  tokenizer.prompt.after = {*end, *start};
  tokenizer.prompt.masks = masks;
  tokenizer.prompt.form = TextForm::kSpecials;
  tokenizer.blanks = BlankTokens{{std::move(masks)}, *start};
}

}  // namespace autoglm
