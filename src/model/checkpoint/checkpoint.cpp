#include "autoglm/model/checkpoint.h"

#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/log.h"
#include "autoglm/core/text.h"
#include "model/compressed_tensors.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

std::string block_name(const FamilyTable& family, std::size_t layer) {
  return fmt::format(fmt::runtime(family.block), layer);
}

// Reads the tensors of one checkpoint and remembers which were used.
class Reader {
 public:
  Reader(const TensorFolder& folder, const QuantizationConfig& quantization)
      : folder_(folder), quantization_(quantization) {}

  // A floating point tensor of a known shape.
  at::Tensor tensor(const std::string& name,
                    const std::vector<std::int64_t>& shape) {
    used_.insert(name);
    if (!folder_.contains(name))
      fail(ErrorKind::kInput, fmt::format("tensor '{}' is missing", name));
    const TensorEntry& entry = folder_.entry(name);
    const std::string file = folder_.file_of(name).string();
    if (entry.shape != shape)
      fail(ErrorKind::kInput,
           fmt::format("{}: tensor '{}' is [{}], but config.json asks for [{}]",
                       file, name, fmt::join(entry.shape, ", "),
                       fmt::join(shape, ", ")));
    if (entry.dtype != at::kFloat && entry.dtype != at::kHalf &&
        entry.dtype != at::kBFloat16)
      fail(ErrorKind::kInput,
           fmt::format("{}: tensor '{}' is {}; F32, F16 and BF16 weights are "
                       "supported",
                       file, name, safetensors_dtype(entry.dtype)));
    const at::Tensor out = folder_.tensor(name);
    warn_not_finite(out, name, file);
    return out;
  }

  at::Tensor optional(const std::string& name,
                      const std::vector<std::int64_t>& shape, bool wanted) {
    if (!wanted && !folder_.contains(name)) return {};
    return tensor(name, shape);
  }

  Weight weight(const std::string& module, std::int64_t out, std::int64_t in,
                bool embedding = false) {
    const PackedScheme* scheme = quantization_.find(module, embedding);
    // A class target covers the embedding or a module that was left dense.
    if (scheme == nullptr || !folder_.contains(module + ".weight_packed"))
      return DenseWeight{tensor(module + ".weight", {out, in})};
    for (const char* part : {".weight_packed", ".weight_scale", ".weight_shape",
                             ".weight_zero_point"})
      used_.insert(module + part);
    return read_packed(folder_, module, *scheme, out, in);
  }

  Linear linear(const std::string& module, std::int64_t out, std::int64_t in,
                bool bias) {
    return {weight(module, out, in), optional(module + ".bias", {out}, bias)};
  }

  // Tensors nobody asked for.
  std::map<std::string, at::Tensor> rest() const {
    std::map<std::string, at::Tensor> out;
    for (const std::string& name : folder_.names())
      if (!used_.contains(name)) out[name] = folder_.tensor(name);
    return out;
  }

 private:
  // One read of every dense weight at load: a NaN found here names its tensor,
  // a NaN found later is only a NaN. The pages are wanted anyway.
  static void warn_not_finite(const at::Tensor& tensor, const std::string& name,
                              const std::string& file) {
    check_interrupted();
    const at::Tensor flat = tensor.reshape({-1});
    constexpr std::int64_t kChunk = 1 << 24;
    for (std::int64_t at = 0; at < flat.numel(); at += kChunk) {
      const at::Tensor part =
          flat.narrow(0, at, std::min(kChunk, flat.numel() - at));
      if (at::isfinite(part).all().item<bool>()) continue;
      log_warning("{}: tensor '{}' contains NaN or infinity", file, name);
      return;
    }
  }

  const TensorFolder& folder_;
  const QuantizationConfig& quantization_;
  std::set<std::string> used_;
};

Block read_block(Reader& reader, const Architecture& a, std::size_t layer) {
  const FamilyTable& f = *a.family;
  const BlockWidths& w = a.blocks[layer];
  const std::string prefix = block_name(f, layer) + ".";
  const auto name = [&](std::string_view part) {
    return prefix + std::string(part);
  };
  const auto norm = [&](std::string_view part) -> at::Tensor {
    if (part.empty()) return {};
    return reader.tensor(name(part) + ".weight", {a.hidden});
  };
  const std::int64_t query = w.query_heads * a.head_size;
  const std::int64_t key = w.kv_heads * a.head_size;
  Block block;
  block.input_norm = norm(f.input_norm);
  block.attention.query =
      reader.linear(name(f.query), query, a.hidden, a.attention_bias);
  block.attention.key =
      reader.linear(name(f.key), key, a.hidden, a.attention_bias);
  block.attention.value =
      reader.linear(name(f.value), key, a.hidden, a.attention_bias);
  block.attention.output =
      reader.linear(name(f.output), a.hidden, query, false);
  block.after_attention_norm = norm(f.after_attention_norm);
  block.middle_norm = norm(f.middle_norm);
  block.mlp.gate_up =
      reader.linear(name(f.gate_up), 2 * w.ffn, a.hidden, false);
  block.mlp.down = reader.linear(name(f.down), a.hidden, w.ffn, false);
  block.after_mlp_norm = norm(f.after_mlp_norm);
  return block;
}

