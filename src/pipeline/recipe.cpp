#include "autoglm/pipeline/recipe.h"

#include <algorithm>
#include <set>

#include "autoglm/core/text.h"
#include "autoglm/pipeline/text_data.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

const ConfigNode kNothing;

const ConfigNode& entry(const ConfigNode& map, std::string_view key) {
  const ConfigNode* node = map.find(key);
  return node != nullptr ? *node : kNothing;
}

std::int64_t read_count(const ConfigNode& map, const char* key,
                        std::int64_t fallback, std::int64_t least,
                        const std::string& owner) {
  const ConfigNode* node = map.find(key);
  if (node == nullptr) return fallback;
  const std::string what = owner + "." + key;
  const std::int64_t value = node->as_int(what);
  if (value < least || value > 100'000'000)
    fail_at(node->place, fmt::format("{} must be at least {}, but is {}", what,
                                     least, value));
  return value;
}

DataSource read_data_source(const ConfigNode& data, const std::string& name,
                            DataSource defaults) {
  const ConfigNode& node = entry(data, name);
  if (node.is_null()) return defaults;
  const std::string owner = "data." + name;
  check_keys(node, {"file", "windows", "length"}, owner);
  DataSource source = defaults;
  if (const ConfigNode* file = node.find("file")) {
    source.file = file->as_string(owner + ".file");
    if (!fs::is_regular_file(source.file))
      fail(ErrorKind::kInput,
           fmt::format("{}: {}.file: no such file: {} (paths are relative to "
                       "the current folder)",
                       file->place.text(), owner, source.file.string()));
  }
  source.windows = read_count(node, "windows", defaults.windows, 0, owner);
  source.length = read_count(node, "length", defaults.length, 1, owner);
  return source;
}

ConfigNode data_to_config(const DataSource& source) {
  ConfigNode node = ConfigNode::map();
  node.set("file", ConfigNode::of(source.file.string(), true));
  node.set("windows", ConfigNode::of(source.windows));
  node.set("length", ConfigNode::of(source.length));
  return node;
}

// What each measure may be limited by.
struct MeasureRule {
  const char* name;
  bool min, max, ratio;
};

constexpr MeasureRule kMeasures[] = {
    {"accuracy_retention", true, false, false},
    {"accuracy", true, false, false},
    {"top1_agreement", true, false, false},
    {"cosine", true, false, false},
    {"kl", false, true, false},
    {"kl_p99", false, true, false},
    {"l2", false, true, false},
    {"perplexity", false, true, true},
    {"bits_per_byte", false, true, true},
    {"latency", false, true, true},
    {"size", false, true, true},
};

Constraint read_constraint(const std::string& name, const ConfigNode& node) {
  std::vector<std::string> measures;
  const MeasureRule* rule = nullptr;
  for (const MeasureRule& known : kMeasures) {
    measures.emplace_back(known.name);
    if (name == known.name) rule = &known;
  }
  if (rule == nullptr)
    fail_at(
        node.key_place,
        fmt::format("unknown measure '{}' in constraints{}; known: {}", name,
                    did_you_mean(name, measures), fmt::join(measures, ", ")));
  const bool latency = name == "latency";
  std::vector<std::string> keys;
  if (rule->min) keys.emplace_back("min");
  if (rule->max) keys.emplace_back(latency ? "max_ms" : "max");
  if (rule->ratio) keys.emplace_back("max_ratio");
  if (latency) keys.insert(keys.end(), {"phase", "batch"});
  const std::string owner = "constraints." + name;
  check_keys(node, keys, owner);

  Constraint out;
  out.measure = name;
  const auto number = [&](const char* key) -> std::optional<double> {
    const ConfigNode* value = node.find(key);
    if (value == nullptr) return std::nullopt;
    if (name == "size" && std::string_view(key) == "max") {
      return with_context(
          [&] { return value->place.text() + ": " + owner + ".max"; },
          [&] {
            return static_cast<double>(
                parse_bytes(value->as_string(owner + ".max")));
          });
    }
    const double read = value->as_double(owner + "." + key);
    if (read < 0)
      fail_at(value->place,
              fmt::format("{}.{} must not be negative", owner, key));
    return read;
  };
  out.min = number("min");
  out.max = number(latency ? "max_ms" : "max");
  out.max_ratio = number("max_ratio");
  if (!out.min && !out.max && !out.max_ratio)
    fail_at(node.place, fmt::format("{} sets no limit; give one of: {}", owner,
                                    fmt::join(keys, ", ")));
  if (latency) {
    if (const ConfigNode* phase = node.find("phase")) {
      out.phase = phase->as_string(owner + ".phase");
      if (out.phase != "prefill" && out.phase != "decode")
        fail_at(phase->place,
                fmt::format("{}.phase must be prefill or decode, but is '{}'",
                            owner, out.phase));
    }
    out.batch = read_count(node, "batch", 1, 1, owner);
  }
  return out;
}

