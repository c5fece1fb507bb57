#include "formats/tensor_file.h"

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "formats/byte_reader.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

// A clone without git-lfs has these few lines in place of the weights.
bool is_lfs_pointer(const MappedFile& file) {
  constexpr std::string_view kStart = "version https://git-lfs.";
  const ByteReader bytes(file);
  return bytes.holds(0, kStart.size()) &&
         bytes.text(0, kStart.size()) == kStart;
}

// The header of a safetensors file is a JSON object.
bool starts_like_safetensors(const MappedFile& file) {
  const ByteReader bytes(file);
  return bytes.holds(0, 9) && bytes.text(8, 1) == "{";
}

bool promises_torch(const fs::path& file) {
  const std::string extension = file.extension().string();
  return extension == ".bin" || extension == ".pt" || extension == ".pth";
}

}  // namespace

TensorFile TensorFile::open(const fs::path& path) {
  const MappedFile file = MappedFile::open(path);
  if (is_lfs_pointer(file))
    fail(ErrorKind::kInput,
         fmt::format("{}: a pointer of git-lfs, not the weights; fetch them "
                     "with `git lfs pull`",
                     path.string()));
  if (TorchFile::recognizes(file) ||
      (promises_torch(path) && !starts_like_safetensors(file)))
    return TensorFile(TorchFile::open(path));
  return TensorFile(SafetensorsFile::open(path));
}

const std::map<std::string, TensorEntry>& TensorFile::entries() const {
  return std::visit(
      [](const auto& file) -> const std::map<std::string, TensorEntry>& {
        return file.entries();
      },
      content_);
}

at::Tensor TensorFile::tensor(const std::string& name) const {
  return std::visit([&](const auto& file) { return file.tensor(name); },
                    content_);
}

const fs::path& TensorFile::path() const {
  return std::visit(
      [](const auto& file) -> const fs::path& { return file.path(); },
      content_);
}

}  // namespace autoglm
