// The directory of a torch.save archive: which bytes of the mapped file each
// record has. Nothing is unpacked and nothing is written, so the names of the
// records never become paths.
// Format: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5; what PyTorch makes of it:
// caffe2/serialize/inline_container.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "autoglm/core/file.h"

namespace autoglm {

/// A range of bytes of the file, checked to lie inside it.
struct FileRange {
  std::uint64_t begin;
  std::uint64_t size;
};

/// The records of the archive's one root folder, by their name below it
/// ("data.pkl", "data/0"). The root is the folder with `data.pkl`, whatever
/// its name. Records outside it are left out, and so are names with `..`, a
/// backslash or a slash in front. Throws kInput: a damaged directory,
/// compressed or encrypted records, two records of one name, more than one
/// root.
std::map<std::string, FileRange, std::less<>> read_torch_zip(
    const MappedFile& file);

/// True if the file starts like a zip.
bool starts_like_zip(const MappedFile& file);

}  // namespace autoglm
