#include "tests/report/markup.h"

#include <cctype>
#include <set>

namespace autoglm {
namespace {

class Reader {
 public:
  explicit Reader(const std::string& text) : text_(text) {}

  std::string problem() {
    static const std::string kDoctype = "<!DOCTYPE html>";
    if (text_.compare(0, kDoctype.size(), kDoctype) == 0) at_ = kDoctype.size();
    while (at_ < text_.size() && problem_.empty()) {
      if (text_[at_] == '<') {
        read_tag();
      } else {
        read_character("text");
      }
    }
    if (problem_.empty() && !open_.empty())
      problem_ = "<" + open_.back() + "> is never closed";
    if (problem_.empty() && roots_ != 1) problem_ = "not exactly one root";
    return problem_;
  }

 private:
  char now() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void complain(const std::string& what) {
    if (problem_.empty()) problem_ = what + " at: " + text_.substr(at_, 60);
    at_ = text_.size();
  }

  void read_character(const char* where) {
    if (now() == '&') {
      const std::size_t end = text_.find(';', at_);
      static const std::set<std::string> kKnown = {"amp", "lt", "gt", "quot",
                                                   "#39"};
      if (end == std::string::npos ||
          !kKnown.contains(text_.substr(at_ + 1, end - at_ - 1)))
        return complain(std::string("a bare & in ") + where);
      at_ = end + 1;
    } else if (now() == '<') {
      complain(std::string("a bare < in ") + where);
    } else if (static_cast<unsigned char>(now()) < 0x20 && now() != '\n' &&
               now() != '\t') {
      complain(std::string("a control character in ") + where);
    } else {
      ++at_;
    }
  }

  std::string read_name() {
    std::string name;
    while (std::isalnum(static_cast<unsigned char>(now())) || now() == '-')
      name += text_[at_++];
    return name;
  }

  void skip_blanks() {
    while (std::isspace(static_cast<unsigned char>(now()))) ++at_;
  }

  void read_tag() {
    ++at_;
    if (now() == '/') return read_end_tag();
    const std::string name = read_name();
    if (name.empty()) return complain("a tag without a name");
    if (open_.empty()) ++roots_;
    std::set<std::string> attributes;
    for (skip_blanks(); now() != '>' && now() != '/'; skip_blanks()) {
      const std::string attribute = read_name();
      if (attribute.empty() || now() != '=' || text_[at_ + 1] != '"')
        return complain("a broken attribute");
      if (!attributes.insert(attribute).second)
        return complain("an attribute twice");
      at_ += 2;
      while (at_ < text_.size() && now() != '"') read_character("an attribute");
      ++at_;
    }
    if (now() == '/') {
      ++at_;
    } else {
      open_.push_back(name);
    }
    if (now() != '>') return complain("a tag that does not end");
    ++at_;
  }

  void read_end_tag() {
    ++at_;
    const std::string name = read_name();
    if (now() != '>') return complain("an end tag that does not end");
    if (open_.empty() || open_.back() != name)
      return complain("</" + name + "> closes another element");
    open_.pop_back();
    ++at_;
  }

  const std::string& text_;
  std::size_t at_ = 0;
  std::vector<std::string> open_;
  int roots_ = 0;
  std::string problem_;
};

}  // namespace

std::string markup_problem(const std::string& text) {
  return Reader(text).problem();
}

}  // namespace autoglm
