// Classes of a classifier by name, each made of one or more processes: "top" = Tbqq, "qcd" = q and g.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bl::models {

struct LabelClass {
  std::string name;
  std::vector<std::string> processes;
  bool operator==(const LabelClass&) const = default;
};

// From texts "top=Tbqq", "qcd=q+g", "Hbb" (the process of its own name). Throws Exit::usage for an empty or doubled name,
// and for a process of two classes.
std::vector<LabelClass> parse_classes(std::span<const std::string> texts);
// The index of the class that a process belongs to, -1: none.
std::int32_t class_of(std::span<const LabelClass> classes, std::string_view process);
std::vector<std::string> names_of(std::span<const LabelClass> classes);

// As in model files: [{"name": "qcd", "processes": ["q", "g"]}, …]. from_json throws Exit::input for anything else.
nlohmann::json to_json(std::span<const LabelClass> classes);
std::vector<LabelClass> classes_from_json(const nlohmann::json& json);

}  // namespace bl::models
