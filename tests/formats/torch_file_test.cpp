#include "autoglm/formats/torch_file.h"

#include <chrono>
#include <cstring>
#include <fstream>
#include <random>

#include "autoglm/formats/tensor_folder.h"
#include "tests/formats/torch_builder.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using namespace autoglm::test;

namespace {

// Six floats 0 to 5.
std::string six_floats() {
  std::string out(24, '\0');
  for (int i = 0; i < 6; ++i) {
    const auto value = static_cast<float>(i);
    std::memcpy(out.data() + 4 * i, &value, 4);
  }
  return out;
}

TorchFile open_bytes(const std::string& bytes) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "t.bin", bytes);
  return TorchFile::open(folder / "t.bin");
}

std::string refusal(const std::string& bytes) {
  const std::string text =
      error_of(ErrorKind::kInput, [&] { open_bytes(bytes); });
  CHECK(text.find("t.bin: ") != std::string::npos);
  return text;
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

// What is said of one tensor 'x' over a storage of six floats.
std::string tensor_refusal(const BuiltTensor& built) {
  const std::string text =
      refusal(make_archive(mapping({{"x", tensor(built)}}), {six_floats()}));
  CHECK(contains(text, "tensor 'x': "));
  return text;
}

at::Tensor one_tensor(const BuiltTensor& built) {
  return open_bytes(
             make_archive(mapping({{"x", tensor(built)}}), {six_floats()}))
      .tensor("x");
}

}  // namespace

TEST_CASE("torch file: offset and strides are honoured") {
  const at::Tensor all = at::arange(6, at::kFloat);
  CHECK(at::equal(one_tensor({}), all.view({2, 3})));
  CHECK(at::equal(one_tensor({.size = {3, 2}, .strides = {1, 3}}),
                  all.view({2, 3}).t()));
  CHECK(at::equal(one_tensor({.offset = 1, .size = {3}, .strides = {2}}),
                  all.slice(0, 1, 6, 2)));
  CHECK(one_tensor({.offset = 5, .size = {}, .strides = {}}).item<float>() ==
        5);
  CHECK(at::equal(one_tensor({.offset = 2, .size = {4}, .strides = {0}}),
                  at::full({4}, 2.f)));
  const at::Tensor empty = one_tensor({.size = {0, 9}, .strides = {9, 1}});
  CHECK(empty.sizes() == at::IntArrayRef({0, 9}));
}

TEST_CASE("torch file: data that is not aligned is copied") {
  for (std::size_t shift = 0; shift < 4; ++shift) {
    ZipRecord storage = {"a/data/0", six_floats()};
    storage.local_extra = std::string(shift, 'x');
    const TorchFile file = open_bytes(make_zip(
        {{"a/data.pkl", pickle(mapping({{"x", tensor({.offset = 1,
                                                      .size = {2, 2},
                                                      .strides = {1, 2}})}}))},
         storage}));
    const at::Tensor x = file.tensor("x");
    CHECK(reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % 4 == 0);
    CHECK(x[0][0].item<float>() == 1);
    CHECK(x[1][1].item<float>() == 4);
    CHECK(x.strides() == at::IntArrayRef({1, 2}));
  }
}

TEST_CASE("torch file: tensors of one storage share its memory") {
  const TorchFile file = open_bytes(make_archive(
      mapping({{"whole", tensor()},
               {"tied", tensor()},
               {"last", tensor({.offset = 5, .size = {1}, .strides = {1}})}}),
      {six_floats()}));
  const auto at = [&](const char* name) {
    return static_cast<const float*>(file.tensor(name).const_data_ptr());
  };
  CHECK(at("whole") == at("tied"));
  CHECK(at("last") == at("whole") + 5);
  CHECK(file.entries().at("last").end == file.entries().at("whole").end);
}

TEST_CASE("torch file: quantities that do not fit are refused") {
  CHECK(contains(tensor_refusal({.count = 7}), "should have 28 bytes"));
  CHECK(contains(tensor_refusal({.count = 5}), "should have 20 bytes"));
  CHECK(contains(tensor_refusal({.type = "HalfStorage"}), "(6 elements of 2)"));
  CHECK(contains(tensor_refusal({.count = -6}), "is not possible"));
  CHECK(contains(tensor_refusal({.count = INT64_MAX}), "is not possible"));
  CHECK(contains(tensor_refusal({.key = "1"}), "storage '1' is missing"));
  CHECK(contains(tensor_refusal({.key = "../data.pkl"}), "is missing"));
  CHECK(contains(tensor_refusal({.offset = 1}), "needs 28 bytes"));
  CHECK(contains(tensor_refusal({.offset = -1}), "offset -1 is negative"));
  CHECK(contains(tensor_refusal({.offset = INT64_MAX}), "overflows"));
  CHECK(contains(tensor_refusal({.size = {2, 4}}), "needs 28 bytes"));
  CHECK(contains(tensor_refusal({.size = {2, -3}}), "a dimension is not"));
  CHECK(contains(tensor_refusal({.strides = {3, -1}}), "a stride is not"));
  CHECK(contains(tensor_refusal({.strides = {1}}), "2 dimensions, but 1"));
  CHECK(
      contains(tensor_refusal({.size = {INT64_MAX, INT64_MAX}}), "overflows"));
  CHECK(contains(
      tensor_refusal({.size = {0, INT64_MAX, 4}, .strides = {0, 0, 0}}),
      "overflows"));
  CHECK(contains(tensor_refusal({.strides = {INT64_MAX, INT64_MAX}}),
                 "overflows"));
  // No terabytes out of four bytes.
  CHECK(contains(tensor_refusal({.size = {1LL << 40}, .strides = {0}}),
                 "its elements overlap"));
  const std::vector<std::int64_t> ones(65, 1);
  CHECK(contains(tensor_refusal({.size = ones, .strides = ones}),
                 "65 dimensions"));
}

