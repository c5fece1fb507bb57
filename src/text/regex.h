// A compiled regular expression over UTF-8, in the dialect of tokenizer files.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace autoglm {

class Regex {
 public:
  /// `pattern` in Oniguruma's Ruby syntax as far as it agrees with PCRE2; \s
  /// and \S mean Unicode white space. Throws kInput, naming `source`.
  Regex(const std::string& pattern, const std::string& source);

  /// Calls found(begin, end) for every non-empty match, left to right.
  template <class Found>
  void each(std::string_view text, Found&& found) const {
    Scan scan(*this, text);
    std::size_t begin = 0, end = 0;
    while (scan.next(begin, end)) found(begin, end);
  }

 private:
  struct Code;
  /// One pass over a text, with its own match memory.
  class Scan {
   public:
    Scan(const Regex& regex, std::string_view text);
    ~Scan();
    Scan(const Scan&) = delete;
    Scan& operator=(const Scan&) = delete;
    bool next(std::size_t& begin, std::size_t& end);

   private:
    struct Memory;
    const Code& code_;
    std::string_view text_;
    std::size_t at_ = 0;
    std::unique_ptr<Memory> memory_;
  };

  std::shared_ptr<const Code> code_;
};

}  // namespace autoglm
