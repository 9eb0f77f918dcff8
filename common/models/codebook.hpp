// Whose tokens these are: the hash of the codebook in the metadata "tokenizer" of streams and model files.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace bl::models {

// Empty where the metadata do not say it.
std::string codebook_of(const nlohmann::json& tokenizer);

// Throws Exit::input and names both codebooks unless the tokens of the stream `where`, whose metadata are `meta`, are of the
// codebook `ours` that the model `path` was trained on.
void same_codebook(const std::string& path, const std::string& ours, const nlohmann::json& meta, std::string_view where);

}  // namespace bl::models