ConfigNode constraints_to_config(const std::vector<Constraint>& constraints) {
  ConfigNode out = ConfigNode::map();
  for (const Constraint& c : constraints) {
    ConfigNode node = ConfigNode::map();
    if (c.min) node.set("min", ConfigNode::of(*c.min));
    if (c.max) {
      const char* key = c.measure == "latency" ? "max_ms" : "max";
      node.set(key, c.measure == "size"
                        ? ConfigNode::of(static_cast<std::int64_t>(*c.max))
                        : ConfigNode::of(*c.max));
    }
    if (c.max_ratio) node.set("max_ratio", ConfigNode::of(*c.max_ratio));
    if (c.measure == "latency") {
      node.set("phase", ConfigNode::of(c.phase));
      node.set("batch", ConfigNode::of(c.batch));
    }
    out.set(c.measure, std::move(node));
  }
  return out;
}

std::vector<Step> read_steps(const ConfigNode& compression,
                             const ConfigPlace& root) {
  if (compression.is_null())
    fail_at(root, "nothing to do: 'compression' lists no passes");
  if (!compression.is_list())
    fail_at(compression.place,
            "compression should be a list of passes ('- type: ...')");
  if (compression.items.empty())
    fail_at(compression.place, "compression lists no passes");
  std::vector<std::string> types;
  for (const PassInfo& info : pass_catalogue()) types.push_back(info.type);

  std::vector<Step> steps;
  std::set<std::string> names;
  for (std::size_t i = 0; i < compression.items.size(); ++i) {
    const ConfigNode& node = compression.items[i];
    const std::string owner = fmt::format("compression[{}]", i);
    check_keys(node, {"type", "name", "params"}, owner);
    const ConfigNode* type = node.find("type");
    if (type == nullptr)
      fail_at(node.place, fmt::format("{} has no 'type'; known: {}", owner,
                                      fmt::join(types, ", ")));
    Step step;
    step.type = type->as_string(owner + ".type");
    const PassInfo* info = find_pass(step.type);
    if (info == nullptr)
      fail_at(
          type->place,
          fmt::format("unknown pass '{}'{}; known: {}", step.type,
                      did_you_mean(step.type, types), fmt::join(types, ", ")));
    step.name = step.type;
    if (const ConfigNode* name = node.find("name"))
      step.name = name->as_string(owner + ".name");
    if (!names.insert(step.name).second)
      fail_at(node.place,
              fmt::format("two passes are called '{}'; give this one a name of "
                          "its own ('name: ...')",
                          step.name));
    step.pass = info->make(entry(node, "params"));
    steps.push_back(std::move(step));
  }
  return steps;
}

}  // namespace