TEST_CASE("torch file: the weights of a training checkpoint are found") {
  const auto names = [](const std::string& value) {
    std::vector<std::string> out;
    const TorchFile file = open_bytes(make_archive(value, {six_floats()}));
    for (const auto& [name, entry] : file.entries()) out.push_back(name);
    return out;
  };
  using Names = std::vector<std::string>;
  const std::string inner = mapping({{"x", tensor()}, {"version", "K\x01"}});
  CHECK(names(inner) == Names{"x"});
  CHECK(names(mapping({{"step", "K\x05"}, {"module", inner}})) == Names{"x"});
  CHECK(names(mapping({{"model", inner}})) == Names{"x"});
  CHECK(names(mapping({{"state_dict", inner}, {"list", "]"}})) == Names{"x"});
  // The state of a random generator is a tensor too.
  CHECK(names(mapping({{"rng", tensor()}, {"module", inner}})) == Names{"x"});
  CHECK(names(mapping({{"w", tensor()}, {"model", inner}})) == Names{"w"});
  CHECK(names("}") == Names{});
  // What nobody asks for may be wrong.
  CHECK(names(mapping({{"optimizer", mapping({{"y", tensor({.key = "9"})}})},
                       {"module", inner}})) == Names{"x"});
  CHECK(contains(refusal(make_archive(mapping({{"a", "N"}}), {})),
                 "holds no tensors"));
  CHECK(contains(refusal(make_archive("]", {})), "no mapping"));
  CHECK(
      contains(refusal(make_archive(mapping({{"x", tensor()}, {"x", tensor()}}),
                                    {six_floats()})),
               "tensor 'x': it is given twice"));
  CHECK(contains(
      refusal(make_archive(mapping({{"\xff", tensor()}}), {six_floats()})),
      "not UTF-8"));
}

TEST_CASE("torch file: parameters and untyped storages") {
  const std::string untyped =
      tuple({text("storage"), global("torch.storage", "UntypedStorage"),
             text("0"), text("cpu"), integer(24)}) +
      'Q';
  const auto v3 = [&](const std::string& dtype) {
    return call(global("torch._utils", "_rebuild_tensor_v3"),
                {untyped, "K\x01", integers({2, 2}), integers({2, 1}), "\x89",
                 "N", dtype});
  };
  const TorchFile file = open_bytes(make_archive(
      mapping({{"f8", v3(global("torch", "float8_e4m3fn"))},
               {"p", call(global("torch._utils", "_rebuild_parameter"),
                          {tensor(), "\x88", "N"})}}),
      {six_floats()}));
  CHECK(file.tensor("f8").scalar_type() == at::kFloat8_e4m3fn);
  CHECK(file.entries().at("f8").end - file.entries().at("f8").begin == 4);
  CHECK(file.tensor("p").sizes() == at::IntArrayRef({2, 3}));
  CHECK(contains(refusal(make_archive(v3(global("torch", "Size")), {})),
                 "torch.Size is not a dtype"));
}

TEST_CASE("torch file: byte order and kind of file") {
  const std::string value = pickle(mapping({{"x", tensor()}}));
  const auto archive = [&](const std::string& order) {
    return make_zip({{"a/data.pkl", value},
                     {"a/byteorder", order},
                     {"a/data/0", six_floats()}});
  };
  CHECK(open_bytes(archive("little")).entries().size() == 1);
  CHECK(contains(refusal(archive("big")), "byte order is 'big'"));
  CHECK(contains(refusal(""), "not a torch archive"));
  CHECK(contains(refusal("version https://"), "not a torch archive"));
}

TEST_CASE("torch file: cut anywhere or changed anywhere it does not crash") {
  const auto path =
      std::filesystem::path(AUTOGLM_SOURCE_DIR) / "tests/golden/containers";
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "t.bin";
  for (const char* name : {"bin_parameters", "bin_legacy"}) {
    const std::string whole = read_file(path / name / "pytorch_model.bin");
    for (std::size_t size = 0; size < whole.size(); ++size) {
      std::ofstream(file) << whole.substr(0, size);
      error_of(ErrorKind::kInput, [&] { TorchFile::open(file); });
    }
    std::mt19937 random(1);
    int loaded = 0;
    for (int i = 0; i < 2000; ++i) {
      std::string changed = whole;
      for (std::uint32_t n = random() % 4 + 1; n > 0; --n)
        changed[random() % changed.size()] = static_cast<char>(random());
      std::ofstream(file) << changed;
      try {
        const TorchFile read = TorchFile::open(file);
        for (const auto& [key, entry] : read.entries())
          read.tensor(key).contiguous();
        ++loaded;
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::kInput) FAIL(error.what());
      }
    }
    CHECK(loaded > 0);  // changes of data bytes
  }
}

TEST_CASE("torch file: 50,000 tensors open in well under ten seconds") {
  std::vector<std::pair<std::string, std::string>> tensors;
  for (int i = 0; i < 50'000; ++i)
    tensors.emplace_back("layers." + std::to_string(i), tensor());
  const TemporaryFolder folder;
  write_file_atomically(folder / "pytorch_model.bin",
                        make_archive(mapping(tensors), {six_floats()}));
  const auto start = std::chrono::steady_clock::now();
  CHECK(TensorFolder::open(folder.path()).names().size() == 50'000);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(10));
}
