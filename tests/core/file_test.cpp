#include "autoglm/core/file.h"

#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

TEST_CASE("file: atomic writing replaces the content and leaves nothing else") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "one");
  write_file_atomically(folder / "a", "two");
  CHECK(read_file(folder / "a") == "two");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) ==
        1);
}

TEST_CASE("file: a write that fails keeps the old file and names the new one") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  // A file size limit stands in for a full disk: write() fails with EFBIG.
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {4096, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string text = error_of(ErrorKind::kResources, [&] {
    write_file_atomically(folder / "a", std::string(100000, 'x'));
  });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  CHECK(text.find((folder / "a").string()) == 0);
  CHECK(read_file(folder / "a") == "old");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) ==
        1);
}

TEST_CASE("file: reading what is not there says why") {
  const TemporaryFolder folder;
  CHECK(error_of(ErrorKind::kInput, [&] { read_file(folder / "none"); }) ==
        (folder / "none").string() +
            ": cannot open: No such file or directory");
  error_of(ErrorKind::kInput, [&] { read_file(folder.path()); });
}

TEST_CASE("file: an empty file maps to nothing and reads as empty") {
  const TemporaryFolder folder;
  std::ofstream(folder / "empty").flush();
  CHECK(MappedFile::open(folder / "empty").size() == 0);
  CHECK(read_file(folder / "empty").empty());
}

TEST_CASE("file: a mapping outlives the object that made it") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "content");
  std::shared_ptr<const void> alive;
  const std::byte* data = nullptr;
  {
    const MappedFile mapped = MappedFile::open(folder / "a");
    alive = mapped.keep_alive();
    data = mapped.data();
  }
  CHECK(static_cast<char>(data[0]) == 'c');
}

TEST_CASE("file: a staged folder appears whole or not at all") {
  const TemporaryFolder folder;
  {
    StagedFolder staged(folder / "out", folder / "out.partial");
    write_file_atomically(staged.path() / "a", "1");
  }
  CHECK_FALSE(std::filesystem::exists(folder / "out"));
  CHECK_FALSE(std::filesystem::exists(folder / "out.partial"));
  {
    StagedFolder staged(folder / "out", folder / "out.partial");
    write_file_atomically(staged.path() / "a", "2");
    staged.commit();
  }
  {
    StagedFolder staged(folder / "out", folder / "out.partial");
    write_file_atomically(staged.path() / "b", "3");
    staged.commit();
  }
  CHECK(read_file(folder / "out" / "b") == "3");
  CHECK_FALSE(std::filesystem::exists(folder / "out" / "a"));
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) ==
        1);
}

TEST_CASE("file: fingerprints follow the known FNV-1a values") {
  CHECK(fingerprint("") == "cbf29ce484222325");
  CHECK(fingerprint("a") == "af63dc4c8601ec8c");
}
