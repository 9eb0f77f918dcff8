#include "plan/describe.hpp"

#include <toml++/toml.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "plan/process.hpp"

namespace bl::plan {
namespace {

std::vector<std::string> texts(const toml::node_view<const toml::node>& node) {
  std::vector<std::string> out;
  if (const auto* array = node.as_array())
    for (const auto& item : *array)
      if (const auto v = item.value<std::string>()) out.push_back(*v);
  return out;
}

bool executable(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored) && ::access(path.c_str(), X_OK) == 0;
}

}  // namespace

const OptionInfo* ProgramInfo::find(std::string_view option) const {
  for (const auto& o : options)
    if (o.name == option) return &o;
  return nullptr;
}

std::vector<std::string> ProgramInfo::option_names() const {
  std::vector<std::string> out;
  for (const auto& o : options) out.push_back(o.name);
  return out;
}

ProgramInfo parse_description(std::string_view text, const std::string& where) {
  toml::table root;
  try {
    root = toml::parse(text, where);
  } catch (const toml::parse_error& e) {
    fail(Exit::failed, "{} --describe: line {}: {}", where, e.source().begin.line, e.description());
  }
  const auto& table = std::as_const(root);
  ProgramInfo info;
  info.name = table["name"].value_or(std::string());
  info.version = table["version"].value_or(std::string());
  if (info.name.empty() || info.version.empty()) fail(Exit::failed, "{} --describe: says no name or version: is it a program of beamline?", where);
  info.reads = texts(table["reads"]);
  info.writes = texts(table["writes"]);
  info.reads_files = table["reads_files"].value_or(false);
  info.parallel = table["parallel"].value_or(false);
  if (const auto* options = table["option"].as_array()) {
    for (const auto& node : *options) {
      const auto* t = node.as_table();
      if (!t) continue;
      OptionInfo o;
      o.name = (*t)["name"].value_or(std::string());
      o.type = (*t)["type"].value_or(std::string("string"));
      o.role = (*t)["role"].value_or(std::string("value"));
      o.required = (*t)["required"].value_or(false);
      o.common = (*t)["common"].value_or(false);
      o.min = (*t)["min"].value<double>();
      o.max = (*t)["max"].value<double>();
      o.choices = texts((*t)["choices"]);
      if (o.name.empty()) fail(Exit::failed, "{} --describe: line {}: an option without a name", where, t->source().begin.line);
      info.options.push_back(std::move(o));
    }
  }
  return info;
}

std::optional<std::string> find_program(const std::string& run, const std::string& folder) {
  if (run.find('/') != std::string::npos) return executable(run) ? std::optional(run) : std::nullopt;
  std::string places = folder;
  if (const char* path = std::getenv("PATH")) places += ":" + std::string(path);
  std::size_t start = 0;
  while (start <= places.size()) {
    const auto end = std::min(places.find(':', start), places.size());
    const auto place = places.substr(start, end - start);
    start = end + 1;
    if (!place.empty() && executable(std::filesystem::path(place) / run)) return (std::filesystem::path(place) / run).string();
  }
  return std::nullopt;
}

ProgramInfo ask(const std::string& path) {
  auto info = parse_description(capture({path, "--describe"}, 30), path);
  info.path = path;
  info.hash = hex(hash_file(path));
  return info;
}

}  // namespace bl::plan
