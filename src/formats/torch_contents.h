// A file of torch.save taken apart: the pickled object, and the bytes of each
// storage. The same for both formats.
#pragma once

#include <map>
#include <string>

#include "autoglm/core/file.h"
#include "formats/pickle.h"
#include "formats/torch_zip.h"

namespace autoglm {

struct TorchContents {
  Pickle pickle;  // points into the mapping
  std::map<std::string, FileRange, std::less<>> storages;  // by key
};

/// The zip of PyTorch 1.6 and later. Throws kInput.
TorchContents read_torch_archive(const MappedFile& file);

/// The format before it: five pickles (magic, version, system, object, keys),
/// then each storage as an 8-byte element count and its data. Throws kInput.
TorchContents read_torch_legacy(const MappedFile& file);

/// True if the file starts with the magic of the old format.
bool starts_like_torch_legacy(const MappedFile& file);

}  // namespace autoglm
