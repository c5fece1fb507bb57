// cog-pretrain.model of the Chinese GLM 2021: SentencePiece with GLM's command
// tokens behind it.
#include "text/glm_2021.h"
#include "text/sentencepiece_encoder.h"
#include "text/tokenizer_files.h"

namespace autoglm {
namespace {

// The layout with repaired command tokens, which GLM-large-chinese has.
constexpr CommandToken kCommands[] = {
    {"<|endoftext|>", 0},  {"[SEP]", 1},   {"[CLS]", 2},
    {"[MASK]", 3},         {"[UNK]", 4},   {"<|startofpiece|>", 6},
    {"<|endofpiece|>", 7}, {"[sMASK]", 8}, {"[gMASK]", 9}};

}  // namespace

LoadedTokenizer read_cog_pretrain(const std::filesystem::path& file) {
  SentencePieceModel model(file);
  std::vector<AddedToken> commands =
      read_command_tokens(file, model.size(), kCommands,
                          [](const std::string&) { return std::nullopt; });
  LoadedTokenizer out;
  out.kind = "SentencePiece (cog-pretrain.model)";
  out.encoder = std::make_unique<SentencePieceEncoder>(std::move(model),
                                                       commands, commands);
  surround_glm_2021(out);
  return out;
}

}  // namespace autoglm
