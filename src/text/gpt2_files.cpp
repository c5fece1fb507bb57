// vocab.json and merges.txt of GLM 2021 (2B, 10B): GPT-2's byte-level BPE with
// GLM's command tokens behind it.
#include "autoglm/core/error.h"
#include "autoglm/core/file.h"
#include "autoglm/core/json.h"
#include "autoglm/core/text.h"
#include "text/byte_level.h"
#include "text/glm_2021.h"
#include "text/tokenizer_files.h"

namespace autoglm {
namespace {

// Behind <|endoftext|>, the last token of GPT-2's own vocabulary.
constexpr CommandToken kCommands[] = {
    {"<|startofpiece|>", 0}, {"<|endofpiece|>", 1}, {"[CLS]", 2},
    {"[MASK]", 3},           {"[SEP]", 4},          {"[UNK]", 5},
    {"[gMASK]", 6},          {"[sMASK]", 7}};

void read_merges(const std::filesystem::path& file, ByteLevelBuilder& builder) {
  const std::string content = read_file(file);
  std::string_view rest = content;
  std::size_t number = 0;
  const auto next = [&] {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    ++number;
    // Only the first line is a note; a merge may begin with '#'.
    if (line.empty() || (number == 1 && line.starts_with("#version"))) return;
    builder.add_merge(std::string(line));
  };
  with_context([&] { return fmt::format("at {}:{}", file.string(), number); },
               [&] {
                 while (!rest.empty()) next();
               });
}

}  // namespace

LoadedTokenizer read_gpt2(const std::filesystem::path& file) {
  const std::filesystem::path vocabulary = file.parent_path() / "vocab.json";
  const std::filesystem::path merges = file.parent_path() / "merges.txt";
  const Json tokens = read_json(vocabulary);
  if (!tokens.is_object())
    fail(ErrorKind::kInput, vocabulary.string() + ": an object was expected");
  ByteLevelBuilder builder(vocabulary.string());
  ByteLevelModel& model = builder.model();
  builder.add_vocabulary(tokens);
  read_merges(merges, builder);
  model.splits.emplace_back(kGpt2Pattern, vocabulary.string());
  const auto find = [&](const std::string& name) -> std::optional<TokenId> {
    const auto found = model.bpe.ids.find(name);
    if (found == model.bpe.ids.end()) return std::nullopt;
    return found->second;
  };
  for (AddedToken& token : read_command_tokens(
           file, static_cast<TokenId>(model.tokens.size()), kCommands, find))
    builder.add_special(std::move(token));

  LoadedTokenizer out;
  out.kind = "GPT-2 BPE (vocab.json, merges.txt)";
  out.encoder = builder.finish();
  surround_glm_2021(out);
  return out;
}

LoadedTokenizer read_bert(const std::filesystem::path& file) {
  fail(ErrorKind::kInput,
       file.string() +
           ": BERT WordPiece vocabularies (GLM-base, GLM-large) are not "
           "supported");
}

}  // namespace autoglm
