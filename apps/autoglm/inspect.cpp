// autoglm inspect: what is in a checkpoint.
#include <map>
#include <memory>

#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/checkpoint.h"
#include "autoglm/model/footprint.h"
#include "autoglm/pipeline/describe.h"
#include "autoglm/text/tokenizer.h"
#include "commands.h"
#include "print.h"

namespace autoglm::cli {
namespace {

// Everything the two forms of the answer say.
struct Findings {
  std::string folder;
  Model model;
  ModelRecord record;
  Footprint size;
  std::string tokenizer;  // its kind, or why there is none
  std::vector<PassReach> reach;
  std::vector<std::string> remarks;
};

std::string tokenizer_kind(const std::string& folder) {
  if (!Tokenizer::exists(folder)) return "none in this folder";
  try {
    const Tokenizer tokenizer = Tokenizer::load(folder);
    return fmt::format("{}, {} ids", tokenizer.kind(),
                       tokenizer.vocabulary_size());
  } catch (const std::exception& unusable) {
    // The weights are worth a look all the same.
    return fmt::format("not usable: {}", unusable.what());
  }
}

std::vector<std::string> remarks_on(const Model& model) {
  const Architecture& a = model.architecture;
  std::vector<std::string> out;
  for (std::int64_t k = 0; k < a.next_token_blocks; ++k)
    out.push_back(
        fmt::format("layer {} predicts further tokens: it is copied "
                    "through, neither run nor compressed",
                    a.layers() + k));
  if (a.is_sparse())
    out.push_back(fmt::format(
        "sparse attention: the indexer's choice of {} tokens is computed in "
        "full precision over all scores; texts up to {} tokens see everything",
        a.indexer.top, a.indexer.top));
  if (a.kv_cache_bits > 0)
    out.push_back(fmt::format(
        "keys and values are cached in {} bits, {} per token", a.kv_cache_bits,
        format_bytes(cache_bytes_per_token(a, 2))));
  if (a.two_dimensional())
    out.push_back(
        "positions have two dimensions: text is generated into a blank of the "
        "prompt");
  return out;
}

Findings look(const std::string& folder) {
  Findings f;
  f.folder = folder;
  // A look takes no more than a second or two, whatever the size: only small
  // checkpoints are searched for NaN on the way.
  constexpr std::uint64_t kSmall = 500'000'000;
  const bool small = std::filesystem::is_directory(folder) &&
                     checkpoint_bytes(folder) <= kSmall;
  f.model =
      read_checkpoint(folder, small ? ReadDepth::kValues : ReadDepth::kShapes);
  f.record = describe_model(f.model);
  f.record.disk_bytes = checkpoint_bytes(folder);
  f.size = footprint(f.model);
  f.tokenizer = tokenizer_kind(folder);
  f.reach = describe_reach(f.model);
  f.remarks = remarks_on(f.model);
  return f;
}

Json to_json(const Findings& f) {
  const Architecture& a = f.model.architecture;
  Json out = {{"family", std::string(a.family->name)},
              {"layers", a.layers()},
              {"hidden", a.hidden},
              {"head_size", a.head_size},
              {"vocabulary", a.vocabulary},
              {"rotary_size", a.rotary_size},
              {"tied_head", a.tied_head},
              {"kv_cache_bits", a.kv_cache_bits},
              {"uniform", a.uniform()},
              {"experts_per_token", a.router.per_token},
              {"tokenizer", f.tokenizer}};
  out.update(autoglm::to_json(f.record));
  out["bytes_per_token"] = f.size.bytes_per_token;
  for (std::size_t i = 0; i < f.size.layers.size(); ++i) {
    out["blocks"][i]["parameters"] = f.size.layers[i].parameters;
    out["blocks"][i]["bytes"] = f.size.layers[i].bytes;
  }
  Json passes = Json::array();
  for (const PassReach& reach : f.reach)
    passes.push_back({{"type", reach.type},
                      {"matrices", reach.matrices},
                      {"kinds", reach.kinds},
                      {"weight_bytes", reach.bytes},
                      {"refusal", reach.refusal}});
  out["passes"] = std::move(passes);
  out["remarks"] = f.remarks;
  Json extra = Json::array();
  for (const auto& [name, tensor] : f.model.extra) extra.push_back(name);
  out["extra"] = std::move(extra);
  return out;
}

std::string head_lines(const Findings& f) {
  const Architecture& a = f.model.architecture;
  const std::string active =
      a.router.per_token == 0
          ? ""
          : fmt::format(" ({} active)",
                        format_count(f.record.active_parameters));
  return fmt::format(
      "{}\nfamily {}, {} layers, hidden {}, head size {} ({} rotary), "
      "vocabulary {}, head {}\n"
      "{} parameters{}, {} of weights, {} on disk, {} read per token\n"
      "tokenizer: {}\n",
      f.folder, a.family->name, a.layers(), a.hidden, a.head_size,
      a.rotary_size, a.vocabulary, a.tied_head ? "tied" : "of its own",
      format_count(f.record.parameters), active,
      format_bytes(f.record.weight_bytes), format_bytes(f.record.disk_bytes),
      format_bytes(f.size.bytes_per_token), f.tokenizer);
}

// "bf16 x 7, int8 channel symmetric": counts only where forms differ.
std::string forms_text(const std::map<std::string, int>& counts) {
  std::vector<std::string> texts;
  for (const auto& [format, count] : counts)
    texts.push_back(counts.size() == 1 ? format
                                       : fmt::format("{} x {}", count, format));
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string part_table(const Findings& f) {
  TextTable parts({"part", "bytes", "share", "form"});
  for (const auto& [part, bytes] : f.record.parts) {
    if (bytes == 0) continue;
    std::map<std::string, int> forms;
    for (const LinearRecord& linear : f.record.linears)
      if (linear.name == part) ++forms[linear.format];
    parts.add_row({part, format_bytes(bytes),
                   fmt::format("{:.1f} %",
                               100.0 * static_cast<double>(bytes) /
                                   static_cast<double>(f.record.weight_bytes)),
                   forms_text(forms)});
  }
  return parts.text();
}

std::string layer_table(const Findings& f) {
  // One walk over the matrices: a mixture has thousands.
  std::vector<std::map<std::string, int>> attention(f.record.blocks.size());
  std::vector<std::map<std::string, int>> mlp(f.record.blocks.size());
  bool mixture = false;
  for (const LinearRecord& linear : f.record.linears) {
    const MatrixPlace place = place_of(linear.name);
    if (!place.block) continue;
    auto& forms = place.kind.starts_with("attention.") ? attention : mlp;
    ++forms.at(*place.block)[linear.format];
  }
  for (const auto& w : f.record.blocks) mixture = mixture || w.experts > 0;
  std::vector<std::string> columns = {"layer", "query heads", "kv heads",
                                      "ffn"};
  if (mixture) columns.insert(columns.end(), {"experts", "shared ffn"});
  columns.insert(columns.end(), {"parameters", "bytes", "attention", "mlp"});
  TextTable layers(columns);
  for (std::size_t i = 0; i < f.record.blocks.size(); ++i) {
    const auto& w = f.record.blocks[i];
    std::vector<std::string> row = {
        std::to_string(i), std::to_string(w.query_heads),
        std::to_string(w.kv_heads), std::to_string(w.ffn)};
    if (mixture) {
      row.push_back(w.experts > 0 ? std::to_string(w.experts) : "");
      row.push_back(w.shared_ffn > 0 ? std::to_string(w.shared_ffn) : "");
    }
    row.insert(row.end(), {format_count(f.size.layers[i].parameters),
                           format_bytes(f.size.layers[i].bytes),
                           forms_text(attention[i]), forms_text(mlp[i])});
    layers.add_row(row);
  }
  return layers.text();
}

// "mlp.gate, mlp.up, head" -> "mlp.{gate, up}, head".
std::string join_kinds(const std::vector<std::string>& kinds) {
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  for (const std::string& kind : kinds) {
    const std::size_t dot = kind.rfind('.') + 1;  // npos + 1 is 0
    const std::string prefix = kind.substr(0, dot);
    if (groups.empty() || groups.back().first != prefix)
      groups.push_back({prefix, {}});
    groups.back().second.push_back(kind.substr(dot));
  }
  std::vector<std::string> texts;
  for (const auto& [prefix, names] : groups)
    texts.push_back(names.size() == 1 ? prefix + names[0]
                                      : fmt::format("{}{{{}}}", prefix,
                                                    fmt::join(names, ", ")));
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string pass_table(const Findings& f) {
  TextTable table({"pass, at its defaults", "changes", "of them", "weights"});
  for (const PassReach& reach : f.reach) {
    if (!reach.refusal.empty())
      table.add_row({reach.type, "cannot run: " + reach.refusal, "", ""});
    else if (reach.matrices == 0)
      table.add_row({reach.type, "values only", "", format_bytes(reach.bytes)});
    else
      table.add_row({reach.type, join_kinds(reach.kinds),
                     std::to_string(reach.matrices),
                     format_bytes(reach.bytes)});
  }
  return table.text();
}

std::string extra_text(const Model& model) {
  const Architecture& a = model.architecture;
  std::string out;
  for (const auto& [name, tensor] : model.extra) {
    bool next_token = false;
    for (std::int64_t k = 0; k < a.next_token_blocks; ++k)
      next_token =
          next_token || name.starts_with(block_prefix(
                            a, static_cast<std::size_t>(a.layers() + k)));
    if (!next_token) out += "  " + name + "\n";
  }
  return out.empty() ? "" : "\nnot part of it, copied through:\n" + out;
}

void inspect(const std::string& folder, const Session& session) {
  session.begin();
  const Findings f = look(folder);
  if (session.json) return print_json(to_json(f));
  std::string text = head_lines(f);
  for (const std::string& remark : f.remarks) text += remark + "\n";
  text += "\n" + part_table(f) + "\n" + layer_table(f) + "\n" + pass_table(f) +
          extra_text(f.model);
  print(text);
}

}  // namespace

void add_inspect(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "inspect",
      "family, shapes, per-layer widths and bits, bytes per part, tokenizer, "
      "what each pass would change");
  auto folder = std::make_shared<std::string>();
  command->add_option("model", *folder, "checkpoint folder")
      ->required()
      ->type_name("MODEL");
  command->callback([folder, &session] { inspect(*folder, session); });
}

}  // namespace autoglm::cli
