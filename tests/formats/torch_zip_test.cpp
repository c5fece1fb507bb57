#include "formats/torch_zip.h"

#include "tests/formats/torch_builder.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using namespace autoglm::test;

namespace {

using Records = std::map<std::string, std::string>;  // name, data

Records read(const std::string& zip) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "t.bin", zip);
  const MappedFile file = MappedFile::open(folder / "t.bin");
  Records out;
  for (const auto& [name, range] : read_torch_zip(file)) {
    REQUIRE(range.begin + range.size <= zip.size());
    out[name] = zip.substr(range.begin, range.size);
  }
  return out;
}

bool refused(const std::string& zip, const std::string& part) {
  const std::string text = error_of(ErrorKind::kInput, [&] { read(zip); });
  INFO(text);
  CHECK(text.find("t.bin: torch archive: ") != std::string::npos);
  return text.find(part) != std::string::npos;
}

const ZipRecord kPickle = {"any name/data.pkl", "pickle"};
const Records kExpected = {{"data.pkl", "pickle"}, {"data/0", "zero"}};

ZipRecord data(const std::string& name) { return {name, "zero"}; }

}  // namespace

TEST_CASE("torch zip: records are named below the root folder") {
  CHECK(read(make_zip({kPickle, data("any name/data/0")})) == kExpected);
  CHECK(read(make_zip({data("any name/data/0"), kPickle},
                      {.comment = std::string(65535, 'x')})) == kExpected);
  CHECK(read(make_zip({{"any name/", ""},
                       kPickle,
                       data("any name/data/0"),
                       data("other/data/1"),
                       data("loose")})) ==
        Records{{"", ""}, {"data.pkl", "pickle"}, {"data/0", "zero"}});
}

TEST_CASE("torch zip: padding of a local header is honoured") {
  ZipRecord padded = data("any name/data/0");
  padded.local_extra = "FB" + little(37, 2) + std::string(37, 'Z');
  CHECK(read(make_zip({kPickle, padded})) == kExpected);
}

TEST_CASE("torch zip: ZIP64 records and directory are read") {
  ZipRecord large = data("any name/data/0");
  large.zip64 = true;
  CHECK(read(make_zip({kPickle, large})) == kExpected);
  CHECK(read(make_zip({kPickle, large}, {.zip64 = true})) == kExpected);
  CHECK(read(make_zip({kPickle, data("any name/data/0")}, {.zip64 = true})) ==
        kExpected);
}

TEST_CASE("torch zip: names that leave the archive are left out") {
  for (const char* name :
       {"../../evil", "/evil", "any name/../../evil", "any name/data/..",
        "any name\\data\\1", "any name//1", "./any name/1", "any name/./1"})
    CHECK(read(make_zip({kPickle, data("any name/data/0"), data(name)})) ==
          kExpected);
  CHECK(read(make_zip({kPickle, data("any name/data/0"),
                       data(std::string("any name/\0x", 11))})) == kExpected);
}

TEST_CASE("torch zip: what is not a plain archive is refused by name") {
  ZipRecord bad = data("any name/data/0");
  bad.method = 8;
  CHECK(refused(make_zip({kPickle, bad}),
                "record 'any name/data/0' is compressed (method 8)"));
  bad.method = 0;
  bad.flags = 1;
  CHECK(refused(make_zip({kPickle, bad}),
                "record 'any name/data/0' is encrypted"));
  bad.flags = 0;
  bad.local_name = "any name/data/1";
  CHECK(refused(make_zip({kPickle, bad}), "has another name"));
  CHECK(refused(make_zip({kPickle, data("a/0"), data("a/0")}),
                "two records 'a/0'"));
  CHECK(refused(make_zip({kPickle, {"b/data.pkl", ""}}), "more than one"));
  CHECK(refused(make_zip({data("a/b/data.pkl")}), "no <folder>/data.pkl"));
  CHECK(refused(make_zip({data("data.pkl")}), "no <folder>/data.pkl"));
  CHECK(refused(make_zip({}), "no <folder>/data.pkl"));
}

TEST_CASE("torch zip: sizes, offsets and counts that lie are refused") {
  ZipRecord bad = data("any name/data/0");
  for (const std::int64_t more : {std::int64_t{1}, std::int64_t{1} << 31}) {
    bad.more_bytes = more;
    CHECK(refused(make_zip({kPickle, bad}), "past the end"));
  }
  bad.zip64 = true;
  for (const std::int64_t more :
       {std::int64_t{1} << 62, std::int64_t{-1} - 4, std::int64_t{-64}}) {
    bad.more_bytes = more;
    CHECK(refused(make_zip({kPickle, bad}), "past the end"));
  }
  CHECK(
      refused(make_zip({kPickle}, {.more_records = 1}), "records do not fit"));
  CHECK(refused(make_zip({kPickle}, {.zip64 = true, .more_records = -2}),
                "records do not fit"));
  std::string zip = make_zip({kPickle});
  zip.replace(zip.size() - 6, 4, "\xff\xff\xff\x7f");  // the directory's place
  CHECK(refused(zip, "does not fit the file"));
  zip = make_zip({kPickle});
  zip.replace(zip.size() - 6, 4, std::string(4, '\0'));
  CHECK(refused(zip, "damaged"));
  zip = make_zip({kPickle}, {.zip64 = true});
  zip.replace(zip.size() - 22 - 12, 8, 8, '\x7f');  // of the ZIP64 record
  CHECK(refused(zip, "ZIP64 directory record"));
}
