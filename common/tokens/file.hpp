// Tokenizer files: HDF5, layout in docs/tokens.md.
#pragma once
#include <nlohmann/json.hpp>

#include <string>

#include "models/tokenizer.hpp"
#include "store/h5.hpp"

namespace bl::tokens {

inline constexpr int kFileVersion = 1;

// Puts the tokenizer into a file; the caller commits it.
void save(store::Output& file, const models::Tokenizer& tokenizer);
// Throws Exit::input, with the file's name: not HDF5, no tokenizer, newer than this program, damaged.
models::Tokenizer load(const std::string& path);

// meta["tokenizer"] of tokens/1: what a model must know of the codebook.
nlohmann::json metadata(const models::Tokenizer& tokenizer);

}  // namespace bl::tokens