Recipe read_recipe(const fs::path& file, const RecipeOverrides& overrides) {
  ConfigNode root = read_config(file);
  for (const std::string& assignment : overrides.assignments)
    apply_override(root, assignment);
  const auto replace = [&](const char* key, const std::string& value) {
    if (value.empty()) return;
    ConfigNode node = ConfigNode::of(value, true);
    node.place = node.key_place = {fmt::format("--{}", key), 0, 0};
    root.set(key, std::move(node));
  };
  if (root.place.source.empty()) root.place.source = file.string();
  if (!root.is_null() && !root.is_map())
    fail_at(root.place, "a configuration is a map of keys");
  replace("model", overrides.model);
  replace("output", overrides.output);
  replace("device", overrides.device);
  check_keys(root,
             {"model", "output", "seed", "device", "data", "compression",
              "constraints", "search"},
             "the configuration");

  Recipe recipe;
  recipe.file = file;
  const auto path = [&](const char* key, const char* meaning) -> fs::path {
    const ConfigNode* node = root.find(key);
    if (node == nullptr || node->is_null())
      fail_at(root.place, fmt::format("'{0}' is missing: name the {1} there or "
                                      "with --{0}",
                                      key, meaning));
    return node->as_string(key);
  };
  recipe.model = path("model", "checkpoint folder");
  recipe.output = path("output", "output folder");
  if (const ConfigNode* seed = root.find("seed")) {
    const std::int64_t value = seed->as_int("seed");
    if (value < 0) fail_at(seed->place, "seed must not be negative");
    recipe.seed = static_cast<std::uint64_t>(value);
  }
  if (const ConfigNode* device = root.find("device"))
    recipe.device = device->as_string("device");

  const ConfigNode& data = entry(root, "data");
  check_keys(data, {"calibration", "evaluation", "training"}, "data");
  // Without a file the text that comes with autoglm is used; resolved.yaml
  // names it.
  const auto source = [&](const char* name, std::int64_t windows) {
    DataSource defaults{{}, windows, 256};
    const ConfigNode& node = entry(data, name);
    if (!node.is_map() || node.find("file") == nullptr)
      defaults.file = shipped_text(name);
    return read_data_source(data, name, defaults);
  };
  recipe.calibration = source("calibration", 128);
  recipe.evaluation = source("evaluation", 200);
  // Training wants more text than calibration: by default all of its file.
  recipe.training =
      read_data_source(data, "training",
                       {recipe.calibration.file, 0, recipe.calibration.length});
  if (const ConfigNode* search = root.find("search"))
    fail_at(search->key_place,
            "'search' is not available in this version; list fixed passes "
            "under 'compression'");
  recipe.steps = read_steps(entry(root, "compression"), root.place);
  const ConfigNode& constraints = entry(root, "constraints");
  if (!constraints.is_null() && !constraints.is_map())
    fail_at(constraints.place, "constraints should be a map of measures");
  for (const auto& [name, node] : constraints.entries)
    recipe.constraints.push_back(read_constraint(name, node));
  return recipe;
}

ConfigNode Recipe::resolved() const {
  ConfigNode root = ConfigNode::map();
  root.set("model", ConfigNode::of(model.string(), true));
  root.set("output", ConfigNode::of(output.string(), true));
  root.set("seed", ConfigNode::of(static_cast<std::int64_t>(seed)));
  root.set("device", ConfigNode::of(device));
  ConfigNode data = ConfigNode::map();
  data.set("calibration", data_to_config(calibration));
  data.set("evaluation", data_to_config(evaluation));
  data.set("training", data_to_config(training));
  root.set("data", std::move(data));
  ConfigNode list = ConfigNode::list();
  for (const Step& step : steps) {
    ConfigNode node = ConfigNode::map();
    node.set("type", ConfigNode::of(step.type, true));
    if (step.name != step.type)
      node.set("name", ConfigNode::of(step.name, true));
    node.set("params", step.pass->resolved_params());
    list.items.push_back(std::move(node));
  }
  root.set("compression", std::move(list));
  if (!constraints.empty())
    root.set("constraints", constraints_to_config(constraints));
  return root;
}

}  // namespace autoglm
