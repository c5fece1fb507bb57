// autoglm passes: the catalogue with every option, range and default.
#include <memory>

#include "autoglm/core/text.h"
#include "autoglm/passes/pass.h"
#include "commands.h"
#include "print.h"

namespace autoglm::cli {
namespace {

std::string limits(const OptionInfo& option) {
  if (option.range)
    return fmt::format("{} .. {}", ConfigNode::of(option.range->low).scalar,
                       ConfigNode::of(option.range->high).scalar);
  return fmt::format("{}", fmt::join(option.choices, ", "));
}

// Fields of a list of maps follow it: "overrides[].bits".
void add_rows(TextTable& table, const std::string& prefix,
              const std::vector<OptionInfo>& options) {
  for (const OptionInfo& option : options) {
    table.add_row({prefix + option.name, option.type, option.default_text,
                   limits(option), option.help});
    add_rows(table, prefix + option.name + "[].", option.fields);
  }
}

TextTable option_table(const PassInfo& info) {
  TextTable table({"option", "type", "default", "allowed", "meaning"});
  add_rows(table, "", info.options);
  return table;
}

Json options_json(const std::vector<OptionInfo>& options) {
  Json json = Json::array();
  for (const OptionInfo& option : options) {
    Json entry = {{"name", option.name},
                  {"type", option.type},
                  {"default", option.default_text},
                  {"help", option.help},
                  {"searchable", option.searchable()}};
    if (option.range) entry["range"] = {option.range->low, option.range->high};
    if (!option.choices.empty()) entry["choices"] = option.choices;
    if (!option.fields.empty()) entry["fields"] = options_json(option.fields);
    json.push_back(std::move(entry));
  }
  return json;
}

Json passes_json() {
  Json json = Json::array();
  for (const PassInfo& info : pass_catalogue())
    json.push_back({{"type", info.type},
                    {"summary", info.summary},
                    {"options", options_json(info.options)}});
  return json;
}

void passes(bool markdown, const Session& session) {
  session.begin();
  if (session.json) return print_json(passes_json());
  if (markdown) print("# Passes\n\nPrinted by `autoglm passes --markdown`.\n");
  bool first = true;
  for (const PassInfo& info : pass_catalogue()) {
    if (markdown)
      print(fmt::format("\n## {}\n\n{}\n\n{}", info.type, info.summary,
                        option_table(info).markdown()));
    else
      print(fmt::format("{}{}: {}\n{}", first ? "" : "\n", info.type,
                        info.summary, option_table(info).text()));
    first = false;
  }
}

}  // namespace

void add_passes(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "passes", "the catalogue: every option, range and default");
  auto markdown = std::make_shared<bool>(false);
  command->add_flag("--markdown", *markdown, "as docs/passes.md");
  command->callback([markdown, &session] { passes(*markdown, session); });
}

}  // namespace autoglm::cli
