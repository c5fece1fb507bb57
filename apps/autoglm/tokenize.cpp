// autoglm tokenize: text to ids, one JSON list per input; --decode goes back.
#include <memory>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"
#include "autoglm/core/text.h"
#include "autoglm/text/tokenizer.h"
#include "commands.h"
#include "print.h"

namespace autoglm::cli {
namespace {

struct Options {
  std::string model, file;
  bool special = false, json_lines = false, decode = false;
};

std::vector<TokenId> read_ids(const Json& json, const std::string& source) {
  std::vector<TokenId> ids;
  bool fine = json.is_array();
  if (fine)
    for (const Json& id : json) fine = fine && id.is_number_integer();
  if (!fine)
    fail(ErrorKind::kInput, source + ": a JSON list of token ids was expected");
  for (const Json& id : json) ids.push_back(id.get<TokenId>());
  return ids;
}

// One input: text to its ids, or ids to their text, as one line of JSON.
std::string convert(const Tokenizer& tokenizer, const Options& options,
                    const std::string& input, const std::string& source) {
  const auto line = [](const Json& json) {
    return json.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
  };
  if (options.decode)
    return line(tokenizer.decode(read_ids(parse_json(input, source), source),
                                 options.special));
  if (!options.json_lines)
    return line(tokenizer.encode(input, options.special));
  const Json text = parse_json(input, source);
  if (!text.is_string())
    fail(ErrorKind::kInput, source + ": a JSON string was expected");
  return line(tokenizer.encode(text.get<std::string>(), options.special));
}

void tokenize(const Options& options, const Session& session) {
  session.begin();
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  const std::string content = read_file(options.file);
  if (!options.json_lines)
    return print(convert(tokenizer, options, content, options.file));
  std::string out;
  std::size_t number = 0;
  for (std::size_t at = 0; at < content.size();) {
    const std::size_t end = std::min(content.find('\n', at), content.size());
    ++number;
    const std::string line = content.substr(at, end - at);
    if (line.find_first_not_of(" \t\r") != std::string::npos)
      out += convert(tokenizer, options, line,
                     fmt::format("{}:{}", options.file, number));
    at = end + 1;
  }
  print(out);
}

}  // namespace

void add_tokenize(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("tokenize", "text to token ids and back");
  auto options = std::make_shared<Options>();
  command
      ->add_option("model", options->model,
                   "checkpoint folder or tokenizer file")
      ->required()
      ->type_name("MODEL");
  command->add_option("--file", options->file, "text (or ids with --decode)")
      ->required()
      ->type_name("FILE");
  command->add_flag("--special", options->special,
                    "add the special tokens of the post-processor; with "
                    "--decode: leave special tokens out");
  command->add_flag("--json-lines", options->json_lines,
                    "every line is an input of its own: a JSON string (with "
                    "--decode: a JSON list)");
  command->add_flag("--decode", options->decode,
                    "from a JSON list of ids back to text");
  command->callback([options, &session] { tokenize(*options, session); });
}

}  // namespace autoglm::cli
