// Every golden fixture: what it takes to be the model that its reference is.
// Prints the measured differences, the table of docs/families.md.
#include "tests/model/golden.h"

#include <ATen/core/grad_mode.h>

#include <cstdio>

#include "autoglm/model/forward.h"
#include "autoglm/model/generate.h"

using namespace autoglm;
using autoglm::test::compare;
using autoglm::test::Golden;

namespace {

// One line on stdout: fixture, what was compared, largest difference.
void report(const Golden& golden, const char* what, double difference) {
  std::printf("golden %-19s %-24s %.1e\n", golden.name.c_str(), what,
              difference);
}

bool two_dimensional(const Golden& golden) {
  return golden.model.architecture.two_dimensional();
}

// Runs with hidden states and compares all of them.
void check_forward(const Golden& golden, const ForwardOptions& given,
                   const char* what) {
  std::vector<at::Tensor> hidden;
  ForwardOptions options = given;
  options.on_hidden = [&](at::Tensor x) { hidden.push_back(std::move(x)); };
  const at::Tensor logits = forward(golden.model, golden["input_ids"], options);
  report(golden, what, compare(logits, golden["logits"], "logits"));
  REQUIRE(hidden.size() == golden.model.blocks.size() + 1);
  double most = 0;
  for (std::size_t i = 0; i < hidden.size(); ++i) {
    const std::string name = "hidden." + std::to_string(i);
    most = std::max(most, compare(hidden[i], golden[name], name));
  }
  most = std::max(most, compare(final_hidden(golden.model, hidden.back()),
                                golden["final_norm"], "final_norm"));
  report(golden, "hidden states", most);
}

// Only real tokens count.
void check_padded(const Golden& golden, const ForwardOptions& options,
                  const char* what) {
  const at::Tensor logits =
      forward(golden.model, golden["padded.input_ids"], options);
  CHECK(at::isfinite(logits).all().item<bool>());
  const at::Tensor real = golden["padded.attention_mask"].to(at::kBool);
  report(golden, what,
         compare(logits.index({real}), golden["padded.logits"].index({real}),
                 what));
}

}  // namespace

TEST_CASE("golden: logits and hidden states of every family") {
  const at::NoGradGuard no_grad;
  for (const std::string& name : test::golden_names()) {
    INFO(name);
    check_forward(Golden(name), {}, "logits");
  }
}

TEST_CASE("golden: left-padded batches of every family") {
  const at::NoGradGuard no_grad;
  for (const std::string& name : test::golden_names()) {
    INFO(name);
    const Golden golden(name);
    ForwardOptions options;
    options.mask = golden["padded.attention_mask"];
    check_padded(golden, options, "padded logits");
    // The positions that were derived are those of the reference.
    const AttentionContext context = attention_context(
        golden.model, golden["padded.input_ids"], options.mask);
    const at::Tensor real = options.mask.to(at::kBool);
    const at::Tensor expected = golden["padded.position_ids"];
    if (two_dimensional(golden)) {
      CHECK(context.positions.index({real}).equal(
          expected.select(1, 0).index({real})));
      CHECK(context.block_positions.index({real}).equal(
          expected.select(1, 1).index({real})));
    } else {
      CHECK(context.positions.index({real}).equal(expected.index({real})));
    }
  }
}

TEST_CASE("golden: greedy tokens of every family match exactly") {
  const at::NoGradGuard no_grad;
  for (const std::string& name : test::golden_names()) {
    INFO(name);
    const Golden golden(name);
    const at::Tensor expected = golden["greedy.output_ids"];
    GenerateOptions options;
    options.max_tokens = 24;
    options.stop_at_end = false;
    CHECK(at::equal(generate(golden.model, golden["greedy.input_ids"], options),
                    expected));
    // The same steps once more, for their logits.
    KvCache cache;
    ForwardOptions step;
    step.cache = &cache;
    step.last_only = true;
    at::Tensor input = golden["greedy.input_ids"];
    std::vector<at::Tensor> logits;
    for (std::int64_t t = input.size(1); t < expected.size(1); ++t) {
      logits.push_back(forward(golden.model, input, step));
      input = expected.narrow(1, t, 1);
    }
    report(
        golden, "greedy logits, cached",
        compare(at::cat(logits, 1), golden["greedy.logits"], "greedy.logits"));
  }
}

TEST_CASE("golden: two-dimensional positions and masks may be given") {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"chatglm_6b", "glm_10b"}) {
    INFO(name);
    Golden golden(name);
    // Nothing is derived: the model does not know its blank.
    golden.model.architecture.blank = {};
    ForwardOptions options;
    options.positions = golden["position_ids"];
    options.mask = golden["attention_mask"];
    check_forward(golden, options, "logits, all given");
    // Positions alone: the second dimension tells the prompt.
    options.mask = at::Tensor();
    check_forward(golden, options, "logits, positions given");

    ForwardOptions padded;
    padded.positions = golden["padded.position_ids"];
    padded.mask = golden["padded.attention_mask_4d"];
    // The reference of 2021 lets padding rows see what follows them, the other
    // nothing; neither counts.
    check_padded(golden, padded, "padded logits, all given");
  }
}

TEST_CASE("golden: derived positions and masks are the given ones") {
  for (const std::string name : {"chatglm_6b", "glm_10b"}) {
    INFO(name);
    const Golden golden(name);
    const AttentionContext context =
        attention_context(golden.model, golden["input_ids"]);
    CHECK(at::stack({context.positions, context.block_positions}, 1)
              .equal(golden["position_ids"]));
    REQUIRE(context.bias.defined());
    CHECK((context.bias == 0).equal(golden["attention_mask"].to(at::kBool)));
  }
}

TEST_CASE("golden: glm_10b without positions is a causal model") {
  const at::NoGradGuard no_grad;
  Golden golden("glm_10b");
  golden.model.architecture.blank = {};
  report(golden, "logits, causal",
         compare(forward(golden.model, golden["causal.input_ids"]),
                 golden["causal.logits"], "causal.logits"));
  // A prompt without a start token is one too, whatever is known.
  golden = Golden("glm_10b");
  compare(forward(golden.model, golden["causal.input_ids"]),
          golden["causal.logits"], "causal.logits with a known blank");
}

TEST_CASE("golden: glm_10b's greedy steps in one pass and step by step") {
  const at::NoGradGuard no_grad;
  Golden golden("glm_10b");
  golden.model.architecture.blank = {};
  const at::Tensor prompt = golden["greedy.input_ids"];
  const at::Tensor all = golden["greedy.output_ids"];
  const at::Tensor ids = all.narrow(1, 0, all.size(1) - 1);
  const std::int64_t first = prompt.size(1) - 1;
  ForwardOptions options;
  options.positions = golden["greedy.position_ids"];
  options.mask = golden["greedy.attention_mask"];
  report(golden, "greedy logits, all given",
         compare(forward(golden.model, ids, options).narrow(1, first, 24),
                 golden["greedy.logits"], "greedy.logits at once"));

  KvCache cache;
  ForwardOptions step;
  step.cache = &cache;
  std::vector<at::Tensor> logits;
  for (std::int64_t t = 0; t < ids.size(1);) {
    const std::int64_t count = t == 0 ? prompt.size(1) : 1;
    step.positions = options.positions.narrow(2, t, count);
    logits.push_back(forward(golden.model, ids.narrow(1, t, count), step));
    t += count;
  }
  compare(at::cat(logits, 1).narrow(1, first, 24), golden["greedy.logits"],
          "greedy.logits step by step, positions given");
}
