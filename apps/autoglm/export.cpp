// autoglm export: a checkpoint in another format.
#include <filesystem>
#include <memory>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"
#include "autoglm/core/text.h"
#include "autoglm/export/dense.h"
#include "autoglm/model/checkpoint.h"
#include "commands.h"
#include "print.h"

namespace autoglm::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model, format, output;
  std::string dtype = "auto";
  bool force = false;
};

void export_model(const Options& options, const Session& session) {
  session.begin();
  const fs::path output = options.output;
  if (fs::exists(output) &&
      !(fs::is_directory(output) && fs::is_empty(output))) {
    if (!options.force)
      fail(ErrorKind::kConfig,
           fmt::format("the output {} exists; --force replaces it",
                       output.string()));
    if (!fs::exists(output / "config.json") ||
        (fs::exists(options.model) && fs::equivalent(output, options.model)))
      fail(ErrorKind::kConfig,
           fmt::format("the output {} is not a checkpoint that may be "
                       "replaced; choose another folder",
                       output.string()));
  }
  const Model model = read_checkpoint(options.model);
  StagedFolder staged(output, output.string() + ".partial");
  const std::uint64_t bytes =
      write_checkpoint(dense_model(model, options.dtype), staged.path());
  staged.commit();
  if (session.json)
    print_json({{"output", options.output}, {"weight_bytes", bytes}});
  else
    print(fmt::format("{}: {} of weights\n", options.output,
                      format_bytes(bytes)));
}

}  // namespace

void add_export(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("export", "write a checkpoint in another format");
  auto options = std::make_shared<Options>();
  command->add_option("model", options->model, "checkpoint folder")
      ->required()
      ->type_name("MODEL");
  command
      ->add_option("--format", options->format,
                   "dense: every weight in floating point, for any loader")
      ->required()
      ->check(CLI::IsMember({"dense"}));
  command->add_option("--output", options->output, "folder to write")
      ->required()
      ->type_name("DIR");
  command
      ->add_option("--dtype", options->dtype,
                   "of the weights; auto: as in the model")
      ->check(CLI::IsMember({"auto", "bf16", "fp16", "fp32"}))
      ->capture_default_str();
  command->add_flag("--force", options->force, "replace an existing output");
  command->callback([options, &session] { export_model(*options, session); });
}

}  // namespace autoglm::cli
