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

TextTable option_table(const PassInfo& info) {
  TextTable table({"option", "type", "default", "allowed", "meaning"});
  for (const OptionInfo& option : info.options)
    table.add_row({option.name, option.type, option.default_text,
                   limits(option), option.help});
  return table;
}

Json passes_json() {
  Json json = Json::array();
  for (const PassInfo& info : pass_catalogue()) {
    Json options = Json::array();
    for (const OptionInfo& option : info.options) {
      Json entry = {{"name", option.name},
                    {"type", option.type},
                    {"default", option.default_text},
                    {"help", option.help},
                    {"searchable", option.searchable()}};
      if (option.range)
        entry["range"] = {option.range->low, option.range->high};
      if (!option.choices.empty()) entry["choices"] = option.choices;
      options.push_back(std::move(entry));
    }
    json.push_back(
        {{"type", info.type}, {"summary", info.summary}, {"options", options}});
  }
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
