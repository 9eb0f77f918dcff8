// bl-preprocess as a whole: inputs are opened, transforms fitted where they must be, events prepared and written.
#pragma once
#include <cstdint>
#include <string>

#include "stage/context.hpp"

namespace bl::preprocess {

struct Options {
  std::string recipe;        // path of a TOML file
  std::string format = "auto";
  std::string process;       // of every event
  std::string label;         // of every event, a whole number
  std::string select;        // in addition to the recipe's selection
  std::string save, with;    // fitted transforms
  double btag_cut = -1e9;    // of discriminants; kNoCut: keep them
  std::uint64_t skip_bad = 0;
  bool invert = false;
};
inline constexpr double kNoCut = -1e9;

void run(stage::Context& context, const Options& options);

}  // namespace bl::preprocess
