// Files and folders: reading whole, mapping, writing so that a reader sees the
// old or the new content and never half of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace autoglm {

/// The whole file. Throws kInput with the system's reason.
std::string read_file(const std::filesystem::path& file);

/// Writes beside `file` under a temporary name, syncs, renames. Throws
/// kResources (disk full, no permission) and leaves the old file in place.
void write_file_atomically(const std::filesystem::path& file,
                           std::string_view content);

/// Copies byte for byte, atomically.
void copy_file_atomically(const std::filesystem::path& from,
                          const std::filesystem::path& to);

/// A read-only mapping of a whole file. Copies share it; the last one unmaps.
class MappedFile {
 public:
  /// Throws kInput if the file is missing or not a regular file.
  static MappedFile open(const std::filesystem::path& file);

  const std::byte* data() const;
  std::size_t size() const;
  const std::filesystem::path& path() const;
  /// Keeps the mapping alive; for deleters of tensors that point into it.
  std::shared_ptr<const void> keep_alive() const;

 private:
  struct Mapping;
  std::shared_ptr<Mapping> mapping_;
};

/// Appends to a file under its own checks: every failed write is a kResources
/// error that names the file.
class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& file);  // truncates
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  void write(const void* data, std::size_t size);
  std::uint64_t position() const { return position_; }
  /// Flushes to the disk and closes; without it the content is not promised.
  void finish();

 private:
  std::filesystem::path file_;
  int descriptor_;
  std::uint64_t position_ = 0;
};

/// A folder that appears whole: work in path(), then commit() renames it to
/// the target (replacing an old one); otherwise the destructor removes it.
class StagedFolder {
 public:
  /// `staging` is made if missing; an existing one is kept (resume).
  StagedFolder(std::filesystem::path target, std::filesystem::path staging);
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  const std::filesystem::path& path() const { return staging_; }
  /// Leaves the staged files in place for a later resume.
  void keep() { remove_ = false; }
  /// Renames to the target; an existing target is moved aside first and
  /// removed after, so a kill leaves the old or the new folder.
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path staging_;
  bool remove_ = true;
};

/// Bytes of all regular files below a folder, or of one file.
std::uint64_t disk_bytes(const std::filesystem::path& path);

/// 64-bit FNV-1a as 16 hex digits: tells inputs apart, proves nothing.
std::string fingerprint(std::string_view content);

/// Fingerprint of a large file by name, size and first and last 64 KiB.
std::string file_fingerprint(const std::filesystem::path& file);

}  // namespace autoglm
