#include "threshold/threshold.hpp"

#include <cmath>
#include <limits>

#include "base/error.hpp"
#include "base/hash.hpp"

namespace bl::threshold {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "beamline threshold";
constexpr int kVersion = 1;

// Reads values of one JSON object, with errors that name the file and the key.
class Keys {
 public:
  Keys(const json& object, std::string_view where, std::string path = "") : object_(object), where_(where), path_(std::move(path)) {
    if (!object_.is_object()) fail(Exit::input, "'{}': {} is not an object", where_, path_.empty() ? "the file" : "'" + path_ + "'");
  }
  Keys object(const char* key) const { return Keys(at(key), where_, path_ + key + "."); }
  const json& at(const char* key) const {
    const auto it = object_.find(key);
    if (it == object_.end()) fail(Exit::input, "'{}': key '{}{}' is missing: fit the threshold again", where_, path_, key);
    return *it;
  }
  std::string text(const char* key) const {
    const json& v = at(key);
    if (!v.is_string()) wrong(key, v, "text");
    return v.get<std::string>();
  }
  // null reads as NaN
  double real(const char* key) const {
    const json& v = at(key);
    if (v.is_null()) return std::numeric_limits<double>::quiet_NaN();
    if (!v.is_number()) wrong(key, v, "a number");
    return v.get<double>();
  }
  std::uint64_t count(const char* key) const {
    const json& v = at(key);
    if (!v.is_number_unsigned()) wrong(key, v, "a whole number from 0");
    return v.get<std::uint64_t>();
  }
  bool flag(const char* key) const {
    const json& v = at(key);
    if (!v.is_boolean()) wrong(key, v, "true or false");
    return v.get<bool>();
  }
  std::vector<std::string> texts(const char* key) const {
    const json& v = at(key);
    if (!v.is_array()) wrong(key, v, "a list of texts");
    std::vector<std::string> out;
    for (const json& e : v) {
      if (!e.is_string()) wrong(key, v, "a list of texts");
      out.push_back(e.get<std::string>());
    }
    return out;
  }
  stats::Side side(const char* key) const {
    const std::string name = text(key);
    if (name != "low" && name != "high") wrong(key, at(key), "\"low\" or \"high\"");
    return name == "low" ? stats::Side::low : stats::Side::high;
  }
  [[noreturn]] void wrong(const char* key, const json& v, const char* wanted) const {
    fail(Exit::input, "'{}': key '{}{}' is {}, expected {}", where_, path_, key, v.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 60), wanted);
  }

 private:
  const json& object_;
  std::string where_, path_;
};

stats::Spread spread_of(const Keys& keys) { return {keys.real("error"), keys.real("low"), keys.real("high"), keys.real("mean"), keys.count("replicas")}; }

stats::Efficiency efficiency_of(const Keys& keys) {
  stats::Efficiency e;
  e.value = keys.real("value");
  e.error = keys.real("error");
  e.interval = {keys.real("low"), keys.real("high")};
  e.passed = keys.real("passed_weight");
  e.total = keys.real("total_weight");
  e.passed_events = keys.count("passed");
  e.total_events = keys.count("total");
  return e;
}

std::string sub(const json& meta, const char* name) {
  const auto it = meta.find(name);
  if (it == meta.end() || !it->is_object() || !it->contains("hash")) return "";
  return hex_of(it->at("hash"));
}

void same(const std::string& what, const std::string& fitted, const std::string& stream, std::string_view where) {
  if (fitted == stream) return;
  const auto say = [](const std::string& s) { return s.empty() ? std::string("unknown") : s; };
  fail(Exit::input, "{}: the threshold was fitted on scores of {} {}, this stream has {} {}: score both regions with one model, or fit again", where, what,
       say(fitted), what, say(stream));
}

}  // namespace

json number(double value) { return std::isnan(value) ? json(nullptr) : json(value); }
json to_json(const stats::Spread& s) {
  return {{"error", number(s.error)}, {"low", number(s.low)}, {"high", number(s.high)}, {"mean", number(s.mean)}, {"replicas", s.replicas}};
}
json to_json(const stats::Efficiency& e) {
  return {{"value", number(e.value)},  {"error", number(e.error)}, {"low", number(e.interval.low)}, {"high", number(e.interval.high)},
          {"passed_weight", e.passed}, {"total_weight", e.total},  {"passed", e.passed_events},     {"total", e.total_events}};
}

std::string hex_of(const json& hash) {
  if (hash.is_string()) return hash.get<std::string>();
  if (hash.is_number_unsigned()) return hex(hash.get<std::uint64_t>());
  return "";
}

Origin origin_of(const wire::Hello& hello, const ScoreColumn& score) {
  Origin o;
  o.schema = hello.schema;
  o.schema_hash = hex(hello.schema_hash);
  if (!hello.meta.is_object() || score.name == score.column) return o;
  o.model = sub(hello.meta, "model");
  o.tokenizer = sub(hello.meta, "tokenizer");
  const auto scoring = hello.meta.find("scoring");
  if (scoring != hello.meta.end() && scoring->is_object() && scoring->contains(score.name)) o.definition = scoring->at(score.name);
  return o;
}

