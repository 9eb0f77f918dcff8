// What every evaluation of bl-evaluate takes and hands back. One file a kind: generation, tokens, classification,
// learning_curve, loss. A kind is a function from a Request to an Evaluation; main.cpp lists them, prints the text and writes the report.
#pragma once
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "report/page.hpp"
#include "stage/context.hpp"

namespace bl::evaluate {

// The command line.
struct Settings {
  std::string what, reference, out;
  int bins = 30, replicas = 20, draws = 50'000;         // generation
  int max_jets = 50'000;                                // generation, tokens
  std::vector<std::string> classes;                     // tokens: what classifiers tell apart
  std::string classifiers = "auto";                     // generation, tokens
  int seeds = 3;                                        // generation, tokens: of the classifiers
  std::vector<std::string> tokenizers;                  // tokens: FILE or NAME=FILE
  std::vector<std::string> efficiencies{"0.3", "0.5"};  // classification: signal efficiencies of the rejections
  bool weights = false;                                 // classification
  std::string method = "full";                          // learning-curve: what the others are compared with
};

struct Evaluation {
  report::Section section;  // section.id is the kind's name; figures begin with it and "_"
  nlohmann::json numbers = nlohmann::json::object();
  std::string text;                   // for standard output
  std::vector<std::string> warnings;  // for people who do not read the report
};

Evaluation generation(const Settings& settings, stage::Context& context);
Evaluation tokens(const Settings& settings, stage::Context& context);
Evaluation classification(const Settings& settings, stage::Context& context);
Evaluation learning_curve(const Settings& settings, stage::Context& context);
Evaluation loss(const Settings& settings, stage::Context& context);

}  // namespace bl::evaluate
