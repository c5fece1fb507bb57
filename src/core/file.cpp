#include "autoglm/core/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

std::string reason() { return std::strerror(errno); }

std::string temporary_name(const fs::path& file) {
  return file.string() + ".tmp" + std::to_string(getpid());
}

// A rename is only durable once its folder is on the disk.
void sync_folder(const fs::path& folder) {
  const int fd = open(folder.empty() ? "." : folder.c_str(),
                      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

void rename_or_fail(const fs::path& from, const fs::path& to) {
  if (std::rename(from.c_str(), to.c_str()) == 0) return;
  fail(ErrorKind::kResources,
       fmt::format("cannot rename {} to {}: {}", from.string(), to.string(),
                   reason()));
}

}  // namespace

struct MappedFile::Mapping {
  fs::path path;
  void* data = nullptr;
  std::size_t size = 0;
  ~Mapping() {
    if (data != nullptr) munmap(data, size);
  }
};

MappedFile MappedFile::open(const fs::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    fail(ErrorKind::kInput,
         fmt::format("{}: cannot open: {}", file.string(), reason()));
  struct stat status = {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    fail(ErrorKind::kInput,
         fmt::format("{}: not a regular file", file.string()));
  }
  auto mapping = std::make_shared<Mapping>();
  mapping->path = file;
  mapping->size = static_cast<std::size_t>(status.st_size);
  if (mapping->size > 0) {  // an empty file cannot be mapped
    void* data = mmap(nullptr, mapping->size, PROT_READ, MAP_PRIVATE, fd, 0);
    const int error = errno;
    close(fd);
    if (data == MAP_FAILED)
      fail(ErrorKind::kResources,
           fmt::format("{}: cannot map: {}", file.string(),
                       std::strerror(error)));
    mapping->data = data;
  } else {
    close(fd);
  }
  MappedFile out;
  out.mapping_ = std::move(mapping);
  return out;
}

const std::byte* MappedFile::data() const {
  return static_cast<const std::byte*>(mapping_->data);
}
std::size_t MappedFile::size() const { return mapping_->size; }
const fs::path& MappedFile::path() const { return mapping_->path; }
std::shared_ptr<const void> MappedFile::keep_alive() const { return mapping_; }

std::string read_file(const fs::path& file) {
  const MappedFile mapped = MappedFile::open(file);
  if (mapped.size() == 0) return "";
  return std::string(reinterpret_cast<const char*>(mapped.data()),
                     mapped.size());
}

OutputFile::OutputFile(const fs::path& file)
    : file_(file),
      descriptor_(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                         0666)) {
  if (descriptor_ < 0)
    fail(ErrorKind::kResources,
         fmt::format("{}: cannot write: {}", file.string(), reason()));
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

void OutputFile::write(const void* data, std::size_t size) {
  const char* bytes = static_cast<const char*>(data);
  position_ += size;
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, bytes, size);
    if (written < 0) {
      if (errno == EINTR) continue;
      fail(ErrorKind::kResources,
           fmt::format("{}: cannot write: {}", file_.string(), reason()));
    }
    bytes += written;
    size -= static_cast<std::size_t>(written);
  }
}

void OutputFile::finish() {
  const bool synced = fsync(descriptor_) == 0;
  const int error = errno;
  const bool closed = close(descriptor_) == 0;
  descriptor_ = -1;
  if (!synced || !closed)
    fail(ErrorKind::kResources,
         fmt::format("{}: cannot write: {}", file_.string(),
                     std::strerror(synced ? errno : error)));
}

void write_file_atomically(const fs::path& file, std::string_view content) {
  const fs::path temporary = temporary_name(file);
  try {
    OutputFile out(temporary);
    out.write(content.data(), content.size());
    out.finish();
    rename_or_fail(temporary, file);
    sync_folder(file.parent_path());
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

void copy_file_atomically(const fs::path& from, const fs::path& to) {
  const MappedFile source = MappedFile::open(from);
  write_file_atomically(
      to, {reinterpret_cast<const char*>(source.data()), source.size()});
}

StagedFolder::StagedFolder(fs::path target, fs::path staging)
    : target_(std::move(target)), staging_(std::move(staging)) {
  std::error_code error;
  fs::create_directories(staging_, error);
  if (error)
    fail(ErrorKind::kResources,
         fmt::format("cannot make the folder {}: {}", staging_.string(),
                     error.message()));
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  if (remove_) fs::remove_all(staging_, ignored);
}

void StagedFolder::commit() {
  const fs::path aside = target_.string() + ".old" + std::to_string(getpid());
  const bool replaces = fs::exists(target_);
  if (replaces) rename_or_fail(target_, aside);
  try {
    rename_or_fail(staging_, target_);
  } catch (...) {
    if (replaces) std::rename(aside.c_str(), target_.c_str());
    throw;
  }
  remove_ = false;
  sync_folder(target_.parent_path());
  std::error_code ignored;
  if (replaces) fs::remove_all(aside, ignored);
}

std::uint64_t disk_bytes(const fs::path& path) {
  if (fs::is_regular_file(path)) return fs::file_size(path);
  std::uint64_t total = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path))
    if (entry.is_regular_file()) total += entry.file_size();
  return total;
}

std::string fingerprint(std::string_view content) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const char c : content)
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return fmt::format("{:016x}", hash);
}

std::string file_fingerprint(const fs::path& file) {
  const MappedFile mapped = MappedFile::open(file);
  constexpr std::size_t kEdge = 64 * 1024;
  const char* data = reinterpret_cast<const char*>(mapped.data());
  std::string text =
      file.filename().string() + "\n" + std::to_string(mapped.size()) + "\n";
  if (mapped.size() <= 2 * kEdge) {
    text.append(data, mapped.size());
  } else {
    text.append(data, kEdge);
    text.append(data + mapped.size() - kEdge, kEdge);
  }
  return fingerprint(text);
}

}  // namespace autoglm
