// tokenizer.model of GLM-4-9B: lines of base64 bytes, a blank and the rank of
// the token, which is its id. Pairs merge by the rank of what they become.
#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"
#include "autoglm/core/text.h"
#include "text/byte_level.h"
#include "text/tokenizer_files.h"

namespace autoglm {
namespace {

// Far above any real token (GLM-4's longest have some hundred bytes); it keeps
// the quadratic search for splits small.
constexpr std::size_t kMaxTokenBytes = 1024;

// GLM-4-9B's, which follow the ranks where no configuration says otherwise.
constexpr const char* kGlm4Specials[] = {"<|endoftext|>",
                                         "[MASK]",
                                         "[gMASK]",
                                         "[sMASK]",
                                         "<sop>",
                                         "<eop>",
                                         "<|system|>",
                                         "<|user|>",
                                         "<|assistant|>",
                                         "<|observation|>",
                                         "<|begin_of_image|>",
                                         "<|end_of_image|>",
                                         "<|begin_of_video|>",
                                         "<|end_of_video|>"};

constexpr std::array<signed char, 256> base64_values() {
  std::array<signed char, 256> out = {};
  for (auto& value : out) value = -1;
  signed char next = 0;
  for (const char c :
       std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                        "0123456789+/"))
    out[static_cast<unsigned char>(c)] = next++;
  return out;
}

// Standard base64 with padding; nothing if it is not.
std::optional<std::string> decode_base64(std::string_view text) {
  static constexpr std::array<signed char, 256> kValues = base64_values();
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  std::size_t padding = 0;
  while (padding < 2 && text.ends_with('=')) {
    text.remove_suffix(1);
    ++padding;
  }
  std::string out;
  out.reserve(text.size() * 3 / 4);
  unsigned bits = 0;
  int count = 0;
  for (const char c : text) {
    const signed char value = kValues[static_cast<unsigned char>(c)];
    if (value < 0) return std::nullopt;
    bits = (bits << 6 | static_cast<unsigned>(value)) & 0xFFFF;
    count += 6;
    if (count >= 8) {
      count -= 8;
      out += static_cast<char>(bits >> count);
    }
  }
  return out;
}

struct Line {
  std::string bytes;
  TokenId rank;
};

// Nothing if `line` is not base64, a blank and a number.
std::optional<Line> parse_line(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  const std::size_t blank = line.find(' ');
  if (blank == std::string_view::npos) return std::nullopt;
  auto bytes = decode_base64(line.substr(0, blank));
  if (!bytes) return std::nullopt;
  TokenId rank = 0;
  const char* end = line.data() + line.size();
  const auto [stop, error] =
      std::from_chars(line.data() + blank + 1, end, rank);
  if (error != std::errc() || stop != end || rank < 0) return std::nullopt;
  return Line{std::move(*bytes), rank};
}

std::string_view first_line(std::string_view text) {
  return text.substr(0, text.find('\n'));
}

// Tokens by rank, every rank from 0 on exactly once.
std::vector<std::string> read_ranks(std::string_view content,
                                    const std::string& source) {
  std::vector<Line> lines;
  TokenId largest = -1;
  for (std::size_t number = 1; !content.empty(); ++number) {
    const std::string_view text = first_line(content);
    content.remove_prefix(std::min(text.size() + 1, content.size()));
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto line = parse_line(text);
    const auto complain = [&](const std::string& what) {
      fail(ErrorKind::kInput, fmt::format("{}:{}: {}", source, number, what));
    };
    if (!line) complain("base64, a blank and a rank were expected");
    if (line->bytes.empty() || line->bytes.size() > kMaxTokenBytes)
      complain(fmt::format("a token has 1 to {} bytes", kMaxTokenBytes));
    if (line->rank > kMaxTokenId)
      complain(fmt::format("rank {} is not a number from 0 to {}", line->rank,
                           kMaxTokenId));
    largest = std::max(largest, line->rank);
    lines.push_back(std::move(*line));
  }
  std::vector<std::string> tokens(static_cast<std::size_t>(largest) + 1);
  for (Line& line : lines) {
    std::string& place = tokens[static_cast<std::size_t>(line.rank)];
    if (!place.empty())
      fail(ErrorKind::kInput, fmt::format("{}: rank {} is given to two tokens",
                                          source, line.rank));
    place = std::move(line.bytes);
  }
  for (std::size_t rank = 0; rank < tokens.size(); ++rank)
    if (tokens[rank].empty())
      fail(ErrorKind::kInput,
           fmt::format("{}: no token has rank {}", source, rank));
  return tokens;
}

// Merging the pair whose concatenation has the lowest rank is the same as
// merging by a list of all splits of all tokens, ranked by the token: both
// parts of a pair are tokens at all times, since every byte is one.
void add_splits(const std::vector<std::string>& tokens, BpeModel& bpe) {
  std::unordered_map<std::string_view, TokenId> ids;
  ids.reserve(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i)
    ids.emplace(tokens[i], static_cast<TokenId>(i));
  bpe.merges.reserve(2 * tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view token = tokens[i];
    const auto id = static_cast<TokenId>(i);
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut));
      if (left == ids.end()) continue;
      const auto right = ids.find(token.substr(cut));
      if (right != ids.end())
        bpe.add_merge(left->second, right->second, {id, id});
    }
  }
}

