#include "autoglm/pipeline/record.h"

#include <cctype>
#include <charconv>

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

// Reads fields with the file's name in every complaint.
class Fields {
 public:
  Fields(const Json& object, std::string source)
      : object_(object), source_(std::move(source)) {
    if (!object.is_object())
      fail(ErrorKind::kInput, source_ + ": an object was expected");
  }
  std::string text(const char* key) const {
    return json_string(object_, key, source_);
  }
  std::int64_t integer(const char* key) const {
    return json_int(object_, key, source_);
  }
  std::uint64_t size(const char* key) const {
    return static_cast<std::uint64_t>(integer(key));
  }
  double number(const char* key) const {
    return json_double(object_, key, source_);
  }
  bool flag(const char* key) const {
    return json_bool_or(object_, key, false, source_);
  }
  bool has(const char* key) const { return object_.contains(key); }
  const Json& child(const char* key) const {
    if (!has(key))
      fail(ErrorKind::kInput, source_ + ": " + key + " is missing");
    return object_[key];
  }
  Json child_or_null(const char* key) const {
    return has(key) ? object_[key] : Json();
  }
  const std::string& source() const { return source_; }

 private:
  const Json& object_;
  std::string source_;
};

ModelRecord model_from_json(const Json& json, const std::string& source) {
  const Fields fields(json, source);
  ModelRecord m;
  m.parameters = fields.size("parameters");
  m.active_parameters = fields.has("active_parameters")
                            ? fields.size("active_parameters")
                            : m.parameters;
  m.weight_bytes = fields.size("weight_bytes");
  m.disk_bytes = fields.size("disk_bytes");
  m.cache_bytes = fields.has("cache_bytes_per_token")
                      ? fields.size("cache_bytes_per_token")
                      : 0;
  for (const auto& [part, bytes] : fields.child("parts").items())
    m.parts.emplace_back(part,
                         bytes.is_number() ? bytes.get<std::uint64_t>() : 0);
  for (const Json& item : fields.child("blocks")) {
    const Fields w(item, source + ": blocks");
    m.blocks.push_back({w.integer("query_heads"), w.integer("kv_heads"),
                        w.integer("ffn"),
                        w.has("experts") ? w.integer("experts") : 0,
                        w.has("shared_ffn") ? w.integer("shared_ffn") : 0});
  }
  for (const Json& item : fields.child("linears")) {
    const Fields l(item, source + ": linears");
    m.linears.push_back({l.text("name"), l.integer("out"), l.integer("in"),
                         l.text("format"), l.number("bits"), l.size("bytes")});
  }
  if (fields.has("scorecard"))
    m.scorecard = scorecard_from_json(fields.child("scorecard"), source);
  if (fields.has("latency"))
    m.latency = latency_from_json(fields.child("latency"), source);
  return m;
}

}  // namespace

MatrixPlace place_of(const std::string& name) {
  static constexpr std::string_view kLayers = "layers.";
  if (!name.starts_with(kLayers)) return {std::nullopt, name};
  std::size_t block = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] =
      std::from_chars(name.data() + kLayers.size(), end, block);
  if (error != std::errc() || rest == end || *rest != '.')
    return {std::nullopt, name};
  std::string kind;
  for (const char* c = rest + 1; c != end; ++c) {
    const bool digit = std::isdigit(static_cast<unsigned char>(*c)) != 0;
    const bool in_number =
        digit && (kind.empty() || kind.back() == '.' || kind.back() == '*');
    if (!in_number) {
      kind += *c;
    } else if (kind.empty() || kind.back() != '*') {
      kind += '*';
    }
  }
  return {block, kind};
}

