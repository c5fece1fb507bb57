#include "report/notes.h"

#include "tests/support/catch.h"

namespace autoglm::report {
namespace {

TEST_CASE("arrange_notes: scalars and short lists become lines") {
  const Notes notes = arrange_notes({{"a", 1.23456789},
                                     {"b", "text"},
                                     {"c", true},
                                     {"d", {1, 2, 3}},
                                     {"e", nullptr}});
  CHECK(notes.tables.empty());
  REQUIRE(notes.lines.size() == 5);
  CHECK(notes.lines[0].second == "1.2346");
  CHECK(notes.lines[1].second == "text");
  CHECK(notes.lines[2].second == "yes");
  CHECK(notes.lines[3].second == "1, 2, 3");
  CHECK(notes.lines[4].second == "-");
}

TEST_CASE("arrange_notes: a long list is shown by its ends") {
  Json list = Json::array();
  for (int i = 0; i < 100; ++i) list.push_back(i);
  const Notes notes = arrange_notes({{"losses", list}});
  CHECK(notes.lines.at(0).second ==
        "0, 1, 2, 3, 4, 5, … (100 in all), 94, 95, 96, 97, 98, 99");
}

TEST_CASE("arrange_notes: a list of objects is a table of all their keys") {
  const Notes notes =
      arrange_notes({{"t", {{{"x", 1}, {"y", 2}}, {{"x", 3}, {"z", 4}}}}});
  REQUIRE(notes.tables.size() == 1);
  CHECK(notes.tables[0].header == std::vector<std::string>{"x", "y", "z"});
  CHECK(notes.tables[0].rows[1] == std::vector<std::string>{"3", "", "4"});
}

TEST_CASE("arrange_notes: an object of objects is a table with row names") {
  const Notes notes = arrange_notes({{"t", {{"layers.0", {{"error", 0.5}}}}}});
  REQUIRE(notes.tables.size() == 1);
  CHECK(notes.tables[0].header == std::vector<std::string>{"", "error"});
  CHECK(notes.tables[0].rows[0] == std::vector<std::string>{"layers.0", "0.5"});
}

TEST_CASE("arrange_notes: an object of values is a line or, if long, a table") {
  Json many = Json::object();
  for (int i = 0; i < 9; ++i) many["layer " + std::to_string(i)] = i;
  const Notes notes = arrange_notes({{"few", {{"a", 1}}}, {"many", many}});
  CHECK(notes.lines.at(0).second == "a: 1");
  CHECK(notes.tables.at(0).rows.size() == 9);
}

TEST_CASE("arrange_notes: anything but an object is no notes") {
  CHECK(arrange_notes(nullptr).lines.empty());
  CHECK(arrange_notes(Json::array({1})).lines.empty());
}

}  // namespace
}  // namespace autoglm::report
