#include "autoglm/pipeline/describe.h"

#include <algorithm>

#include "autoglm/core/file.h"
#include "autoglm/model/footprint.h"

namespace autoglm {

namespace fs = std::filesystem;

ModelRecord describe_model(const Model& model) {
  ModelRecord record;
  const Footprint size = footprint(model);
  record.parameters = size.total().parameters;
  record.weight_bytes = size.total().bytes;
  record.parts = {{"embedding", size.embedding.bytes},
                  {"attention", size.attention.bytes},
                  {"mlp", size.mlp.bytes},
                  {"norms", size.norms.bytes},
                  {"head", size.head.bytes},
                  {"extra", size.extra.bytes}};
  for (const NamedLinear& linear : named_linears(model)) {
    const Weight& weight = weight_of(model, linear.name);
    record.linears.push_back({linear.name, rows(weight), columns(weight),
                              describe(weight), code_bits(weight),
                              bytes(weight)});
  }
  for (const BlockWidths& w : model.architecture.blocks)
    record.blocks.push_back({w.query_heads, w.kv_heads, w.ffn});
  return record;
}

std::uint64_t checkpoint_bytes(const fs::path& folder) {
  std::uint64_t total = disk_bytes(folder);
  if (fs::is_directory(folder / "autoglm"))
    total -= disk_bytes(folder / "autoglm");
  return total;
}

std::string checkpoint_fingerprint(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string extension = entry.path().extension();
    if (entry.is_regular_file() &&
        (extension == ".safetensors" || extension == ".json" ||
         extension == ".bin"))
      files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::string all;
  for (const fs::path& file : files) all += file_fingerprint(file) + "\n";
  return fingerprint(all);
}

}  // namespace autoglm
