// autoglm report: write the reports of an output folder again.
#include "autoglm/report/report.h"

#include <memory>

#include "commands.h"
#include "print.h"

namespace autoglm::cli {

void add_report(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "report", "rebuild report.html and report.md from the record");
  auto folder = std::make_shared<std::string>();
  command->add_option("folder", *folder, "output folder of compress")
      ->required()
      ->type_name("DIR");
  command->callback([folder, &session] {
    session.begin();
    write_reports(*folder);
    const std::string html =
        (std::filesystem::path(*folder) / "autoglm" / "report.html").string();
    if (session.json)
      print_json({{"report", html}});
    else
      print("report: " + html + "\n");
  });
}

}  // namespace autoglm::cli
