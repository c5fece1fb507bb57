#include "report/notes.h"

#include <algorithm>
#include <cmath>

#include "autoglm/core/text.h"

namespace autoglm::report {
namespace {

// Longer lists of numbers are shown by their ends.
constexpr std::size_t kLongList = 12;

std::string value_text(const Json& value);

std::string list_text(const Json& list) {
  std::string out;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list.size() > kLongList && i == kLongList / 2) {
      out += fmt::format(", … ({} in all)", list.size());
      i = list.size() - kLongList / 2;
    }
    out += (i == 0 ? "" : ", ") + value_text(list[i]);
  }
  return out;
}

std::string value_text(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "-";
    case Json::value_t::string:
      return value.get<std::string>();
    case Json::value_t::boolean:
      return value.get<bool>() ? "yes" : "no";
    case Json::value_t::number_float: {
      const double number = value.get<double>();
      if (!std::isfinite(number)) return "-";
      return fmt::format("{:.5g}", number);
    }
    case Json::value_t::array:
      return list_text(value);
    case Json::value_t::object:
      return one_line(value);
    default:
      return value.dump();
  }
}

bool all_objects(const Json& value) {
  return !value.empty() &&
         std::all_of(value.begin(), value.end(),
                     [](const Json& v) { return v.is_object(); });
}

// Columns are the keys of all rows, in order of appearance.
void add_columns(NoteTable& table, const Json& row) {
  for (const auto& [key, unused] : row.items())
    if (std::find(table.header.begin(), table.header.end(), key) ==
        table.header.end())
      table.header.push_back(key);
}

void add_row(NoteTable& table, const Json& row, std::size_t skip,
             const std::string& first) {
  std::vector<std::string> cells;
  if (skip > 0) cells.push_back(first);
  for (std::size_t i = skip; i < table.header.size(); ++i)
    cells.push_back(
        row.contains(table.header[i]) ? value_text(row[table.header[i]]) : "");
  table.rows.push_back(std::move(cells));
}

NoteTable table_of_list(const std::string& name, const Json& list) {
  NoteTable table{name, {}, {}};
  for (const Json& row : list) add_columns(table, row);
  for (const Json& row : list) add_row(table, row, 0, "");
  return table;
}

NoteTable table_of_objects(const std::string& name, const Json& rows) {
  NoteTable table{name, {""}, {}};
  for (const Json& row : rows) add_columns(table, row);
  for (const auto& [key, row] : rows.items()) add_row(table, row, 1, key);
  return table;
}

NoteTable table_of_values(const std::string& name, const Json& values) {
  NoteTable table{name, {"", "value"}, {}};
  for (const auto& [key, value] : values.items())
    table.rows.push_back({key, value_text(value)});
  return table;
}

}  // namespace

Notes arrange_notes(const Json& notes) {
  Notes out;
  if (!notes.is_object()) return out;
  for (const auto& [name, value] : notes.items()) {
    if (value.is_array() && all_objects(value)) {
      out.tables.push_back(table_of_list(name, value));
    } else if (value.is_object() && all_objects(value)) {
      out.tables.push_back(table_of_objects(name, value));
    } else if (value.is_object() && value.size() > 4) {
      out.tables.push_back(table_of_values(name, value));
    } else {
      out.lines.emplace_back(name, value_text(value));
    }
  }
  return out;
}

std::string one_line(const Json& json) {
  if (!json.is_object()) return value_text(json);
  std::string out;
  for (const auto& [key, value] : json.items()) {
    if (!out.empty()) out += ", ";
    out += key + ": " + value_text(value);
  }
  return out;
}

}  // namespace autoglm::report
