// Masks as columns: tokens/1 -> masked/1.
#pragma once
#include <atomic>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/rng.hpp"
#include "data/batch.hpp"
#include "models/masking.hpp"

namespace bl::mask {

struct Settings {
  models::MaskOptions options;
  std::uint64_t ramp_events = 100'000;  // ramp: the event_index at which the fraction has reached ramp_to
};

// Sums that do not depend on the order of the batches.
struct Counts {
  std::atomic<std::uint64_t> events_in{0}, events_out{0};
  std::atomic<std::uint64_t> tokens{0}, masked{0};          // of what is written
  std::atomic<std::uint64_t> without_target{0};             // written events in which nothing is hidden
  std::array<std::atomic<std::uint64_t>, 256> masked_of{};  // by category, 0 for event-level tokens
};

// Throws Exit::input when the mode needs a column that the tokens do not carry.
Batch apply(const Batch& batch, const Settings& settings, const Rng& rng, Counts& counts);

// meta["mask"] of masked/1: mode, its parameters and the seed.
nlohmann::json metadata(const Settings& settings, std::uint64_t seed);
nlohmann::json report(const Counts& counts);

}  // namespace bl::mask
