#include "report/svg.h"

#include <algorithm>

#include "autoglm/core/text.h"
#include "report/style.h"

namespace autoglm::report {
namespace {

// One decimal is a tenth of a pixel; more only makes the file longer.
std::string coordinate(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

std::string closing(std::string_view element, std::string_view title) {
  if (title.empty()) return "/>\n";
  return fmt::format("><title>{}</title></{}>\n", safe_text(title), element);
}

}  // namespace

std::string safe_text(std::string_view text) {
  static constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  const bool valid = is_utf8(text);
  std::string clean;
  clean.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool control = byte < 0x20 && c != '\n' && c != '\t';
    if (control || byte == 0x7F || (byte >= 0x80 && !valid)) {
      clean += kReplacement;
    } else {
      clean += c;
    }
  }
  return escape_html(clean);
}

double text_width(std::string_view text, double font_size) {
  const auto letters = std::count_if(text.begin(), text.end(),
                                     [](char c) { return (c & 0xC0) != 0x80; });
  return 0.56 * font_size * static_cast<double>(letters);
}

Svg::Svg(double width, double height, std::string_view label)
    : head_(fmt::format(
          "<svg viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
          "role=\"img\" aria-label=\"{2}\">\n",
          coordinate(width), coordinate(height), safe_text(label))) {}

void Svg::rect(double x, double y, double width, double height,
               std::string_view style, std::string_view title, double opacity) {
  std::string see_through;
  if (opacity < 1)
    see_through = fmt::format(" fill-opacity=\"{:.2f}\"", opacity);
  body_ += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"{}\"{}",
      coordinate(x), coordinate(y), coordinate(std::max(0.0, width)),
      coordinate(std::max(0.0, height)), style, see_through);
  body_ += closing("rect", title);
}

void Svg::line(double x1, double y1, double x2, double y2,
               std::string_view style) {
  body_ += fmt::format(
      "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" class=\"{}\"/>\n",
      coordinate(x1), coordinate(y1), coordinate(x2), coordinate(y2), style);
}

void Svg::dot(double x, double y, double radius, std::string_view style,
              std::string_view title) {
  body_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"{}\"",
                       coordinate(x), coordinate(y), coordinate(radius), style);
  body_ += closing("circle", title);
}

void Svg::polyline(std::string_view points, std::string_view style) {
  body_ +=
      fmt::format("<polyline points=\"{}\" class=\"{}\"/>\n", points, style);
}

void Svg::text(double x, double y, std::string_view text,
               std::string_view style, std::string_view anchor) {
  const std::string anchored =
      anchor == "start" ? "" : fmt::format(" text-anchor=\"{}\"", anchor);
  body_ += fmt::format("<text x=\"{}\" y=\"{}\" class=\"{}\"{}>{}</text>\n",
                       coordinate(x), coordinate(y), style, anchored,
                       safe_text(text));
}

std::string Svg::document() const {
  std::string head = head_;
  head.insert(std::string_view("<svg").size(),
              " xmlns=\"http://www.w3.org/2000/svg\"");
  return head + fmt::format("<style>{}</style>\n", style_sheet()) + body_ +
         "</svg>\n";
}

std::string Svg::str() const { return head_ + body_ + "</svg>\n"; }

}  // namespace autoglm::report
