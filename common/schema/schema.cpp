#include "schema/schema.hpp"

#include <algorithm>
#include <charconv>
#include <memory>
#include <toml++/toml.h>

#include "base/hash.hpp"
#include "schema/embedded.hpp"

namespace bl::schema {
namespace {

template <class... Names>
void allow_only(const toml::table& table, std::string_view where, std::string_view what, Names... names) {
  for (const auto& [key, value] : table)
    if (((key.str() != names) && ...)) fail(Exit::failed, "{}: unknown key '{}' in {}", where, key.str(), what);
}

ColumnRule parse_rule(std::string name, const toml::table& t, std::string_view where) {
  const std::string what = "column '" + name + "'";
  allow_only(t, where, what, "dtype", "dims", "unit", "doc", "min", "max", "finite", "optional");
  ColumnRule rule;
  rule.name = std::move(name);
  const auto dtype = dtype_named(t["dtype"].value_or(std::string()));
  if (!dtype) fail(Exit::failed, "{}: {} has no dtype, or one that does not exist", where, what);
  rule.dtype = *dtype;
  const auto* dims = t["dims"].as_array();
  if (!dims) fail(Exit::failed, "{}: {} has no dims", where, what);
  for (const auto& d : *dims) rule.dims.push_back(d.value_or(std::string()));
  rule.unit = t["unit"].value_or(std::string());
  rule.doc = t["doc"].value_or(std::string());
  rule.min = t["min"].value<double>();
  rule.max = t["max"].value<double>();
  rule.finite = t["finite"].value_or(false);
  rule.optional = t["optional"].value_or(false);
  return rule;
}

}  // namespace

bool ColumnRule::matches(std::string_view column) const {
  if (!family()) return column == name;
  const std::string_view prefix(name.data(), name.size() - 1);
  return column.size() > prefix.size() && column.substr(0, prefix.size()) == prefix;
}

const ColumnRule* Schema::rule(std::string_view column) const {
  const ColumnRule* family = nullptr;
  for (const auto& r : columns) {
    if (!r.matches(column)) continue;
    if (!r.family()) return &r;
    family = &r;
  }
  return family;
}

Schema parse(std::string_view text, std::string_view where) {
  toml::table root;
  try {
    root = toml::parse(text, where);
  } catch (const toml::parse_error& e) {
    fail(Exit::failed, "{}: line {}: {}", where, e.source().begin.line, e.description());
  }
  allow_only(root, where, "the schema", "name", "version", "doc", "dim", "column");
  Schema schema;
  schema.name = root["name"].value_or(std::string());
  schema.version = root["version"].value_or(0);
  schema.doc = root["doc"].value_or(std::string());
  schema.hash = hash64(text);
  if (schema.name.empty() || schema.version < 1) fail(Exit::failed, "{}: a schema needs a name and a version from 1", where);
  std::vector<std::string> dims{"event", "event+1"};
  if (const auto* table = root["dim"].as_table()) {
    for (const auto& [key, value] : *table) {
      if (const auto* t = value.as_table()) allow_only(*t, where, "dimension '" + std::string(key.str()) + "'", "doc", "ragged");
      dims.emplace_back(key.str());
    }
  }
  const auto* columns = root["column"].as_table();
  if (!columns) fail(Exit::failed, "{}: a schema needs columns", where);
  for (const auto& [key, value] : *columns) {
    const auto* t = value.as_table();
    if (!t) fail(Exit::failed, "{}: column '{}' is not a table", where, key.str());
    schema.columns.push_back(parse_rule(std::string(key.str()), *t, where));
    for (const auto& d : schema.columns.back().dims)
      if (std::find(dims.begin(), dims.end(), d) == dims.end() && d.find_first_not_of("0123456789") != std::string::npos)
        fail(Exit::failed, "{}: column '{}' uses the dimension '{}', which is not declared", where, key.str(), d);
  }
  return schema;
}

std::vector<const Schema*> all() {
  static const auto schemas = [] {
    std::vector<std::unique_ptr<Schema>> parsed;
    for (const auto& file : embedded()) parsed.push_back(std::make_unique<Schema>(parse(file.text, fmt::format("schemas/{}.toml", file.name))));
    return parsed;
  }();
  std::vector<const Schema*> out;
  out.reserve(schemas.size());
  for (const auto& s : schemas) out.push_back(s.get());
  return out;
}

const Schema* find(std::string_view id) {
  for (const Schema* s : all())
    if (s->id() == id) return s;
  return nullptr;
}

const Schema& get(std::string_view id) {
  if (const Schema* s = find(id)) return *s;
  std::string known;
  for (const Schema* s : all()) known += (known.empty() ? "" : ", ") + s->id();
  fail(Exit::usage, "unknown schema '{}'; this program knows {}", id, known);
}

std::optional<std::string> incompatible(const Schema& wanted, std::string_view written, std::uint64_t hash) {
  const auto slash = written.rfind('/');
  const std::string_view name = written.substr(0, slash);
  int version = 0;
  if (slash != std::string_view::npos) std::from_chars(written.data() + slash + 1, written.data() + written.size(), version);
  if (name != wanted.name) return fmt::format("holds '{}', expected '{}'", written, wanted.id());
  if (version > wanted.version)
    return fmt::format("was written as '{}', which is newer than '{}' of this program: update beamline to read it", written, wanted.id());
  if (version < wanted.version) return fmt::format("was written as '{}', older than '{}': convert it with the release that wrote it", written, wanted.id());
  if (hash != wanted.hash)
    return fmt::format("was written with another definition of '{}' (hash {}, here {}): its program and this one come from different builds of the schema",
                       written, hex(hash), hex(wanted.hash));
  return std::nullopt;
}

}  // namespace bl::schema
