// bl-preprocess as a whole: inputs are opened, transforms fitted where they must be, events prepared and written.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "stage/context.hpp"

namespace bl::preprocess {

struct Options {
  std::string recipe;  // path of a TOML file
  std::string format = "auto";
  std::string process;             // of every event
  std::string label;               // of every event, a whole number
  std::vector<std::string> names;  // of labels, by number
  std::string select;              // in addition to the recipe's selection
  std::string save, with;          // fitted transforms
  std::string btag_cut;            // of discriminants, a number
  std::uint64_t skip_bad = 0;
  bool invert = false;
};

void run(stage::Context& context, const Options& options);

}  // namespace bl::preprocess