// The ids and flags that tokenizer_config.json gives, or only names in order.
std::vector<AddedToken> read_specials(const std::filesystem::path& file,
                                      TokenId first) {
  const Json config = read_beside(file, "tokenizer_config.json");
  const std::string source =
      (file.parent_path() / "tokenizer_config.json").string();
  std::vector<AddedToken> out = read_added_tokens_decoder(config, source);
  if (!out.empty()) {
    const TokenId lowest = std::ranges::min(out, {}, &AddedToken::id).id;
    if (lowest > first)
      fail(ErrorKind::kInput,
           fmt::format("{}: it ends after {} ranks, but {} gives the first "
                       "special token the id {}",
                       file.string(), first, source, lowest));
    return out;
  }
  Json names = Json::array();
  if (config.contains("additional_special_tokens"))
    names = config["additional_special_tokens"];
  if (!names.is_array())
    fail(ErrorKind::kInput,
         source + ": additional_special_tokens should be a list");
  if (names.empty())
    for (const char* name : kGlm4Specials) names.push_back(name);
  for (const Json& name : names) {
    AddedToken token = read_added_token(name, true, source);
    token.id = first++;
    out.push_back(std::move(token));
  }
  return out;
}

}  // namespace

bool is_tiktoken(std::string_view content) {
  return parse_line(first_line(content)).has_value();
}

LoadedTokenizer read_tiktoken(const std::filesystem::path& file) {
  const std::string source = file.string();
  const std::vector<std::string> tokens = read_ranks(read_file(file), source);
  ByteLevelBuilder builder(source);
  ByteLevelModel& model = builder.model();
  model.printable_names = false;
  model.bpe.ignore_merges = true;
  model.splits.emplace_back(kGlm4Pattern, source);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (model.bpe.ids.contains(tokens[i]))
      builder.complain(fmt::format("ranks {} and {} have the same token",
                                   model.bpe.ids[tokens[i]], i));
    builder.add_token(tokens[i], static_cast<TokenId>(i));
  }
  for (int b = 0; b < 256; ++b)
    if (!model.bpe.ids.contains(std::string(1, static_cast<char>(b))))
      builder.complain(fmt::format("no token for the byte 0x{:02X}", b));
  add_splits(tokens, model.bpe);
  for (AddedToken& token :
       read_specials(file, static_cast<TokenId>(tokens.size())))
    builder.add_special(std::move(token));

  LoadedTokenizer out;
  out.kind = "byte-level BPE (tiktoken tokenizer.model)";
  out.chat = ChatForm::kRoleTokens;
  out.encoder = builder.finish();
  const auto mask = out.encoder->find_token("[gMASK]");
  const auto start = out.encoder->find_token("<sop>");
  if (mask && start) out.set_prefix({*mask, *start});
  return out;
}

}  // namespace autoglm
