#include "plan/pipeline.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>

#include "base/error.hpp"
#include "base/files.hpp"

namespace bl::plan {
namespace {

const std::vector<std::string> kEdgeKeys{"from", "to", "via", "path", "port", "bind", "credit", "bytes", "timeout", "order", "on-loss", "insecure", "key"};
const std::vector<std::string> kTopKeys{"name", "doc", "seed", "stage", "edge"};

int line_of(const toml::node& node) { return static_cast<int>(node.source().begin.line); }

bool good_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& known) {
  const std::string near = nearest(word, known);
  return near.empty() ? "" : fmt::format("; did you mean '{}'?", near);
}

std::string list(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& w : words) out += (out.empty() ? "" : ", ") + w;
  return out;
}

// "4G" -> bytes, "30m" -> seconds
std::optional<std::uint64_t> quantity(std::string_view text, std::string_view units, std::initializer_list<std::uint64_t> scales) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || number == 0) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (unit.size() != 1) return std::nullopt;
  const auto which = units.find(unit[0]);
  if (which == std::string_view::npos) return std::nullopt;
  const std::uint64_t scale = *(scales.begin() + which);
  if (number > (std::uint64_t{1} << 62) / scale) return std::nullopt;
  return number * scale;
}

// Reads keys of one table with their types, and notes what is wrong.
class Keys {
 public:
  Keys(const Pipeline& pipeline, const toml::table& table, std::string what, Problems& problems)
      : pipeline_(pipeline), table_(table), what_(std::move(what)), problems_(problems) {}

  void complain(const toml::node& node, std::string sentence) { problems_.add(at(pipeline_, line_of(node)) + what_ + ": " + std::move(sentence)); }

  std::string text(std::string_view key, std::string fallback = "") {
    const auto* node = table_.get(key);
    if (!node) return fallback;
    if (const auto v = node->value_exact<std::string>()) return *v;
    complain(*node, fmt::format("{} must be text in quotes", key));
    return fallback;
  }
  std::int64_t number(std::string_view key, std::int64_t fallback, std::int64_t low, std::int64_t high) {
    const auto* node = table_.get(key);
    if (!node) return fallback;
    const auto v = node->value_exact<std::int64_t>();
    if (v && *v >= low && *v <= high) return *v;
    if (v) complain(*node, fmt::format("{} = {} is not between {} and {}", key, *v, low, high));
    else complain(*node, fmt::format("{} must be a whole number between {} and {}", key, low, high));
    return fallback;
  }
  std::vector<std::string> texts(std::string_view key) {
    const auto* node = table_.get(key);
    if (!node) return {};
    if (const auto v = node->value_exact<std::string>()) return {*v};
    std::vector<std::string> out;
    if (const auto* array = node->as_array())
      for (const auto& item : *array)
        if (const auto v = item.value_exact<std::string>()) out.push_back(*v);
    if (!node->is_array() || out.size() != node->as_array()->size()) complain(*node, fmt::format("{} must be text, or a list of texts", key));
    return out;
  }
  std::uint64_t amount(std::string_view key, std::string_view units, std::initializer_list<std::uint64_t> scales, std::string_view example) {
    const auto* node = table_.get(key);
    if (!node) return 0;
    if (const auto v = node->value_exact<std::string>())
      if (const auto n = quantity(*v, units, scales)) return *n;
    complain(*node, fmt::format("{} must be a whole number and a unit in quotes, like \"{}\"", key, example));
    return 0;
  }

 private:
  const Pipeline& pipeline_;
  const toml::table& table_;
  std::string what_;
  Problems& problems_;
};

std::optional<nlohmann::json> option_value(const toml::node& node) {
  if (const auto v = node.value_exact<bool>()) return nlohmann::json(*v);
  if (const auto v = node.value_exact<std::int64_t>()) return nlohmann::json(*v);
  if (const auto v = node.value_exact<double>()) return nlohmann::json(*v);
  if (const auto v = node.value_exact<std::string>()) return nlohmann::json(*v);
  const auto* array = node.as_array();
  if (!array) return std::nullopt;
  auto out = nlohmann::json::array();
  for (const auto& item : *array) {
    if (const auto v = item.value_exact<std::string>()) out.push_back(*v);
    else if (const auto n = item.value_exact<std::int64_t>()) out.push_back(std::to_string(*n));
    else if (const auto x = item.value_exact<double>()) out.push_back(fmt::format("{}", *x));
    else return std::nullopt;
  }
  return out;
}

