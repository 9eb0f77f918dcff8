// Models and training states as HDF5 files. What a model is made of is not known here: a state is named arrays and named
// texts, and the model rebuilds itself from them. models::State is such a state.
//
// Layout: every array is a dataset under its name ("weights/token"), every text an attribute of the file under its name
// ("model/dim"); the attribute "format" is kModelFormat, "format_version" kModelVersion, and "hash" model_hash(). Texts
// that every model of tokens has beside its own:
//   "objective"   "masked-token"
//   "tokenizer"   JSON: meta["tokenizer"] of the stream that it was trained on, with the hash of the codebook
//   "history"     JSON: the history chain of that stream, with the training at the end
//   "program"     version of the program that wrote it
// and the array "unigram/counts", int64 (vocabulary): how often each id occurs in the training events.
#pragma once
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/hash.hpp"
#include "store/h5.hpp"

namespace bl::store {

inline constexpr const char* kModelFormat = "beamline model";
inline constexpr std::int64_t kModelVersion = 1;

// What tells two models apart: the arrays "weights/…", the texts "model/…", objective and tokenizer. How the weights came
// about is not part of it.
template <class State>
std::uint64_t model_hash(const State& state) {
  std::uint64_t sum = 0;  // order-free
  for (const auto& array : state.arrays) {
    if (!array.name.starts_with("weights/")) continue;
    const std::uint64_t h = hash64(array.shape.data(), array.shape.size() * sizeof array.shape[0], hash64(array.name));
    sum += std::visit([&](const auto& v) { return hash64(v.data(), v.size() * sizeof v[0], h); }, array.values);
  }
  for (const auto& [name, text] : state.texts)
    if (name.starts_with("model/") || name == "objective" || name == "tokenizer") sum += hash64(text, hash64(name));
  return sum;
}

// Writes all of `state` with its format and hash; the caller commits. Names with a slash, and arrays of at least one
// dimension. Throws Exit::write.
template <class State>
void write_model(Output& file, const State& state) {
  for (const auto& array : state.arrays)
    std::visit([&](const auto& values) { file.write(array.name, Shape(array.shape.begin(), array.shape.end()), values); }, array.values);
  for (const auto& [name, text] : state.texts) file.attribute("", name, text);
  file.attribute("", "format", kModelFormat);
  file.attribute("", "format_version", kModelVersion);
  file.attribute("", "hash", hex(model_hash(state)));
}

// Throws Exit::input, with the file's name, unless the file is a model of this or an older format.
void check_model(const Input& file);

// Reads what write_model() wrote, and verifies the hash. Integers come back as int64, reals as they were.
template <class State>
State read_model(const Input& file) {
  check_model(file);
  State state;
  for (const auto& name : file.all_datasets()) {
    const Info info = file.info(name);
    auto& array = state.arrays.emplace_back();
    array.name = name;
    array.shape.assign(info.shape.begin(), info.shape.end());
    if (info.kind == Kind::real && info.size <= sizeof(float)) array.values = file.read<float>(name);
    else if (info.kind == Kind::real) array.values = file.read<double>(name);
    else array.values = file.read<std::int64_t>(name);
  }
  std::string hash;
  for (const auto& name : file.attributes("")) {
    if (name == "format" || name == "format_version") continue;
    if (name == "hash") hash = file.text_attribute("", name);
    else state.texts[name] = file.text_attribute("", name);
  }
  if (hash != hex(model_hash(state)))
    fail(Exit::input, "'{}' has the hash {} where its content has {}: it was changed by another program", file.path(), hash, hex(model_hash(state)));
  return state;
}

}  // namespace bl::store
