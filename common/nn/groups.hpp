// Parameter groups: what a fine-tuning treats differently, chosen by the names of the parameters.
//
//   PATTERN:SETTING[,SETTING]…       e.g.  encoder/*:rate=0.1,decay=0      encoder/*:freeze=0.5
//
// PATTERN is held against the whole name of a parameter ("encoder/0/qkv/weight"): * stands for any text, ? for one
// character. Settings:
//   rate=X       the learning rate is X times that of the schedule; X ≥ 0
//   decay=X      weight decay of the matrices of the group, in place of the common one; X ≥ 0
//   warmup=N     the group follows the schedule with a warm-up of N steps of its own
//   freeze       nothing of the group is trained; also freeze=full. freeze=none: all of it is
//   freeze=F     the first F of its layers (0 < F < 1, rounded to whole layers) and whatever comes before them, such as
//                embeddings, are not trained. A layer is what shares its name up to the first number: "encoder/0"
//   thaw=N       what is frozen is trained from step N on, as if the training began there; a warm-up of the group counts from N
// Several groups may match a parameter: each of its settings comes from the last one that gives it.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nn/params.hpp"

namespace bl::nn {

struct GroupRule {
  std::string pattern;
  std::optional<double> rate, decay;
  std::optional<double> freeze;  // fraction of the layers, 0 … 1; 1: all parameters
  std::optional<std::uint64_t> warmup, thaw;
  std::string text() const;  // parse_groups({text()}) is this rule
};

// Throws Exit::usage naming group and setting. A text without a colon belongs to the one before it, so that
// "encoder/*:rate=0.1,decay=0" may also come split at its comma.
std::vector<GroupRule> parse_groups(std::span<const std::string> texts);

// What the optimiser does with one parameter.
struct ParamRule {
  double rate = 1;                      // factor of the learning rate
  double decay = 0;                     // weight decay
  std::optional<std::uint64_t> warmup;  // in place of the schedule's
  bool frozen = false;                  // until step `thaw` where there is one
  std::optional<std::uint64_t> thaw;    // of frozen parameters
  bool frozen_at(std::uint64_t step) const { return frozen && (!thaw || step < *thaw); }
};

// One for each of `list`; without groups matrices get `decay` and nothing else any. Throws Exit::usage for a group that
// matches no parameter, for a decay where it has no matrix, for a fraction where it has no layers, when all
// parameters are frozen, and for a thaw without a freeze.
std::vector<ParamRule> apply_groups(const std::vector<ParamInfo>& list, std::span<const GroupRule> groups, double decay);

// Does the whole name match? * and ? as above.
bool matches(std::string_view pattern, std::string_view name);

}  // namespace bl::nn
