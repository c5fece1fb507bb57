// Checkpoints in the Hugging Face layout: config.json, weights in safetensors
// or torch.save files, tokenizer files. Read in every published layout of a
// GLM; written as safetensors, quantized weights in the layouts of
// compressed-tensors with its quantization_config.
#pragma once

#include <filesystem>

#include "autoglm/model/model.h"

namespace autoglm {

/// How far to look into the weights.
enum class ReadDepth {
  kShapes,  // names, types and shapes: no value of a dense weight is read
  kValues,  // every value once, to warn about NaN in the file it is in
};

/// Reads a checkpoint. Weights stay memory-mapped until used; quantized ones
/// of other layouts are repacked. Throws kInput with file and tensor for
/// everything that is missing or does not fit; warns about NaN in a weight;
/// tensors it does not know go to Model::extra.
Model read_checkpoint(const std::filesystem::path& folder,
                      ReadDepth depth = ReadDepth::kValues);

/// Writes weights, config.json, and copies every other file of model.source
/// (tokenizer, generation config, README) byte for byte. `folder` must exist
/// and should be a staged one. Returns the bytes of tensor data.
/// Nothing compressed: the tensors' bytes are those that were read.
std::uint64_t write_checkpoint(const Model& model,
                               const std::filesystem::path& folder);

}  // namespace autoglm
