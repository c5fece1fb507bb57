#include "autoglm/formats/safetensors.h"

#include <sys/resource.h>

#include <csignal>

#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;
using autoglm::test::TemporaryFolder;

namespace {

// A file with the given header text and `data` zero bytes.
std::string raw_file(const std::string& header, std::size_t data,
                     std::uint64_t length = 0) {
  if (length == 0) length = header.size();
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(length >> (8 * i));
  return out + header + std::string(data, '\0');
}

std::string open_error(const std::string& content) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "t.safetensors", content);
  const std::string text = error_of(ErrorKind::kInput, [&] {
    SafetensorsFile::open(folder / "t.safetensors");
  });
  CHECK(text.find("t.safetensors") != std::string::npos);
  return text;
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("safetensors: every dtype comes back with its bytes and shape") {
  const TemporaryFolder folder;
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const at::ScalarType dtype :
       {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble, at::kChar, at::kByte,
        at::kShort, at::kInt, at::kLong, at::kBool})
    tensors.emplace_back(c10::toString(dtype),
                         at::arange(6, at::kInt).reshape({2, 3}).to(dtype));
  tensors.emplace_back("f8", at::arange(6, at::kFloat).to(at::kFloat8_e4m3fn));
  tensors.emplace_back("scalar", at::tensor(2.5f).reshape({}));
  tensors.emplace_back("empty", at::empty({0, 4}, at::kHalf));
  tensors.emplace_back("view", at::arange(12, at::kFloat).reshape({3, 4}).t());
  write_safetensors(folder / "a.safetensors", tensors, {{"note", "x"}});
  const SafetensorsFile file = SafetensorsFile::open(folder / "a.safetensors");
  CHECK(file.metadata().at("format") == "pt");
  CHECK(file.metadata().at("note") == "x");
  for (const auto& [name, tensor] : tensors) {
    INFO(name);
    const at::Tensor read = file.tensor(name);
    CHECK(read.scalar_type() == tensor.scalar_type());
    CHECK(read.sizes() == tensor.sizes());
    CHECK(at::equal(read.to(at::kDouble), tensor.to(at::kDouble)));
    CHECK(reinterpret_cast<std::uintptr_t>(read.const_data_ptr()) %
              static_cast<std::uintptr_t>(read.element_size()) ==
          0);
  }
}

TEST_CASE("safetensors: a tensor outlives the file object") {
  const TemporaryFolder folder;
  write_safetensors(folder / "a.safetensors", {{"x", at::ones({1000})}});
  at::Tensor x;
  { x = SafetensorsFile::open(folder / "a.safetensors").tensor("x"); }
  CHECK(x.sum().item<float>() == 1000);
}

TEST_CASE("safetensors: unaligned data is read all the same") {
  const TemporaryFolder folder;
  std::string file = raw_file(
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0);
  while ((file.size() % 4) == 0)
    file = raw_file(
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}} ", 0);
  const float values[2] = {1.5f, -2.5f};
  file.append(reinterpret_cast<const char*>(values), sizeof values);
  write_file_atomically(folder / "a.safetensors", file);
  const at::Tensor a =
      SafetensorsFile::open(folder / "a.safetensors").tensor("a");
  CHECK(a[0].item<float>() == 1.5f);
  CHECK(a[1].item<float>() == -2.5f);
}

TEST_CASE("safetensors: a header that lies is refused, each lie by name") {
  const auto tensor = [](const std::string& fields) {
    return "{\"x\":{" + fields + "}}";
  };
  CHECK(contains(open_error(""), "too short"));
  CHECK(contains(open_error(raw_file("{}", 0, std::uint64_t{1} << 63)),
                 "is impossible"));
  CHECK(contains(open_error(raw_file("{}", 0, 1000)), "cut short"));
  CHECK(contains(open_error(raw_file("[]", 0)), "not a JSON object"));
  CHECK(contains(open_error(raw_file(std::string(5000, '['), 0)), "nested"));
  CHECK(contains(open_error(raw_file("{}", 4)), "promises 0 data bytes"));
  CHECK(contains(open_error(raw_file(tensor("\"dtype\":\"F17\",\"shape\":[1],"
                                            "\"data_offsets\":[0,4]"),
                                     4)),
                 "tensor 'x': unknown dtype F17"));
  CHECK(contains(open_error(raw_file(tensor("\"dtype\":\"F32\",\"shape\":[-1],"
                                            "\"data_offsets\":[0,4]"),
                                     4)),
                 "tensor 'x': a dimension is not a whole number"));
  CHECK(contains(
      open_error(raw_file(tensor("\"dtype\":\"F32\",\"shape\":[4294967296,"
                                 "4294967296],\"data_offsets\":[0,4]"),
                          4)),
      "tensor 'x': the shape's size overflows"));
  CHECK(contains(open_error(raw_file(tensor("\"dtype\":\"F32\",\"shape\":[1],"
                                            "\"data_offsets\":[4,0]"),
                                     4)),
                 "tensor 'x': data_offsets [4, 0] are reversed"));
  CHECK(contains(open_error(raw_file(tensor("\"dtype\":\"F32\",\"shape\":[9],"
                                            "\"data_offsets\":[0,32]"),
                                     32)),
                 "needs 36 bytes, but data_offsets give it 32"));
  CHECK(contains(open_error(raw_file(tensor("\"dtype\":\"F32\",\"shape\":[2],"
                                            "\"data_offsets\":[0,8]"),
                                     4)),
                 "past the end"));
  CHECK(contains(open_error(raw_file(tensor("\"dtype\":\"F32\""), 4)),
                 "tensor 'x': shape is missing"));
  const std::string one =
      "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}";
  CHECK(
      contains(open_error(raw_file("{\"x\":" + one + ",\"x\":" + one + "}", 4)),
               "'x' is given twice"));
  CHECK(
      contains(open_error(raw_file("{\"x\":" + one + ",\"y\":" + one + "}", 4)),
               "overlap"));
}

TEST_CASE("safetensors: a syntax error in the header has its place") {
  CHECK(contains(open_error(raw_file("{\n \"x\": ?}", 0)),
                 "t.safetensors: header:2:7: not valid JSON: "));
  CHECK(contains(open_error(raw_file("{} {}", 0)), "header:1:4: not valid"));
  CHECK(contains(open_error(raw_file("{\"x\":1e999}", 0)), "number overflow"));
}

TEST_CASE("safetensors: a write that fails leaves no file behind") {
  const TemporaryFolder folder;
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {4096, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  error_of(ErrorKind::kResources, [&] {
    write_safetensors(folder / "a.safetensors", {{"x", at::ones({10000})}});
  });
  error_of(ErrorKind::kResources, [&] {
    TensorFolderWriter writer(folder.path());
    writer.add("x", at::ones({10000}));
    writer.finish();
  });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  CHECK(std::filesystem::is_empty(folder.path()));
}
