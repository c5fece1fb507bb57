#include "autoglm/model/model.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {
std::vector<std::string> select(const std::vector<std::string>& patterns) {
  return select_linears(test::tiny_model(), patterns);
}
using Names = std::vector<std::string>;
}  // namespace

TEST_CASE("names: canonical, stored and alias names select the same") {
  for (const char* pattern :
       {"layers.1.mlp.down", "model.layers.1.mlp.down_proj",
        "model.layers.1.mlp.down_proj.weight", "encoder.block.1.mlp.down",
        "encoder.layers.1.mlp.down_proj"})
    CHECK(select({pattern}) == Names{"layers.1.mlp.down"});
}

TEST_CASE("names: a block's name takes all in it, a star everything") {
  CHECK(select({"encoder.block.0"}).size() == 6);
  CHECK(select({"encoder.block.*"}).size() == 12);
  CHECK(select({"layers.1.*"}).size() == 6);
  CHECK(select({"*"}).size() == 14);
  CHECK(select({"layers.*.mlp.*", "layers.0.mlp.down"}).size() == 4);
  CHECK(select({"embedding", "lm_head"}) == Names{"embedding", "head"});
}

TEST_CASE("names: a pattern that selects nothing names a near one") {
  CHECK(
      test::error_of(ErrorKind::kConfig, [] { select({"encodr.block.*"}); }) ==
      "'encodr.block.*' matches no layer of this model (did you mean "
      "'encoder.block.*'?)");
  CHECK(test::error_of(ErrorKind::kConfig, [] {
          select({"layers.7"});
        }).find("'layers.7' matches no layer") == 0);
}
