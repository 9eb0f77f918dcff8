#include "models/codebook.hpp"

#include "base/error.hpp"

namespace bl::models {

std::string codebook_of(const nlohmann::json& tokenizer) {
  const auto it = tokenizer.is_object() ? tokenizer.find("hash") : tokenizer.end();
  return it != tokenizer.end() && it->is_string() ? it->get<std::string>() : "";
}

void same_codebook(const std::string& path, const std::string& ours, const nlohmann::json& meta, std::string_view where) {
  const auto it = meta.is_object() ? meta.find("tokenizer") : meta.end();
  const std::string theirs = it == meta.end() ? "" : codebook_of(*it);
  if (theirs.empty()) fail(Exit::input, "{} does not say which codebook its tokens are of: make them with bl-tokenize", where);
  if (theirs != ours)
    fail(Exit::input, "{} holds tokens of codebook {}, and '{}' was trained on codebook {}: tokenize with the tokenizer that it was trained with", where,
         theirs, path, ours);
}

}  // namespace bl::models