Json to_json(const ModelRecord& m) {
  Json parts = Json::object();
  for (const auto& [part, bytes] : m.parts) parts[part] = bytes;
  Json linears = Json::array();
  for (const LinearRecord& l : m.linears)
    linears.push_back({{"name", l.name},
                       {"out", l.out},
                       {"in", l.in},
                       {"format", l.format},
                       {"bits", l.bits},
                       {"bytes", l.bytes}});
  Json blocks = Json::array();
  for (const ModelRecord::Widths& w : m.blocks)
    blocks.push_back({{"query_heads", w.query_heads},
                      {"kv_heads", w.kv_heads},
                      {"ffn", w.ffn},
                      {"experts", w.experts},
                      {"shared_ffn", w.shared_ffn}});
  Json out = {{"parameters", m.parameters},
              {"active_parameters", m.active_parameters},
              {"weight_bytes", m.weight_bytes},
              {"disk_bytes", m.disk_bytes},
              {"cache_bytes_per_token", m.cache_bytes},
              {"parts", parts},
              {"blocks", blocks},
              {"linears", linears}};
  if (m.scorecard) out["scorecard"] = to_json(*m.scorecard);
  if (m.latency) out["latency"] = to_json(*m.latency);
  return out;
}

Json to_json(const StepRecord& s) {
  Json out = {{"name", s.name},       {"type", s.type},
              {"status", s.status},   {"error", s.error},
              {"seconds", s.seconds}, {"resumed", s.resumed},
              {"params", s.params},   {"notes", s.notes}};
  if (s.after) out["after"] = to_json(*s.after);
  return out;
}

StepRecord step_from_json(const Json& json, const std::string& source) {
  const Fields fields(json, source + ": steps");
  StepRecord s;
  s.name = fields.text("name");
  s.type = fields.text("type");
  s.status = fields.text("status");
  s.error = fields.text("error");
  s.seconds = fields.number("seconds");
  s.resumed = fields.flag("resumed");
  s.params = fields.child_or_null("params");
  s.notes = fields.child_or_null("notes");
  if (fields.has("after"))
    s.after = model_from_json(fields.child("after"), fields.source());
  return s;
}

Json to_json(const Record& r) {
  Json out = {{"autoglm_version", r.autoglm_version},
              {"libtorch_version", r.libtorch_version},
              {"started", r.started},
              {"seconds", r.seconds},
              {"status", r.status},
              {"error", r.error},
              {"model", r.model},
              {"output", r.output},
              {"config", r.config},
              {"input_fingerprint", r.input_fingerprint},
              {"device", r.device},
              {"cpu", r.cpu},
              {"threads", r.threads},
              {"seed", r.seed},
              {"data", r.data},
              {"before", to_json(r.before)},
              {"steps", Json::array()}};
  for (const StepRecord& step : r.steps) out["steps"].push_back(to_json(step));
  if (r.after) out["after"] = to_json(*r.after);
  out["constraints"] = Json::array();
  for (const ConstraintRecord& c : r.constraints)
    out["constraints"].push_back({{"measure", c.measure},
                                  {"limit", c.limit},
                                  {"value", c.value},
                                  {"bound", c.bound},
                                  {"met", c.met}});
  out["resolved"] = r.resolved;
  return out;
}

Record record_from_json(const Json& json, const std::string& source) {
  const Fields fields(json, source);
  Record r;
  r.autoglm_version = fields.text("autoglm_version");
  r.libtorch_version = fields.text("libtorch_version");
  r.started = fields.text("started");
  r.seconds = fields.number("seconds");
  r.status = fields.text("status");
  r.error = fields.text("error");
  r.model = fields.text("model");
  r.output = fields.text("output");
  r.config = fields.text("config");
  r.input_fingerprint = fields.text("input_fingerprint");
  r.device = fields.text("device");
  r.cpu = fields.text("cpu");
  r.threads = fields.integer("threads");
  r.seed = fields.size("seed");
  r.data = fields.child_or_null("data");
  r.resolved = fields.child_or_null("resolved");
  r.before = model_from_json(fields.child("before"), source + ": before");
  for (const Json& step : fields.child("steps"))
    r.steps.push_back(step_from_json(step, source));
  if (fields.has("after"))
    r.after = model_from_json(fields.child("after"), source + ": after");
  for (const Json& item : fields.child("constraints")) {
    const Fields c(item, source + ": constraints");
    r.constraints.push_back({c.text("measure"), c.text("limit"),
                             c.number("value"), c.number("bound"),
                             c.flag("met")});
  }
  return r;
}

}  // namespace autoglm