using Group = std::vector<std::pair<std::string, at::Tensor>>;

void add_weight(Group& out, const Weight& weight, const std::string& module) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight)) {
    out.emplace_back(module + ".weight", dense->value);
    return;
  }
  for (auto& part : write_packed(std::get<QuantizedWeight>(weight), module))
    out.push_back(std::move(part));
}

void write_weights(const Model& model, TensorFolderWriter& writer) {
  const FamilyTable& f = *model.architecture.family;
  const auto add_norm = [&](const at::Tensor& norm, const std::string& module) {
    if (norm.defined()) writer.add(module + ".weight", norm);
  };
  for (const NamedLinear& linear : named_linears(model)) {
    check_interrupted();
    Group group;
    add_weight(group, weight_of(model, linear.name), linear.checkpoint_name);
    if (const at::Tensor* bias = bias_of(model, linear.name))
      group.emplace_back(linear.checkpoint_name + ".bias", *bias);
    writer.add(group);
  }
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const std::string prefix = block_name(f, i) + ".";
    const Block& block = model.blocks[i];
    add_norm(block.input_norm, prefix + std::string(f.input_norm));
    add_norm(block.after_attention_norm,
             prefix + std::string(f.after_attention_norm));
    add_norm(block.middle_norm, prefix + std::string(f.middle_norm));
    add_norm(block.after_mlp_norm, prefix + std::string(f.after_mlp_norm));
  }
  add_norm(model.final_norm, std::string(f.final_norm));
  for (const auto& [name, tensor] : model.extra) writer.add(name, tensor);
}

bool is_weight_file(const fs::path& file) {
  const std::string name = file.filename().string();
  return file.extension() == ".safetensors" ||
         name.ends_with(".safetensors.index.json");
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

Model read_checkpoint(const fs::path& folder) {
  if (!fs::is_directory(folder))
    fail(ErrorKind::kInput,
         fmt::format("{}: no such checkpoint folder", folder.string()));
  const fs::path config_file = folder / "config.json";
  if (!fs::exists(config_file))
    fail(ErrorKind::kInput,
         fmt::format("{}: no config.json in the folder", folder.string()));
  Model model;
  model.source = folder;
  const std::string config_text = read_file(config_file);
  model.config = parse_json(config_text, config_file.string());
  model.architecture = read_architecture(model.config, config_file.string());
  if (!fs::exists(folder / "model.safetensors") &&
      !fs::exists(folder / "model.safetensors.index.json")) {
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".bin")
        fail(ErrorKind::kInput,
             fmt::format("{}: PyTorch .bin weights are not supported for this "
                         "family; convert them to safetensors",
                         entry.path().string()));
  }
  const QuantizationConfig quantization =
      QuantizationConfig::read(model.config, config_file.string());
  const TensorFolder tensors = TensorFolder::open(folder);
  return with_context(
      [&] { return "while reading the checkpoint " + folder.string(); },
      [&] {
        const Architecture& a = model.architecture;
        const FamilyTable& f = *a.family;
        Reader reader(tensors, quantization);
        model.embedding = reader.weight(std::string(f.embedding), a.vocabulary,
                                        a.hidden, true);
        for (std::size_t i = 0; i < a.blocks.size(); ++i)
          model.blocks.push_back(read_block(reader, a, i));
        model.final_norm =
            reader.tensor(std::string(f.final_norm) + ".weight", {a.hidden});
        if (!a.tied_head)
          model.head =
              reader.linear(std::string(f.head), a.vocabulary, a.hidden, false);
        model.extra = reader.rest();
        // A tied head that is stored all the same says nothing new.
        if (a.tied_head) model.extra.erase(std::string(f.head) + ".weight");
        for (const auto& [name, tensor] : model.extra)
          log_info("{}: tensor '{}' is not part of a {} model; copied through",
                   folder.string(), name, f.name);
        return std::move(model);
      });
}

std::uint64_t write_checkpoint(const Model& model, const fs::path& folder) {
  Json config = write_architecture(model.config, model.architecture);
  config = write_quantization_config(std::move(config), model);
  TensorFolderWriter writer(folder);
  write_weights(model, writer);
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
