#include "models/labels.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace bl::models {
namespace {

// `code`: whose fault it is.
void check_classes(std::span<const LabelClass> classes, Exit code) {
  std::vector<std::string_view> names, processes;
  const auto once = [code](std::vector<std::string_view>& seen, std::string_view name, const char* what) {
    if (name.empty()) fail(code, "a class has an empty {}: write NAME, or NAME=PROCESS+PROCESS", what);
    if (std::ranges::find(seen, name) != seen.end()) fail(code, "the {} '{}' stands twice among the classes", what, name);
    seen.push_back(name);
  };
  for (const LabelClass& c : classes) {
    once(names, c.name, "name");
    if (c.processes.empty()) fail(code, "the class '{}' has no process", c.name);
    for (const std::string& p : c.processes) once(processes, p, "process");
  }
}

}  // namespace

std::vector<LabelClass> parse_classes(std::span<const std::string> texts) {
  std::vector<LabelClass> classes;
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    LabelClass c{text.substr(0, equals), {}};
    std::string_view rest = equals == std::string::npos ? std::string_view(text) : std::string_view(text).substr(equals + 1);
    while (equals != std::string::npos && rest.find('+') != std::string_view::npos) {
      c.processes.emplace_back(rest.substr(0, rest.find('+')));
      rest.remove_prefix(rest.find('+') + 1);
    }
    c.processes.emplace_back(rest);
    classes.push_back(std::move(c));
  }
  check_classes(classes, Exit::usage);
  return classes;
}

std::int32_t class_of(std::span<const LabelClass> classes, std::string_view process) {
  for (std::size_t c = 0; c < classes.size(); ++c)
    if (std::ranges::find(classes[c].processes, process) != classes[c].processes.end()) return static_cast<std::int32_t>(c);
  return -1;
}

std::vector<std::string> names_of(std::span<const LabelClass> classes) {
  std::vector<std::string> names;
  for (const LabelClass& c : classes) names.push_back(c.name);
  return names;
}

nlohmann::json to_json(std::span<const LabelClass> classes) {
  auto json = nlohmann::json::array();
  for (const LabelClass& c : classes) json.push_back({{"name", c.name}, {"processes", c.processes}});
  return json;
}

std::vector<LabelClass> classes_from_json(const nlohmann::json& json) {
  std::vector<LabelClass> classes;
  try {
    for (const auto& c : json) classes.push_back({c.at("name").get<std::string>(), c.at("processes").get<std::vector<std::string>>()});
  } catch (const nlohmann::json::exception&) {
    fail(Exit::input, "the classes are not a list of names with their processes: the file is damaged");
  }
  check_classes(classes, Exit::input);
  return classes;
}

}  // namespace bl::models
