// tokenizer.model of ChatGLM2 and ChatGLM3: SentencePiece pieces, then special
// tokens that the model file does not know. The two families share the file;
// only the code and the configuration beside it tell them apart.
#include "autoglm/core/file.h"
#include "autoglm/core/json.h"
#include "text/sentencepiece_encoder.h"
#include "text/tokenizer_files.h"

namespace autoglm {
namespace {

constexpr const char* kCommon[] = {"[MASK]", "[gMASK]", "[sMASK]", "sop",
                                   "eop"};
// ChatGLM3 only.
constexpr const char* kRoles[] = {"<|system|>", "<|user|>", "<|assistant|>",
                                  "<|observation|>"};

// ChatGLM3 unless something beside the file says ChatGLM2: its roles are only
// four more ids behind the others.
bool has_roles(const std::filesystem::path& file) {
  const std::filesystem::path code =
      file.parent_path() / "tokenization_chatglm.py";
  std::error_code ignored;
  if (std::filesystem::is_regular_file(code, ignored))
    return read_file(code).find(kRoles[1]) != std::string::npos;
  for (const char* name : {"tokenizer_config.json", "config.json"}) {
    const Json config = read_beside(file, name);
    for (const char* key : {"name_or_path", "_name_or_path"}) {
      if (!config.contains(key) || !config[key].is_string()) continue;
      const std::string path = config[key].get<std::string>();
      for (const char* two : {"chatglm2", "codegeex2"})
        if (path.find(two) != std::string::npos) return false;
    }
  }
  return true;
}

}  // namespace

LoadedTokenizer read_chatglm_model(const std::filesystem::path& file) {
  SentencePieceModel model(file);
  std::vector<AddedToken> specials, roles;
  TokenId next = model.size();
  const auto append = [&](const char* name) {
    AddedToken token;
    token.content = name;
    token.id = next++;
    token.special = true;
    specials.push_back(token);
    return token;
  };
  for (const char* name : kCommon) append(name);
  if (has_roles(file))
    for (const char* name : kRoles) roles.push_back(append(name));

  LoadedTokenizer out;
  out.kind = "SentencePiece (tokenizer.model)";
  out.chat = roles.empty() ? ChatForm::kRoundsFromOne : ChatForm::kRoleTokens;
  out.set_prefix({specials[1].id, specials[3].id});  // [gMASK] sop
  out.encoder = std::make_unique<SentencePieceEncoder>(
      std::move(model), std::move(specials), std::move(roles));
  return out;
}

LoadedTokenizer read_tokenizer_model(const std::filesystem::path& file) {
  return is_tiktoken(read_file(file)) ? read_tiktoken(file)
                                      : read_chatglm_model(file);
}

}  // namespace autoglm