Stage read_stage(const Pipeline& pipeline, const std::string& name, const toml::table& table, Problems& problems) {
  static const std::vector<std::string> own{"run", "doc", "in", "out", "stdout", "host", "workers", "cores", "memory", "time"};
  Keys keys(pipeline, table, fmt::format("stage '{}'", name), problems);
  Stage s;
  s.name = name;
  s.line = line_of(table);
  s.run = keys.text("run");
  s.doc = keys.text("doc");
  s.in = keys.texts("in");
  s.out = keys.text("out");
  s.stdout_file = keys.text("stdout");
  s.host = keys.text("host", "localhost");
  s.workers = static_cast<int>(keys.number("workers", 1, 1, 1024));
  s.cores = static_cast<int>(keys.number("cores", 0, 1, 1024));
  s.memory = keys.amount("memory", "KMGT", {1ull << 10, 1ull << 20, 1ull << 30, 1ull << 40}, "4G");
  s.time = keys.amount("time", "smhd", {1, 60, 3600, 86400}, "30m");
  if (!good_name(name)) keys.complain(table, "a stage's name is made of letters, digits, _ and -");
  if (s.run.empty()) keys.complain(table, "has no `run`: name its program, e.g. run = \"bl-mask\"");
  for (const auto& [key, node] : table) {
    if (std::find(own.begin(), own.end(), key.str()) != own.end()) continue;
    if (auto value = option_value(node)) s.options.push_back({std::string(key.str()), std::move(*value), line_of(node)});
    else keys.complain(node, fmt::format("{} must be true, false, a number, text, or a list of these", key.str()));
  }
  std::stable_sort(s.options.begin(), s.options.end(), [](const Setting& a, const Setting& b) { return a.line < b.line; });
  return s;
}

Edge read_edge(const Pipeline& pipeline, const std::string& name, const toml::table& table, Problems& problems) {
  Keys keys(pipeline, table, fmt::format("edge '{}'", name), problems);
  Edge e;
  e.name = name;
  e.line = line_of(table);
  if (!good_name(name)) keys.complain(table, "an edge's name is made of letters, digits, _ and -");
  for (const auto& [key, node] : table)
    if (std::find(kEdgeKeys.begin(), kEdgeKeys.end(), key.str()) == kEdgeKeys.end())
      keys.complain(node, fmt::format("unknown key '{}'{}; known: {}", key.str(), did_you_mean(key.str(), kEdgeKeys), list(kEdgeKeys)));
  e.from = keys.text("from");
  e.to = keys.text("to");
  e.path = keys.text("path");
  e.bind = keys.text("bind", "127.0.0.1");
  e.port = static_cast<int>(keys.number("port", 0, 1, 65535));
  if (e.from.empty() || e.to.empty()) keys.complain(table, "needs `from` and `to`, the names of two stages");
  const std::string via = keys.text("via", "file");
  if (via == "file") e.via = Via::file;
  else if (via == "pipe") e.via = Via::pipe;
  else if (via == "ipc") e.via = Via::ipc;
  else if (via == "tcp") e.via = Via::tcp;
  else keys.complain(*table.get("via"), fmt::format("via = \"{}\" is not one of file, pipe, ipc, tcp", via));

  const auto only_for = [&](std::string_view key, std::initializer_list<Via> kinds, std::string_view said) {
    const auto* node = table.get(key);
    if (node && std::find(kinds.begin(), kinds.end(), e.via) == kinds.end())
      keys.complain(*node, fmt::format("{} is for edges via {}, this one is via {}", key, said, via));
  };
  only_for("path", {Via::file}, "file");
  only_for("port", {Via::tcp}, "tcp");
  only_for("bind", {Via::tcp}, "tcp");
  for (const char* key : {"credit", "bytes", "timeout", "order", "on-loss", "insecure", "key"}) {
    only_for(key, {Via::ipc, Via::tcp}, "ipc or tcp");
    const auto* node = table.get(key);
    if (!node) continue;
    std::string value;
    if (const auto v = node->value_exact<bool>()) value = *v ? "1" : "0";
    else if (const auto n = node->value_exact<std::int64_t>()) value = std::to_string(*n);
    else value = keys.text(key);
    if (value.find_first_of("?&,= ") != std::string::npos)
      keys.complain(*node, fmt::format("{} = \"{}\" holds a character that an endpoint gives a meaning to (? & , = or a blank)", key, value));
    e.endpoint_options += fmt::format("{}{}={}", e.endpoint_options.empty() ? "" : "&", key, value);
  }
  if (e.via == Via::tcp && e.port == 0 && !table.contains("port")) keys.complain(table, "via = \"tcp\" needs a `port` between 1 and 65535");
  return e;
}

}  // namespace

