#include "autoglm/model/checkpoint.h"

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/log.h"
#include "autoglm/core/text.h"
#include "autoglm/formats/safetensors.h"
#include "autoglm/model/block_parts.h"
#include "model/checkpoint/checkpoint_reader.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

// The prefix this checkpoint has put before its names.
std::string find_root(const CheckpointReader& reader, const FamilyTable& f) {
  for (const std::string_view root : f.roots)
    if (reader.has_weight(std::string(root) + std::string(f.embedding)))
      return std::string(root);
  return std::string(f.roots[0]);
}

bool is_buffer(const FamilyTable& family, const std::string& name) {
  for (const std::string_view end : family.buffers)
    if (name.ends_with(end)) return true;
  return false;
}

// One line for each next-token-prediction layer, one for each stranger.
void tell_extras(const Model& model, const std::string& folder) {
  const Architecture& a = model.architecture;
  std::vector<std::int64_t> next_token(
      static_cast<std::size_t>(a.next_token_blocks));
  for (const auto& [name, tensor] : model.extra) {
    bool known = is_buffer(*a.family, name);
    for (std::size_t k = 0; k < next_token.size() && !known; ++k)
      if (name.starts_with(block_prefix(a, a.blocks.size() + k))) {
        known = true;
        ++next_token[k];
      }
    if (!known)
      log_info("{}: tensor '{}' is not part of a {} model; copied through",
               folder, name, a.family->name);
  }
  for (std::size_t k = 0; k < next_token.size(); ++k)
    if (next_token[k] > 0)
      log_info(
          "{}: layer {} predicts further tokens ({} tensors); not run, "
          "copied through",
          folder, a.blocks.size() + k, next_token[k]);
}

Model read_tensors(Model model, const TensorFolder& tensors,
                   const StoredQuantization* quantization, ReadDepth depth) {
  Architecture& a = model.architecture;
  const FamilyTable& f = *a.family;
  CheckpointReader reader(tensors, quantization, depth);
  a.root = find_root(reader, f);
  const auto below_root = [&](std::string_view name) {
    return a.root + std::string(name);
  };
  model.embedding =
      reader.weight(below_root(f.embedding), a.vocabulary, a.hidden, true);
  if (a.position_rows > 0)
    model.positions = reader.tensor(below_root(f.positions) + ".weight",
                                    {a.position_rows, a.hidden});
  if (a.block_positions)
    model.block_positions = reader.tensor(
        below_root(f.block_positions) + ".weight", {a.position_rows, a.hidden});
  for (std::size_t i = 0; i < a.blocks.size(); ++i)
    model.blocks.push_back(reader.block(a, i));
  const std::string final_norm = below_root(f.final_norm);
  model.final_norm.gain = reader.tensor(final_norm + ".weight", {a.hidden});
  if (a.layer_norm)
    model.final_norm.bias = reader.tensor(final_norm + ".bias", {a.hidden});
  const std::string head = f.head.empty() ? "" : head_name(a);
  // A file that does not say is taken by what it holds.
  if (!model.config.contains("tie_word_embeddings") && !reader.has_weight(head))
    a.tied_head = true;
  if (!a.tied_head)
    model.head = reader.linear(head, a.vocabulary, a.hidden, false);
  model.extra = reader.rest();
  // A tied head that is stored all the same says nothing new.
  if (a.tied_head && !head.empty()) model.extra.erase(head + ".weight");
  return model;
}

using Group = std::vector<std::pair<std::string, at::Tensor>>;

Group linear_group(const Weight& weight, const at::Tensor& bias,
                   const std::string& module) {
  Group out = write_weight(weight, module);
  if (bias.defined()) out.emplace_back(module + ".bias", bias);
  return out;
}

void write_tensors(const Model& model, TensorFolderWriter& writer) {
  const Architecture& a = model.architecture;
  const FamilyTable& f = *a.family;
  const auto add = [&](std::string_view name, const char* end,
                       const at::Tensor& tensor) {
    if (tensor.defined()) writer.add(a.root + std::string(name) + end, tensor);
  };
  writer.add(
      linear_group(model.embedding, {}, a.root + std::string(f.embedding)));
  add(f.positions, ".weight", model.positions);
  add(f.block_positions, ".weight", model.block_positions);
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    check_interrupted();
    const std::string prefix = block_prefix(a, i);
    visit_block(
        model.blocks[i],
        [&](const std::string& name, const Linear& part) {
          writer.add(linear_group(part.weight, part.bias,
                                  prefix + checkpoint_linear_name(f, name)));
        },
        [&](const std::string& name, const at::Tensor& part) {
          writer.add(prefix + checkpoint_tensor_name(f, name), part);
        });
  }
  add(f.final_norm, ".weight", model.final_norm.gain);
  add(f.final_norm, ".bias", model.final_norm.bias);
  if (model.head)
    writer.add(
        linear_group(model.head->weight, model.head->bias, head_name(a)));
  for (const auto& [name, tensor] : model.extra) writer.add(name, tensor);
}

bool is_weight_file(const fs::path& file) {
  const std::string name = file.filename().string();
  const std::string end = file.extension().string();
  return end == ".safetensors" || end == ".bin" || end == ".pt" ||
         name.ends_with(".safetensors.index.json") ||
         name.ends_with(".bin.index.json");
}

// Tokenizer, generation settings, licence, notes: everything that is neither
// weights nor configuration nor a record of ours.
void copy_companions(const fs::path& from, const fs::path& to) {
  if (from.empty() || !fs::is_directory(from)) return;
  for (const auto& entry : fs::directory_iterator(from)) {
    const fs::path& file = entry.path();
    if (!entry.is_regular_file() || is_weight_file(file) ||
        file.filename() == "config.json")
      continue;
    copy_file_atomically(file, to / file.filename());
  }
}

}  // namespace

Model read_checkpoint(const fs::path& folder, ReadDepth depth) {
  if (!fs::is_directory(folder))
    fail(ErrorKind::kInput,
         fmt::format("{}: no such checkpoint folder", folder.string()));
  const fs::path config_file = folder / "config.json";
  if (!fs::exists(config_file))
    fail(ErrorKind::kInput,
         fmt::format("{}: no config.json in the folder", folder.string()));
  Model model;
  model.source = folder;
  const std::string source = config_file.string();
  model.config = parse_json(read_file(config_file), source);
  model.architecture = read_architecture(model.config, source);
  const auto quantization =
      StoredQuantization::read(model.architecture, model.config, source);
  const TensorFolder tensors = TensorFolder::open(folder);
  return with_context(
      [&] { return "while reading the checkpoint " + folder.string(); },
      [&] {
        Model read =
            read_tensors(std::move(model), tensors, quantization.get(), depth);
        tell_extras(read, folder.string());
        return read;
      });
}

std::uint64_t write_checkpoint(const Model& model, const fs::path& folder) {
  Json config = write_architecture(model.config, model.architecture);
  config = write_quantization_config(std::move(config), model);
  TensorFolderWriter writer(folder);
  write_tensors(model, writer);
  const std::uint64_t bytes = writer.finish();
  copy_companions(model.source, folder);
  const fs::path config_file = model.source / "config.json";
  // An unchanged configuration keeps its own spelling.
  if (!model.source.empty() && fs::exists(config_file) &&
      config == parse_json(read_file(config_file), config_file.string()))
    copy_file_atomically(config_file, folder / "config.json");
  else
    write_file_atomically(folder / "config.json", to_text(config));
  return bytes;
}

}  // namespace autoglm
