// Files made by PyTorch and safetensors, tensor by tensor, and broken ones.
// Where they come from: tests/golden/containers/README.md.
#include "autoglm/core/file.h"
#include "autoglm/core/json.h"
#include "autoglm/formats/tensor_folder.h"
#include "tests/formats/sha256.h"
#include "tests/support/catch.h"
#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;
namespace fs = std::filesystem;

namespace {

const fs::path kGolden = fs::path(AUTOGLM_SOURCE_DIR) / "tests/golden";

std::string bytes_of(const at::Tensor& tensor) {
  const at::Tensor packed = tensor.contiguous();
  return {static_cast<const char*>(packed.const_data_ptr()), packed.nbytes()};
}

TensorFolder container(const char* name) {
  return TensorFolder::open(kGolden / "containers" / name);
}

}  // namespace

TEST_CASE("sha256: the examples of the standard") {
  CHECK(test::sha256("") ==
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(test::sha256("abc") ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("containers: every tensor has its dtype, shape and bytes") {
  int folders = 0;
  for (const auto& folder : fs::directory_iterator(kGolden / "containers")) {
    if (!folder.is_directory()) continue;
    ++folders;
    INFO(folder.path().filename().string());
    const TensorFolder read = TensorFolder::open(folder.path());
    const Json expected = read_json(folder.path() / "expected.json")["tensors"];
    CHECK(read.names().size() == expected.size());
    for (const auto& [name, facts] : expected.items()) {
      INFO(name);
      REQUIRE(read.contains(name));
      const TensorEntry& entry = read.entry(name);
      const at::Tensor tensor = read.tensor(name);
      CHECK(safetensors_dtype(entry.dtype) == facts["dtype"]);
      CHECK(tensor.scalar_type() == entry.dtype);
      CHECK(entry.shape == facts["shape"].get<std::vector<std::int64_t>>());
      CHECK(tensor.sizes().vec() == entry.shape);
      const std::string bytes = bytes_of(tensor);
      CHECK(bytes.size() == facts["bytes"].get<std::size_t>());
      CHECK(test::sha256(bytes) == facts["sha256"]);
    }
  }
  CHECK(folders == 7);
}

TEST_CASE("containers: views of one storage share memory and keep strides") {
  const TensorFolder views = container("bin_views");
  const at::Tensor base = views.tensor("base");  // [6, 8]
  const at::Tensor rows = views.tensor("rows");  // from the third row on
  const at::Tensor transposed = views.tensor("transposed");
  CHECK(base.const_data_ptr() == transposed.const_data_ptr());
  CHECK(transposed.strides() == at::IntArrayRef({1, 8}));
  CHECK(at::equal(transposed, base.t()));
  CHECK(static_cast<const float*>(rows.const_data_ptr()) ==
        static_cast<const float*>(base.const_data_ptr()) + 16);
  CHECK_FALSE(views.tensor("every_second").is_contiguous());
}

TEST_CASE("containers: a tensor outlives its folder") {
  const at::Tensor rows = container("bin_views").tensor("rows");
  CHECK(rows[0][0].item<float>() == Approx(1.4188272953033447));
}

TEST_CASE("containers: a pickle that runs a command is refused by its name") {
  const fs::path folder = kGolden / "broken/13_pickle_runs_command";
  const std::string text =
      error_of(ErrorKind::kInput, [&] { TensorFolder::open(folder); });
  INFO(text);
  CHECK(text.find("pytorch_model.bin: data.pkl: byte ") != std::string::npos);
  CHECK(text.find("the global posix.system is refused") != std::string::npos);
}

TEST_CASE("containers: names that climb out of a zip are left out") {
  const fs::path folder = kGolden / "broken/14_zip_path_traversal";
  CHECK(TensorFolder::open(folder).contains("lm_head.weight"));
  CHECK_FALSE(fs::exists(kGolden / "evil.txt"));
}

TEST_CASE("containers: plain text and a short storage are refused") {
  const auto open_error = [](const char* name) {
    return error_of(ErrorKind::kInput,
                    [&] { TensorFolder::open(kGolden / "broken" / name); });
  };
  std::string text = open_error("21_bin_not_a_zip");
  INFO(text);
  CHECK(text.find("pytorch_model.bin: not a torch archive") !=
        std::string::npos);
  text = open_error("24_storage_too_small");
  INFO(text);
  CHECK(text.find("pytorch_model.bin: tensor '") != std::string::npos);
  CHECK(text.find("its storage '3' should have 128 bytes (32 elements of 4), "
                  "but has 120") != std::string::npos);
}
