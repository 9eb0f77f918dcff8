// A State as a file of named arrays and attributes. `File` is any type with the calls of store::Output or store::Input:
// this folder knows nothing of HDF5, and the programs that train and score share the layout.
//
//   arrays      as named in the state (weights/…, training/…, fingerprint/…)
//   attributes  format = "beamline model", version, kind; and each text of the state, "/" in its name kept
//   further attributes (tokenizer, mask, history …) are the caller's
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "models/state.hpp"

namespace bl::models {

inline constexpr std::string_view kModelFormat = "beamline model";
inline constexpr int kModelVersion = 1;
inline constexpr std::string_view kTextPrefix = "state:";

template <class File>
void write_state(File& file, std::string_view kind, const State& state) {
  file.attribute("", "format", kModelFormat);
  file.attribute("", "version", kModelVersion);
  file.attribute("", "kind", kind);
  for (const auto& [key, value] : state.texts) file.attribute("", std::string(kTextPrefix) + key, std::string_view(value));
  for (const NamedArray& array : state.arrays) std::visit([&](const auto& values) { file.write(array.name, array.shape, values); }, array.values);
}

// Throws Exit::input with the file's name when it is no model, of another kind, or newer than this program.
template <class File>
State read_state(const File& file, std::string_view kind) {
  const auto text = [&](const char* name) { return file.has_attribute("", name) ? file.text_attribute("", name) : std::string(); };
  if (text("format") != kModelFormat) fail(Exit::input, "'{}' is not a model: its format is '{}'", file.path(), text("format"));
  if (const auto version = file.integer_attribute("", "version"); version > kModelVersion)
    fail(Exit::input, "'{}' was written by a newer program: its version is {}, this program reads up to {}", file.path(), version, kModelVersion);
  if (text("kind") != kind) fail(Exit::input, "'{}' is a model of kind '{}', not '{}'", file.path(), text("kind"), kind);
  State state;
  for (const std::string& name : file.attributes(""))
    if (name.starts_with(kTextPrefix)) state.texts[name.substr(kTextPrefix.size())] = file.text_attribute("", name);
  for (const std::string& name : file.all_datasets()) {
    const auto info = file.info(name);
    NamedArray array{name, {info.shape.begin(), info.shape.end()}, {}};
    if (info.type == "f32") array.values = file.template read<float>(name);
    else if (info.type == "f64") array.values = file.template read<double>(name);
    else if (info.type == "i64") array.values = file.template read<std::int64_t>(name);
    else fail(Exit::input, "'{}': the array '{}' has type {}, which no model has", file.path(), name, info.type);
    state.arrays.push_back(std::move(array));
  }
  return state;
}

}  // namespace bl::models
