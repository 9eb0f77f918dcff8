// Which tokens of an event are hidden from a model and become its targets.
//
// Pure functions: a mask depends on the options, the event's tokens and (seed, event_index, epoch) alone, so that a
// saved mask and one drawn while training agree whatever the batching. Definitions with formulas: docs/tokens.md.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.hpp"

namespace bl::models {

enum class MaskMode {
  one,       // one token, each with the same probability
  each,      // every token in turn: the event is written once per token
  fraction,  // a random fraction of the tokens
  ramp,      // a fraction that grows from ramp_from to ramp_to
  hardest,   // the k particles of highest pt
  softest,   // the k particles of lowest pt
  rank,      // k particles at random, with probability proportional to (n − rank): the hardest has weight n, the softest 1
  knn,       // a random particle and the k particles nearest to it in ΔR
  radius,    // a random particle and all within ΔR < radius of it
  type,      // all particles of the categories listed
};

std::string_view name_of(MaskMode mode);
MaskMode mask_mode_named(std::string_view name);  // throws Exit::usage and lists the modes
std::vector<std::string> mask_modes();

struct MaskOptions {
  MaskMode mode = MaskMode::one;
  double fraction = 0.15;                 // fraction: of the maskable tokens, in (0, 1]
  double ramp_from = 0.1, ramp_to = 1.0;  // ramp: fraction at progress 0 and 1
  std::uint32_t k = 1;                    // hardest, softest, rank: how many; knn: how many neighbours
  double radius = 1.0;                    // radius: ΔR
  std::vector<std::uint8_t> types;        // type: categories (docs/tokens.md)
  bool extras = false;                    // one, each, fraction, ramp: event-level tokens (category 0) may be hidden too
};

// Throws Exit::usage when a parameter is out of range, or `types` is empty in mode type.
void validate(const MaskOptions& options);

// The tokens of one event: particles (category >= 1) in falling pt, and event-level tokens (category 0).
struct MaskInput {
  std::span<const std::uint8_t> category;
  std::span<const float> eta, phi;  // needed by knn and radius alone; may be empty otherwise
};

struct MaskKey {
  std::uint64_t event_index = 0;  // ordinal number of the event in the input where it entered
  std::uint32_t epoch = 0;        // bl-mask draws epoch 0; training draws later ones
  double progress = 0;            // ramp: 0 at the start, 1 at the end
};

// Does the mode look at eta and phi?
bool needs_directions(MaskMode mode);
// How many times the event is written: its number of maskable tokens in mode each (1 when there is none), else 1.
std::size_t replicas(const MaskOptions& options, std::span<const std::uint8_t> category);
// Fills mask (one byte per token, 1 = hidden) and returns how many are hidden; 0 when the event has no maskable token.
// replica: which copy, in mode each; 0 otherwise. rng: Rng(seed, "bl-mask").
std::size_t draw_mask(const MaskOptions& options, const MaskInput& event, const MaskKey& key, std::size_t replica, const Rng& rng,
                      std::span<std::uint8_t> mask);

}  // namespace bl::models
