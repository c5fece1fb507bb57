// autoglm inspect: what is in a checkpoint.
#include <map>
#include <memory>

#include "autoglm/core/text.h"
#include "autoglm/model/checkpoint.h"
#include "autoglm/model/footprint.h"
#include "autoglm/pipeline/describe.h"
#include "commands.h"
#include "print.h"

namespace autoglm::cli {
namespace {

// "int8 (7), dense bf16 (1)": the forms of a block's matrices, most first.
std::string formats_of(const ModelRecord& record, const std::string& prefix) {
  std::map<std::string, int> counts;
  for (const LinearRecord& linear : record.linears)
    if (linear.name.rfind(prefix, 0) == 0) ++counts[linear.format];
  std::vector<std::string> texts;
  for (const auto& [format, count] : counts)
    texts.push_back(counts.size() == 1 ? format
                                       : fmt::format("{} x {}", count, format));
  return fmt::format("{}", fmt::join(texts, ", "));
}

Json inspect_json(const Model& model, const ModelRecord& record) {
  const Architecture& a = model.architecture;
  Json out = {{"family", std::string(a.family->name)},
              {"layers", a.layers()},
              {"hidden", a.hidden},
              {"head_size", a.head_size},
              {"vocabulary", a.vocabulary},
              {"rotary_size", a.rotary_size},
              {"tied_head", a.tied_head},
              {"uniform", a.uniform()}};
  out.update(to_json(record));
  const Footprint size = footprint(model);
  out["bytes_per_token"] = size.bytes_per_token;
  for (std::size_t i = 0; i < size.layers.size(); ++i) {
    out["blocks"][i]["parameters"] = size.layers[i].parameters;
    out["blocks"][i]["bytes"] = size.layers[i].bytes;
  }
  return out;
}

void inspect(const std::string& folder, const Session& session) {
  session.begin();
  const Model model = read_checkpoint(folder);
  ModelRecord record = describe_model(model);
  record.disk_bytes = checkpoint_bytes(folder);
  if (session.json) return print_json(inspect_json(model, record));
  const Architecture& a = model.architecture;
  const Footprint size = footprint(model);
  print(fmt::format(
      "{}\nfamily {}, {} layers, hidden {}, head size {} ({} rotary), "
      "vocabulary {}, head {}\n"
      "{} parameters, {} of weights, {} on disk, {} read per token\n\n",
      folder, a.family->name, a.layers(), a.hidden, a.head_size, a.rotary_size,
      a.vocabulary, a.tied_head ? "tied" : "of its own",
      format_count(record.parameters), format_bytes(record.weight_bytes),
      format_bytes(record.disk_bytes), format_bytes(size.bytes_per_token)));
  TextTable parts({"part", "bytes", "share", "form"});
  const auto form = [&](const std::string& part) -> std::string {
    if (part == "embedding" || part == "head") return formats_of(record, part);
    return "";
  };
  for (const auto& [part, bytes] : record.parts) {
    if (bytes == 0) continue;
    parts.add_row(
        {part, format_bytes(bytes),
         fmt::format("{:.1f} %", 100.0 * static_cast<double>(bytes) /
                                     static_cast<double>(record.weight_bytes)),
         form(part)});
  }
  TextTable layers({"layer", "query heads", "kv heads", "ffn", "parameters",
                    "bytes", "attention", "mlp"});
  for (std::size_t i = 0; i < record.blocks.size(); ++i) {
    const auto& w = record.blocks[i];
    layers.add_row({std::to_string(i), std::to_string(w.query_heads),
                    std::to_string(w.kv_heads), std::to_string(w.ffn),
                    format_count(size.layers[i].parameters),
                    format_bytes(size.layers[i].bytes),
                    formats_of(record, fmt::format("layers.{}.attention.", i)),
                    formats_of(record, fmt::format("layers.{}.mlp.", i))});
  }
  print(parts.text() + "\n" + layers.text());
  if (!model.extra.empty()) {
    print("\nnot understood, copied through:\n");
    for (const auto& [name, tensor] : model.extra) print("  " + name + "\n");
  }
}

}  // namespace

void add_inspect(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "inspect", "family, shapes, per-layer widths and bits, bytes per part");
  auto folder = std::make_shared<std::string>();
  command->add_option("model", *folder, "checkpoint folder")
      ->required()
      ->type_name("MODEL");
  command->callback([folder, &session] { inspect(*folder, session); });
}

}  // namespace autoglm::cli
