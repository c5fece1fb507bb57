#include "text/added_tokens.h"

#include <algorithm>

namespace autoglm {
namespace {

// The character that starts at `at`, or ends before it.
std::string_view character_at(std::string_view text, std::size_t at) {
  std::size_t end = at + 1;
  while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;
  return text.substr(at, end - at);
}

std::string_view character_before(std::string_view text, std::size_t at) {
  std::size_t begin = at - 1;
  while (begin > 0 && (text[begin] & 0xC0) == 0x80) --begin;
  return text.substr(begin, at - begin);
}

bool matches(const Regex& regex, std::string_view character) {
  bool found = false;
  regex.each(character, [&](std::size_t, std::size_t) { found = true; });
  return found;
}

// Unicode's word characters (UTS 18, annex C): Alphabetic, marks, decimal
// digits, connectors, joiners.
bool is_word(std::string_view character) {
  static const Regex regex(
      "[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}"
      "\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}]",
      "word characters");
  return matches(regex, character);
}

bool is_space(std::string_view character) {
  // A megabyte of blanks before a mask should not take seconds.
  if (character.size() == 1)
    return character[0] == ' ' ||
           (character[0] >= '\t' && character[0] <= '\r');
  static const Regex regex("\\s", "white space");
  return matches(regex, character);
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const auto& t) { return t.content.empty(); });
  for (std::size_t i = 0; i < tokens_.size(); ++i)
    by_byte_[static_cast<unsigned char>(tokens_[i].content[0])].push_back(i);
  for (auto& list : by_byte_)
    std::stable_sort(list.begin(), list.end(), [&](auto a, auto b) {
      return tokens_[a].content.size() > tokens_[b].content.size();
    });
}

const AddedToken* AddedTokenFinder::longest_at(std::string_view text,
                                               std::size_t at) const {
  for (const std::size_t i : by_byte_[static_cast<unsigned char>(text[at])])
    if (text.substr(at).starts_with(tokens_[i].content)) return &tokens_[i];
  return nullptr;
}

std::vector<TextPart> AddedTokenFinder::split(std::string_view text) const {
  std::vector<TextPart> parts;
  std::size_t done = 0;  // text before it is in parts
  for (std::size_t at = 0; at < text.size();) {
    const AddedToken* token = longest_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + token->content.size();
    at = end;
    if (token->single_word &&
        ((begin > 0 && is_word(character_before(text, begin))) ||
         (end < text.size() && is_word(character_at(text, end)))))
      continue;
    if (token->lstrip) {
      while (begin > done && is_space(character_before(text, begin)))
        begin -= character_before(text, begin).size();
      begin = std::max(begin, done);
    }
    if (token->rstrip)
      while (end < text.size() && is_space(character_at(text, end)))
        end += character_at(text, end).size();
    if (begin > done) parts.push_back({-1, text.substr(done, begin - done)});
    parts.push_back({token->id, text.substr(begin, end - begin)});
    done = end;
  }
  if (done < text.size()) parts.push_back({-1, text.substr(done)});
  return parts;
}

}  // namespace autoglm