std::string_view name_of(Via via) {
  static constexpr std::string_view names[] = {"file", "pipe", "ipc", "tcp"};
  return names[static_cast<std::size_t>(via)];
}

const Stage* Pipeline::find(std::string_view stage) const {
  for (const auto& s : stages)
    if (s.name == stage) return &s;
  return nullptr;
}

void Problems::throw_if_any() const {
  if (sentences_.empty()) return;
  std::string all;
  for (const auto& s : sentences_) all += (all.empty() ? "" : "\n") + s;
  throw Error(Exit::usage, all);
}

std::string at(const Pipeline& pipeline, int line) { return line > 0 ? fmt::format("{}:{}: ", pipeline.path, line) : pipeline.path + ": "; }

Pipeline parse_pipeline(std::string_view text, const std::string& path) {
  Pipeline pipeline;
  pipeline.path = path;
  toml::table root;
  try {
    root = toml::parse(text, path);
  } catch (const toml::parse_error& e) {
    fail(Exit::usage, "{}:{}: {}", path, e.source().begin.line, e.description());
  }
  Problems problems;
  for (const auto& [key, node] : root)
    if (std::find(kTopKeys.begin(), kTopKeys.end(), key.str()) == kTopKeys.end())
      problems.add(fmt::format("{}unknown key '{}'{}; known: {}", at(pipeline, line_of(node)), key.str(), did_you_mean(key.str(), kTopKeys), list(kTopKeys)));

  Keys keys(pipeline, root, "pipeline", problems);
  const auto slash = path.rfind('/');
  const std::string file = slash == std::string::npos ? path : path.substr(slash + 1);
  pipeline.name = keys.text("name", file.substr(0, file.rfind('.')));
  pipeline.doc = keys.text("doc");
  if (!good_name(pipeline.name))
    problems.add(fmt::format("{}name = \"{}\": a pipeline's name is made of letters, digits, _ and -", at(pipeline, 0), pipeline.name));
  if (root.contains("seed")) pipeline.seed = static_cast<std::uint64_t>(keys.number("seed", 0, 0, INT64_MAX));

  const auto each = [&](std::string_view kind, const auto& take) {
    const auto* node = root.get(kind);
    if (!node) return;
    const auto* tables = node->as_table();
    if (!tables) {
      problems.add(fmt::format("{}'{}' must be tables, [{}.NAME]", at(pipeline, line_of(*node)), kind, kind));
      return;
    }
    for (const auto& [name, item] : *tables) {
      if (const auto* table = item.as_table()) take(std::string(name.str()), *table);
      else problems.add(fmt::format("{}'{}.{}' must be a table, [{}.{}]", at(pipeline, line_of(item)), kind, name.str(), kind, name.str()));
    }
  };
  each("stage", [&](const std::string& name, const toml::table& table) { pipeline.stages.push_back(read_stage(pipeline, name, table, problems)); });
  each("edge", [&](const std::string& name, const toml::table& table) { pipeline.edges.push_back(read_edge(pipeline, name, table, problems)); });
  if (pipeline.stages.empty() && !problems.any()) problems.add(fmt::format("{}: has no stages: add a table [stage.NAME] with run = \"bl-…\"", path));
  problems.throw_if_any();
  // toml++ keeps tables sorted by name; the file's order is what its reader expects in graphs and tables.
  std::stable_sort(pipeline.stages.begin(), pipeline.stages.end(), [](const Stage& a, const Stage& b) { return a.line < b.line; });
  std::stable_sort(pipeline.edges.begin(), pipeline.edges.end(), [](const Edge& a, const Edge& b) { return a.line < b.line; });
  return pipeline;
}

Pipeline read_pipeline(const std::string& path) { return parse_pipeline(read_file(path), path); }

}  // namespace bl::plan
