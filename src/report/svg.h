// A small SVG writer. Colours come from the page's style sheet through class
// names, so that one drawing serves light and dark.
#pragma once

#include <string>
#include <string_view>

namespace autoglm::report {

/// Text that is safe inside HTML and XML whatever a file held: markup
/// characters as entities, bad UTF-8 and control characters as U+FFFD.
std::string safe_text(std::string_view text);

class Svg {
 public:
  /// Size in user units; the page scales the drawing down when it is narrow.
  /// `label` is what a screen reader says.
  Svg(double width, double height, std::string_view label);

  /// `title` is shown on hover; every shape may have one.
  void rect(double x, double y, double width, double height,
            std::string_view style, std::string_view title = "",
            double opacity = 1);
  void line(double x1, double y1, double x2, double y2, std::string_view style);
  void dot(double x, double y, double radius, std::string_view style,
           std::string_view title = "");
  /// An open path through points "x,y x,y".
  void polyline(std::string_view points, std::string_view style);
  /// `anchor`: "start", "middle" or "end".
  void text(double x, double y, std::string_view text, std::string_view style,
            std::string_view anchor = "start");

  std::string str() const;
  /// As a file of its own, with its namespace and the page's style sheet.
  std::string document() const;

 private:
  std::string head_;
  std::string body_;
};

/// Width of `text` in user units, near enough to decide whether it fits.
double text_width(std::string_view text, double font_size);

}  // namespace autoglm::report
