// One reader per kind of tokenizer file, and what the readers share.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "autoglm/core/json.h"
#include "text/added_tokens.h"
#include "text/loaded_tokenizer.h"

namespace autoglm {

// Each takes the path of its file and throws kInput with the file and what is
// wrong or not supported.

LoadedTokenizer read_tokenizer_json(const std::filesystem::path& file);

/// `tokenizer.model`: tiktoken's text (GLM-4-9B) or a SentencePiece model
/// (ChatGLM2, ChatGLM3); the content tells.
LoadedTokenizer read_tokenizer_model(const std::filesystem::path& file);
LoadedTokenizer read_tiktoken(const std::filesystem::path& file);
LoadedTokenizer read_chatglm_model(const std::filesystem::path& file);

/// `ice_text.model` of ChatGLM-6B.
LoadedTokenizer read_ice_text(const std::filesystem::path& file);

/// `cog-pretrain.model` of the Chinese GLM 2021.
LoadedTokenizer read_cog_pretrain(const std::filesystem::path& file);

/// `vocab.json` and the `merges.txt` beside it: GLM 2021 (2B, 10B).
LoadedTokenizer read_gpt2(const std::filesystem::path& file);

/// `vocab.txt` of GLM-base and GLM-large: a kInput error that says so.
LoadedTokenizer read_bert(const std::filesystem::path& file);

/// True for lines of base64, a blank and a number; looks at the first one.
bool is_tiktoken(std::string_view content);

/// The JSON object in the file `name` beside `file`; empty if there is none.
Json read_beside(const std::filesystem::path& file, const char* name);

/// An added token as JSON: its text alone, or an object with its flags, where
/// `special` counts for a missing flag of that name. The id stays 0.
AddedToken read_added_token(const Json& json, bool special,
                            const std::string& source);

/// `added_tokens_decoder` of a tokenizer_config.json: id -> token; empty if
/// it has none.
std::vector<AddedToken> read_added_tokens_decoder(const Json& config,
                                                  const std::string& source);

}  // namespace autoglm
