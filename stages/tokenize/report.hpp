// What a tokenizer does to events, for people and as JSON.
#pragma once
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "models/tokenizer.hpp"

namespace bl::tokenize {

// tally: of the events that were encoded; notes: sentences for the user.
nlohmann::json report(const models::Tokenizer& tokenizer, const models::Tally& tally, const std::vector<std::string>& notes);
// The same as a table of a few lines, made from the JSON.
std::string table(const nlohmann::json& report);

}  // namespace bl::tokenize
