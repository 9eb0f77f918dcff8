// What a batch must look like: the columns of a stream, their types, units and ranges, read from schemas/NAME.VERSION.toml.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/batch.hpp"

namespace bl::schema {

struct ColumnRule {
  std::string name;  // "pt", or a family "score_*"
  Dtype dtype = Dtype::f32;
  std::vector<std::string> dims;
  std::string unit, doc;
  std::optional<double> min, max;
  bool finite = false, optional = false;

  bool family() const { return !name.empty() && name.back() == '*'; }
  bool matches(std::string_view column) const;
};

struct Schema {
  std::string name, doc;
  int version = 0;
  std::uint64_t hash = 0;  // of the file's bytes
  std::vector<ColumnRule> columns;

  std::string id() const { return name + "/" + std::to_string(version); }  // "objects/1"
  const ColumnRule* rule(std::string_view column) const;                   // exact names before families
};

// Reads a schema file's text; `where` names it in errors. An unknown key is an error. Throws Exit::failed.
Schema parse(std::string_view text, std::string_view where);
// The embedded schema of an id such as "objects/1"; throws Exit::usage and lists the known ones.
const Schema& get(std::string_view id);
const Schema* find(std::string_view id);
std::vector<const Schema*> all();

// The first violation in words, e.g. "column 'pt', entry 17: -3 is below 0 (GeV)", or nullopt. Assumes check_structure().
std::optional<std::string> violation(const Schema& schema, const Batch& batch);
// check_structure() and violation(); throws Exit::input with `where` in front.
void check(const Schema& schema, const Batch& batch, std::string_view where);

// Can a reader of `wanted` read a stream written as id `written` with file hash `hash`? Returns the reason why not:
// another schema, a newer version than this program knows, or the same version with other content.
std::optional<std::string> incompatible(const Schema& wanted, std::string_view written, std::uint64_t hash);

}  // namespace bl::schema
