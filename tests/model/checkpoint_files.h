// Checkpoints as files: what a test writes, reads and looks for in the log.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>

#include "autoglm/core/file.h"
#include "autoglm/core/log.h"
#include "autoglm/formats/safetensors.h"
#include "autoglm/model/checkpoint.h"
#include "autoglm/model/forward.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace autoglm::test {

using Tensors = std::map<std::string, at::Tensor>;

/// All tensors of a folder or a file, as they are stored.
inline Tensors stored_tensors(const std::filesystem::path& folder) {
  const TensorFolder files = TensorFolder::open(folder);
  Tensors out;
  for (const std::string& name : files.names()) out[name] = files.tensor(name);
  return out;
}

/// Writes config.json and model.safetensors.
inline void write_files(const std::filesystem::path& folder, const Json& config,
                        const Tensors& tensors) {
  write_safetensors(folder / "model.safetensors",
                    {tensors.begin(), tensors.end()});
  write_file_atomically(folder / "config.json", to_text(config));
}

/// The tensors of a checkpoint that would be written.
inline Tensors tensors_of(const Model& model) {
  const TemporaryFolder folder;
  write_checkpoint(model, folder.path());
  Tensors out = stored_tensors(folder.path());
  for (auto& [name, tensor] : out) tensor = tensor.clone();
  return out;
}

inline void check_same_tensors(const Tensors& a, const Tensors& b) {
  CHECK(a.size() == b.size());
  for (const auto& [name, tensor] : a) {
    INFO(name);
    REQUIRE(b.count(name) == 1);
    CHECK(b.at(name).scalar_type() == tensor.scalar_type());
    CHECK(at::equal(b.at(name), tensor));
  }
}

/// Same names, same forms, same numbers.
inline void check_same_model(const Model& a, const Model& b) {
  const auto linears = named_linears(a);
  REQUIRE(linears.size() == named_linears(b).size());
  for (const NamedLinear& linear : linears) {
    INFO(linear.name);
    const Weight& x = weight_of(a, linear.name);
    const Weight& y = weight_of(b, linear.name);
    CHECK(describe(x) == describe(y));
    CHECK(at::equal(to_dense(x, at::kFloat), to_dense(y, at::kFloat)));
  }
  CHECK(a.head.has_value() == b.head.has_value());
  const at::Tensor ids = at::arange(2 * 9, at::kLong).view({2, 9});
  CHECK(at::equal(forward(a, ids), forward(b, ids)));
}

/// What `body` adds to the log.
template <class Body>
std::string logged(Body&& body) {
  static const TemporaryFolder folder;
  static const std::filesystem::path file = [] {
    set_log_level(LogLevel::kOff);
    set_log_file(folder / "log");
    return folder / "log";
  }();
  const std::size_t before = read_file(file).size();
  std::forward<Body>(body)();
  return read_file(file).substr(before);
}

}  // namespace autoglm::test
