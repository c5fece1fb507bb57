#include "autoglm/passes/sensitivity_record.h"

namespace autoglm {
namespace {

// The same kind of thing in every block; null pointers where there is none.
template <class T>
void compare(const std::vector<T*>& all, double threshold) {
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i] == nullptr) continue;
    double sum = 0;
    int count = 0;
    for (const std::size_t other : {i - 1, i + 1})  // below 0: very large
      if (other < all.size() && all[other] != nullptr) {
        sum += all[other]->removed;
        ++count;
      }
    all[i]->trend = count == 0 ? 0 : all[i]->removed - sum / count;
    all[i]->redundant = all[i]->removed < threshold;
  }
}

Json to_json(const PartSensitivity& part) {
  Json out = {{"part", part.part},          {"parameters", part.parameters},
              {"taylor", part.taylor},      {"influence", part.influence},
              {"kl_removed", part.removed}, {"trend", part.trend},
              {"redundant", part.redundant}};
  if (part.cut) {
    out["kl_cut"] = *part.cut;
    out["cut_from"] = part.cut_from;
    out["cut_to"] = part.cut_to;
  }
  if (part.four_bits) out["kl_4_bits"] = *part.four_bits;
  return out;
}

}  // namespace

void compare_neighbours(SensitivityRecord& record) {
  std::vector<BlockSensitivity*> blocks;
  for (BlockSensitivity& block : record.blocks) blocks.push_back(&block);
  compare(blocks, record.threshold);
  for (const char* name : {"attention", "mlp"}) {
    std::vector<PartSensitivity*> parts(record.blocks.size(), nullptr);
    for (std::size_t i = 0; i < record.blocks.size(); ++i)
      for (PartSensitivity& part : record.blocks[i].parts)
        if (part.part == name) parts[i] = &part;
    compare(parts, record.threshold);
  }
}

Json to_json(const SensitivityRecord& record) {
  Json layers = Json::array();
  for (const BlockSensitivity& block : record.blocks) {
    Json parts = Json::array();
    for (const PartSensitivity& part : block.parts)
      parts.push_back(to_json(part));
    layers.push_back({{"layer", block.layer},
                      {"influence", block.influence},
                      {"kl_removed", block.removed},
                      {"trend", block.trend},
                      {"redundant", block.redundant},
                      {"parts", std::move(parts)}});
  }
  return {{"model", record.model},         {"data", record.data},
          {"windows", record.windows},     {"length", record.length},
          {"threshold", record.threshold}, {"loss", record.loss},
          {"layers", std::move(layers)}};
}

}  // namespace autoglm
