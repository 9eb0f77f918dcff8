// Tokenizers and models: HDF5 files of named arrays with attributes.
#pragma once
#include <nlohmann/json.hpp>

#include <string>

namespace bl::show {

struct Artefact {
  std::string digest;  // of the arrays by name and content; attributes (history) do not count
  std::string text;
  nlohmann::json json;
};

bool is_artefact(const std::string& path);
Artefact read_artefact(const std::string& path);  // throws Exit::input

}  // namespace bl::show