json to_json(const Threshold& t) {
  json processes = json::object(), sides = json::object();
  for (const auto& [name, e] : t.processes) processes[name] = to_json(e);
  for (const auto& [name, side] : t.sides) sides[name] = stats::name_of(side);
  json objective = {{"name", stats::name_of(t.objective)},
                    {"value", number(t.value)},
                    {"spread", to_json(t.value_spread)},
                    {"optimism", number(t.optimism)},
                    {"min_background", t.min_background}};
  if (t.objective == stats::Objective::background_efficiency) objective["background_efficiency"] = t.objective_argument;
  return {{"format", kFormat},
          {"version", kVersion},
          {"score", t.score},
          {"orientation", stats::name_of(t.side)},
          {"threshold", t.threshold},
          {"threshold_spread", to_json(t.threshold_spread)},
          {"objective", objective},
          {"auc", {{"value", number(t.auc)}, {"spread", to_json(t.auc_spread)}}},
          {"weights", t.weighted},
          {"truth", {{"by", t.truth.by_label ? "label" : "process"}, {"signal", t.truth.signal}, {"background", t.truth.background}}},
          {"efficiency", {{"background", to_json(t.background)}, {"signal", to_json(t.signal)}, {"processes", processes}}},
          {"orientations", sides},
          {"control_region", {{"events", t.events}, {"digest", t.digest}}},
          {"origin",
           {{"schema", t.origin.schema},
            {"schema_hash", t.origin.schema_hash},
            {"model", t.origin.model},
            {"tokenizer", t.origin.tokenizer},
            {"definition", t.origin.definition}}},
          {"bootstrap", {{"replicas", t.replicas}, {"seed", t.seed}}},
          {"history", t.history}};
}

Threshold read_threshold(std::string_view text, std::string_view where) {
  const json file = json::parse(text, nullptr, false);
  if (file.is_discarded()) fail(Exit::input, "'{}' is not JSON: give the file that bl-threshold --fit --save wrote", where);
  if (!file.is_object() || !file.contains("format") || file["format"] != kFormat)
    fail(Exit::input, "'{}' is not a threshold: give the file that bl-threshold --fit --save wrote", where);
  const Keys keys(file, where);
  if (const auto version = keys.count("version"); version != kVersion)
    fail(Exit::input, "'{}' is version {} of the threshold format, this program reads version {}: update it, or fit again", where, version, kVersion);
  Threshold t;
  t.score = keys.text("score");
  t.side = keys.side("orientation");
  t.threshold = keys.real("threshold");
  if (!std::isfinite(t.threshold)) keys.wrong("threshold", keys.at("threshold"), "a number");
  t.threshold_spread = spread_of(keys.object("threshold_spread"));
  const Keys objective = keys.object("objective");
  const auto kind = stats::objective_named(objective.text("name"));
  if (!kind) objective.wrong("name", objective.at("name"), "youden, s-sqrt-b, sic or background-efficiency");
  t.objective = *kind;
  t.value = objective.real("value");
  t.value_spread = spread_of(objective.object("spread"));
  t.optimism = objective.real("optimism");
  t.min_background = objective.real("min_background");
  if (t.objective == stats::Objective::background_efficiency) t.objective_argument = objective.real("background_efficiency");
  const Keys auc = keys.object("auc");
  t.auc = auc.real("value");
  t.auc_spread = spread_of(auc.object("spread"));
  t.weighted = keys.flag("weights");
  const Keys truth = keys.object("truth");
  t.truth = {truth.text("by") == "label", truth.texts("signal"), truth.texts("background")};
  const Keys efficiency = keys.object("efficiency");
  t.background = efficiency_of(efficiency.object("background"));
  t.signal = efficiency_of(efficiency.object("signal"));
  const Keys processes = efficiency.object("processes");
  for (const auto& [name, e] : efficiency.at("processes").items()) t.processes[name] = efficiency_of(processes.object(name.c_str()));
  const Keys sides = keys.object("orientations");
  for (const auto& [name, side] : keys.at("orientations").items()) t.sides[name] = sides.side(name.c_str());
  const Keys region = keys.object("control_region");
  t.events = region.count("events");
  t.digest = region.text("digest");
  const Keys origin = keys.object("origin");
  t.origin = {origin.text("schema"), origin.text("schema_hash"), origin.text("model"), origin.text("tokenizer"), origin.at("definition")};
  const Keys bootstrap = keys.object("bootstrap");
  t.replicas = bootstrap.count("replicas");
  t.seed = bootstrap.count("seed");
  t.history = keys.at("history");
  return t;
}

void same_origin(const Threshold& t, const Origin& stream, std::string_view where) {
  same("schema", t.origin.schema, stream.schema, where);
  same("model", t.origin.model, stream.model, where);
  same("codebook", t.origin.tokenizer, stream.tokenizer, where);
  if (t.origin.definition != stream.definition)
    fail(Exit::input, "{}: the threshold was fitted on '{}' with {}, this stream has it with {}: score both regions with the same options, or fit again", where,
         t.score, t.origin.definition.dump(), stream.definition.dump());
}

}  // namespace bl::threshold
