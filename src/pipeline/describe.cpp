#include "autoglm/pipeline/describe.h"

#include <algorithm>
#include <fstream>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"
#include "autoglm/model/footprint.h"
#include "autoglm/passes/pass.h"

namespace autoglm {

namespace fs = std::filesystem;

ModelRecord describe_model(const Model& model) {
  ModelRecord record;
  const Footprint size = footprint(model);
  record.parameters = size.total().parameters;
  record.active_parameters = size.active_parameters;
  record.weight_bytes = size.total().bytes;
  record.cache_bytes = cache_bytes_per_token(
      model.architecture,
      static_cast<std::int64_t>(at::elementSize(dtype(model.embedding))));
  record.parts = {{"embedding", size.embedding.bytes},
                  {"attention", size.attention.bytes},
                  {"mlp", size.mlp.bytes},
                  {"experts", size.experts.bytes},
                  {"router", size.router.bytes},
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
    record.blocks.push_back(
        {w.query_heads, w.kv_heads, w.ffn, w.experts, w.shared_ffn});
  return record;
}

std::vector<PassReach> describe_reach(const Model& model) {
  const Model before = to_device(model, at::kMeta);
  const std::vector<NamedLinear> linears = named_linears(before);
  std::vector<PassReach> out;
  for (const PassInfo& info : pass_catalogue()) {
    PassReach reach;
    reach.type = info.type;
    Model after = before;
    try {
      info.make(ConfigNode())->plan(after);
    } catch (const Error& error) {
      reach.refusal = error.message();
    }
    if (reach.refusal.empty()) {
      std::set<std::string> left;
      for (const NamedLinear& linear : named_linears(after))
        left.insert(linear.name);
      for (const NamedLinear& linear : linears) {
        if (left.contains(linear.name)) {
          const Weight& was = weight_of(before, linear.name);
          const Weight& is = weight_of(after, linear.name);
          if (rows(was) == rows(is) && columns(was) == columns(is) &&
              describe(was) == describe(is))
            continue;
        }
        ++reach.matrices;
        const std::string kind = place_of(linear.name).kind;
        if (std::find(reach.kinds.begin(), reach.kinds.end(), kind) ==
            reach.kinds.end())
          reach.kinds.push_back(kind);
      }
      update_widths(after);
      reach.bytes = footprint(after).total().bytes;
    }
    out.push_back(std::move(reach));
  }
  return out;
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

Json describe_config(const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::kNull:
      return nullptr;
    case ConfigNode::Kind::kScalar: {
      if (!node.quoted) {
        const Json parsed = Json::parse(node.scalar, nullptr, false);
        if (parsed.is_number() || parsed.is_boolean()) return parsed;
      }
      return node.scalar;
    }
    case ConfigNode::Kind::kList: {
      Json list = Json::array();
      for (const ConfigNode& item : node.items)
        list.push_back(describe_config(item));
      return list;
    }
    case ConfigNode::Kind::kMap: {
      Json map = Json::object();
      for (const auto& [key, value] : node.entries)
        map[key] = describe_config(value);
      return map;
    }
  }
  return nullptr;
}

Json describe_data(const TokenWindows& windows) {
  return {{"source", windows.source},
          {"windows", windows.count()},
          {"length", windows.length},
          {"text_bytes", windows.text_bytes}};
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.rfind("model name", 0) == 0)
      if (const auto colon = line.find(": "); colon != std::string::npos)
        return line.substr(colon + 2);
  return "unknown";
}

}  // namespace autoglm
