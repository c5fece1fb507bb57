#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

// Unicode White_Space, as ranges that fit inside a character class. PCRE2's
// own \s differs by U+180E.
constexpr std::string_view kSpace =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

// Spells out \s and \S; everything else the two dialects share.
std::string translate(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 's') {
        out += in_class ? std::string(kSpace) : fmt::format("[{}]", kSpace);
      } else if (next == 'S' && !in_class) {
        out += fmt::format("[^{}]", kSpace);
      } else {
        out += c;
        out += next;
      }
      continue;
    }
    if (c == '[' && !in_class) {
      in_class = true;
      // A bracket right after the opening is a literal.
      out += c;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') out += pattern[++i];
      continue;
    }
    if (c == ']' && in_class) in_class = false;
    out += c;
  }
  return out;
}

std::string pcre_message(int code) {
  PCRE2_UCHAR text[200];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

struct Regex::Scan::Memory {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  ~Memory() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

Regex::Regex(const std::string& pattern, const std::string& source) {
  const std::string translated = translate(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_shared<Code>();
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                             translated.size(), PCRE2_UTF | PCRE2_UCP, &error,
                             &offset, nullptr);
  if (code->code == nullptr)
    fail(ErrorKind::kInput,
         fmt::format("{}: the regular expression '{}' cannot be used: {}",
                     source, pattern, pcre_message(error)));
  // Without JIT the match still works, only slower.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  code_ = std::move(code);
}

Regex::Scan::Scan(const Regex& regex, std::string_view text)
    : code_(*regex.code_), text_(text), memory_(std::make_unique<Memory>()) {
  memory_->data = pcre2_match_data_create(1, nullptr);
  memory_->context = pcre2_match_context_create(nullptr);
  memory_->stack = pcre2_jit_stack_create(32 * 1024, 4 * 1024 * 1024, nullptr);
  if (!memory_->data || !memory_->context || !memory_->stack)
    throw std::bad_alloc();
  // A megabyte of blanks is legal text: no limit on steps.
  pcre2_set_match_limit(memory_->context, UINT32_MAX);
  pcre2_jit_stack_assign(memory_->context, nullptr, memory_->stack);
}

Regex::Scan::~Scan() = default;

bool Regex::Scan::next(std::size_t& begin, std::size_t& end) {
  while (at_ <= text_.size()) {
    const auto match = [&](std::uint32_t options) {
      return pcre2_match(code_.code, reinterpret_cast<PCRE2_SPTR>(text_.data()),
                         text_.size(), at_, PCRE2_NO_UTF_CHECK | options,
                         memory_->data, memory_->context);
    };
    int result = match(0);
    // The interpreter keeps its backtracking on the heap.
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) return false;
    if (result < 0)
      fail(ErrorKind::kInternal,
           "a tokenizer's regular expression failed: " + pcre_message(result));
    const PCRE2_SIZE* found = pcre2_get_ovector_pointer(memory_->data);
    begin = found[0];
    end = found[1];
    if (end > begin) {
      at_ = end;
      return true;
    }
    // An empty match: step over one character.
    at_ = end + 1;
    while (at_ < text_.size() && (text_[at_] & 0xC0) == 0x80) ++at_;
  }
  return false;
}

}  // namespace autoglm
