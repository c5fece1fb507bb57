// Settings of a quantization for some of its matrices:
//
//   overrides:
//     - {layers: ["layers.0.*", "*.down"], bits: 8, group_size: 32}
//     - {layers: ["layers.7.*"], ignore: true}
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "autoglm/core/options.h"
#include "autoglm/model/model.h"

namespace autoglm {

inline Choices quantization_methods() {
  return {"adaquant", "gptq", "mse", "rtn"};
}

/// What is not given stays as the pass has it.
struct QuantizationOverride {
  std::vector<std::string> layers = {"*"};
  std::optional<std::int64_t> bits;
  std::optional<std::int64_t> group_size;
  std::optional<bool> symmetric;
  std::optional<std::string> method;
  std::optional<bool> ignore;

  template <class Field>
  void visit(Field&& field) {
    field("layers", layers, "matrices it is for; globs over layer names");
    field("bits", bits, "width of a code", Range{2, 8});
    field("group_size", group_size, "as above", Range{-1, 65536});
    field("symmetric", symmetric, "as above");
    field("method", method, "as above", quantization_methods());
    field("ignore", ignore, "leave them as they are");
  }
};

/// What overrides say of one matrix.
struct MatrixOverride {
  std::optional<std::int64_t> bits;
  std::optional<std::int64_t> group_size;
  std::optional<bool> symmetric;
  std::optional<std::string> method;
  bool ignore = false;
};

/// The matrices that `overrides` select, by canonical name. Entries apply in
/// order, each setting by itself: the last entry that gives it wins, so a later
/// `ignore: false` takes an earlier `ignore: true` back. Throws kConfig for a
/// glob that selects nothing, and an entry without globs or settings.
std::map<std::string, MatrixOverride> resolve_overrides(
    const Model& model, const std::vector<QuantizationOverride>& overrides);

}  // namespace autoglm
