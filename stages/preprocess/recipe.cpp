#include "preprocess/recipe.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <cmath>

#include "base/files.hpp"
#include "physics/objects.hpp"

namespace bl::preprocess {
namespace {

using nlohmann::json;

constexpr std::string_view kDerived[] = {"n_jets", "n_bjets", "n_leptons", "ht", "st", "m_vis"};
constexpr std::string_view kSorts[] = {"pt", "energy", "eta", "phi", "mass", "none"};
constexpr std::string_view kSources[] = {"pt",      "eta",     "phi",     "mass", "energy",   "btag", "charge",  "phi_met",
                                         "pt_frac", "eta_rel", "phi_rel", "d0",   "d0_error", "dz",   "dz_error"};
constexpr std::string_view kGlobalSources[] = {"n_objects", "n_jets", "n_bjets", "n_leptons", "n_electrons", "n_muons", "n_photons",
                                               "n_taus",    "ht",     "pt_sum",  "st",        "m_vis",       "met",     "met_phi"};

template <class Range>
std::string joined(const Range& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

template <class Range>
bool contains(const Range& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// TOML values as JSON, which the chains of transforms are parsed from.
json to_json(const toml::node& node) {
  if (const auto* table = node.as_table()) {
    json out = json::object();
    for (const auto& [key, value] : *table) out[std::string(key.str())] = to_json(value);
    return out;
  }
  if (const auto* array = node.as_array()) {
    json out = json::array();
    for (const auto& value : *array) out.push_back(to_json(value));
    return out;
  }
  if (const auto v = node.value_exact<bool>()) return *v;
  if (const auto v = node.value_exact<std::int64_t>()) return *v;
  if (const auto v = node.value_exact<double>()) return *v;
  if (const auto v = node.value_exact<std::string>()) return *v;
  return nullptr;
}

// One table of the recipe: typed access by key; whatever was not asked for is unknown.
class Table {
 public:
  Table(const toml::table& table, std::string where) : table_(table), where_(std::move(where)) {}

  double number(const char* key, double missing, double low, double high) {
    const auto* node = take(key);
    if (!node) return missing;
    const auto value = node->value<double>();
    if (!value || node->is_boolean()) wrong(key, "must be a number");
    if (!(*value >= low && *value <= high)) wrong(key, fmt::format("is {}, outside {} to {}", *value, low, high));
    return *value;
  }
  std::uint64_t whole(const char* key, std::uint64_t missing, std::uint64_t low, std::uint64_t high) {
    const auto* node = take(key);
    if (!node) return missing;
    const auto value = node->value_exact<std::int64_t>();
    if (!value) wrong(key, "must be a whole number");
    if (*value < 0 || static_cast<std::uint64_t>(*value) < low || static_cast<std::uint64_t>(*value) > high)
      wrong(key, fmt::format("is {}, outside {} to {}", *value, low, high));
    return static_cast<std::uint64_t>(*value);
  }
  bool flag(const char* key, bool missing) {
    const auto* node = take(key);
    if (!node) return missing;
    const auto value = node->value_exact<bool>();
    if (!value) wrong(key, "must be true or false");
    return *value;
  }
  std::string text(const char* key, const std::string& missing) {
    const auto* node = take(key);
    if (!node) return missing;
    const auto value = node->value_exact<std::string>();
    if (!value) wrong(key, "must be a text");
    return *value;
  }
  // A text, or a list of them.
  std::vector<std::string> texts(const char* key) {
    const auto* node = take(key);
    if (!node) return {};
    if (const auto value = node->value_exact<std::string>()) return {*value};
    std::vector<std::string> out;
    if (const auto* array = node->as_array())
      for (const auto& item : *array) {
        const auto value = item.value_exact<std::string>();
        if (!value) wrong(key, "must be a text or a list of texts");
        out.push_back(*value);
      }
    else wrong(key, "must be a text or a list of texts");
    return out;
  }
  const toml::node* take(const char* key) {
    known_.emplace_back(key);
    return table_.get(key);
  }
  const toml::table* table(const char* key) {
    const auto* node = take(key);
    if (node && !node->is_table()) wrong(key, "must be a table");
    return node ? node->as_table() : nullptr;
  }
  void finish() const {
    for (const auto& [key, value] : table_) {
      const std::string name(key.str());
      if (contains(known_, name)) continue;
      const std::string near = nearest(name, known_);
      fail(Exit::usage, "{}, line {}: unknown key '{}'{}; known are {}", where_, value.source().begin.line, name,
           near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near), joined(known_));
    }
  }
  [[noreturn]] void wrong(std::string_view key, const std::string& why) const { fail(Exit::usage, "{}: '{}' {}", where_, key, why); }
  const std::string& where() const { return where_; }

 private:
  const toml::table& table_;
  std::string where_;
  std::vector<std::string> known_;
};

void read_features(const toml::table* tables, bool global, const std::string& where, Recipe& recipe) {
  if (!tables) return;
  for (const auto& [key, node] : *tables) {
    Feature f;
    f.name = std::string(key.str());
    f.global = global;
    const std::string here = fmt::format("{}: [{}.{}]", where, global ? "global" : "feature", f.name);
    if (!node.is_table()) fail(Exit::usage, "{} must be a table with 'transform'", here);
    if (f.name.empty() || f.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos)
      fail(Exit::usage, "{}: a feature's name is made of a-z, 0-9 and _", here);
    Table table(*node.as_table(), here);
    f.source = table.text("source", f.name);
    const auto* transform = table.take("transform");
    table.finish();
    const auto known = [&] { return global ? contains(kGlobalSources, f.source) : contains(kSources, f.source); };
    if (!known())
      fail(Exit::usage, "{}: '{}' is not a quantity of {}; known are {}", here, f.source, global ? "an event" : "an object",
           global ? joined(kGlobalSources) : joined(kSources));
    if (!transform) fail(Exit::usage, "{} has no 'transform': give a list such as [\"log\", \"standardise\"]", here);
    f.chain = physics::Chain::parse(to_json(*transform), here);
    recipe.features.push_back(std::move(f));
  }
}

}  // namespace

std::vector<std::string> Feature::columns() const {
  const std::string base = (global ? "global_" : "feature_") + name;
  if (chain.outputs() == 2) return {base + "_sin", base + "_cos"};
  return {base};
}

bool Recipe::needs_fit() const {
  return std::any_of(features.begin(), features.end(), [](const Feature& f) { return !f.chain.fitted(); });
}

Recipe read_recipe(const std::string& path) {
  std::string text;
  try {
    text = read_file(path);
  } catch (const Error& e) {
    fail(Exit::usage, "recipe: {}", e.what());
  }
  return parse_recipe(text, fmt::format("recipe '{}'", path));
}

Recipe parse_recipe(std::string_view text, const std::string& where) {
  toml::table root;
  try {
    root = toml::parse(text);
  } catch (const toml::parse_error& e) {
    fail(Exit::usage, "{}, line {}: {}", where, e.source().begin.line, e.description());
  }
  Recipe recipe;
  Table table(root, where);
  recipe.doc = table.text("doc", "");
  recipe.select = table.texts("select");
  recipe.process = table.texts("process");
  recipe.sort = table.text("sort", recipe.sort);
  if (!contains(kSorts, recipe.sort)) table.wrong("sort", fmt::format("is '{}'; known are {}", recipe.sort, joined(kSorts)));
  recipe.max_objects = static_cast<std::uint32_t>(table.whole("max_objects", 0, 0, 1'000'000));
  recipe.btag_cut = table.number("btag_cut", recipe.btag_cut, 0, 1);
  if (root.contains("derive")) recipe.derive.clear();
  for (auto& name : table.texts("derive")) recipe.derive.push_back(std::move(name));
  for (const auto& name : recipe.derive)
    if (!contains(kDerived, name)) table.wrong("derive", fmt::format("has '{}'; known are {}", name, joined(kDerived)));

  if (const auto* cuts = table.table("cut")) {
    for (const auto& [key, node] : *cuts) {
      const std::string kind(key.str());
      if (kind != "particle" && !physics::type_named(kind))
        fail(Exit::usage, "{}: [cut.{}] is no kind of object; known are jet, electron, muon, photon, tau, particle", where, kind);
      if (!node.is_table()) fail(Exit::usage, "{}: [cut.{}] must be a table", where, kind);
      Table t(*node.as_table(), fmt::format("{}: [cut.{}]", where, kind));
      ObjectCut cut;
      cut.pt_min = t.number("pt_min", cut.pt_min, 0, 1e6);
      cut.abs_eta_max = t.number("abs_eta_max", cut.abs_eta_max, 0, 1e9);
      cut.remove = t.flag("remove", false);
      t.finish();
      recipe.cuts[kind] = cut;
    }
  }
  read_features(table.table("feature"), false, where, recipe);
  read_features(table.table("global"), true, where, recipe);
  if (const auto* fit = table.table("fit")) {
    Table t(*fit, where + ": [fit]");
    recipe.train_fraction = t.number("train_fraction", recipe.train_fraction, 1e-6, 1);
    recipe.max_values = t.whole("max_values", recipe.max_values, 10, 100'000'000);
    t.finish();
  }
  table.finish();
  return recipe;
}

json transforms_json(const Recipe& recipe) {
  json all = json::array();
  for (const auto& f : recipe.features)
    all.push_back({{"columns", f.columns()}, {"name", f.name}, {"source", f.source}, {"of", f.global ? "event" : "object"}, {"transform", f.chain.json()}});
  return all;
}

std::vector<Feature> features_of(const json& transforms, const std::string& where) {
  if (!transforms.is_array()) fail(Exit::input, "{}: the list of transforms is damaged", where);
  std::vector<Feature> features;
  for (const auto& entry : transforms) {
    Feature f;
    try {
      f.name = entry.at("name").get<std::string>();
      f.source = entry.at("source").get<std::string>();
      f.global = entry.at("of").get<std::string>() == "event";
      f.chain = physics::Chain::parse(entry.at("transform"), fmt::format("{}: transform '{}'", where, f.name));
    } catch (const json::exception& e) {
      fail(Exit::input, "{}: the list of transforms is damaged: {}", where, e.what());
    } catch (const Error& e) {
      fail(Exit::input, "{}", e.what());
    }
    features.push_back(std::move(f));
  }
  return features;
}

void save_transforms(const Recipe& recipe, const std::string& path, std::uint64_t events, bool force) {
  const json content{{"beamline", "transforms"}, {"version", 1}, {"fitted_on_events", events}, {"transforms", transforms_json(recipe)}};
  write_file(path, content.dump(1) + "\n", force);
}

void load_transforms(Recipe& recipe, const std::string& path) {
  json content;
  try {
    content = json::parse(read_file(path));
  } catch (const json::exception& e) {
    fail(Exit::input, "'{}' is not a file of fitted transforms: {}", path, e.what());
  }
  if (!content.is_object() || content.value("beamline", json()) != "transforms" || !content.contains("transforms"))
    fail(Exit::input, "'{}' is not a file of fitted transforms: make one with bl-preprocess --save", path);
  if (content.value("version", json()) != 1)
    fail(Exit::input, "'{}' was written by a newer program: it has version {}, this one knows 1", path, content.value("version", json()).dump());
  const auto stored = features_of(content["transforms"], fmt::format("'{}'", path));
  if (recipe.features.empty()) recipe.features = stored;
  for (auto& feature : recipe.features) {
    const auto found = std::find_if(stored.begin(), stored.end(), [&](const Feature& s) { return s.name == feature.name && s.global == feature.global; });
    if (found == stored.end())
      fail(Exit::usage, "'{}' holds no fitted transform for {} '{}' of the recipe", path, feature.global ? "global" : "feature", feature.name);
    bool same = found->source == feature.source && found->chain.steps().size() == feature.chain.steps().size();
    for (std::size_t i = 0; same && i < feature.chain.steps().size(); ++i) same = found->chain.steps()[i].kind == feature.chain.steps()[i].kind;
    if (!same)
      fail(Exit::usage, "'{}' was fitted for other steps of {} '{}' than the recipe has: fit again with --save", path, feature.global ? "global" : "feature",
           feature.name);
    feature.chain = found->chain;
  }
  if (recipe.needs_fit()) fail(Exit::input, "'{}' holds transforms that were never fitted", path);
}

}  // namespace bl::preprocess
