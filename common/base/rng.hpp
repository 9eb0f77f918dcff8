// Counter-based random numbers (Philox4x32-10 of Random123; Salmon et al., SC11): a pure function of
// (run seed, purpose, event, index), so any number of threads, workers or batches draws the same numbers.
#pragma once
#include <Random123/philox.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

#include "base/hash.hpp"

namespace bl {

class Rng {
 public:
  // purpose: usually the stage's name, so that two stages with one seed draw different numbers.
  Rng(std::uint64_t seed, std::string_view purpose) : Rng(seed, hash64(purpose)) {}
  Rng(std::uint64_t seed, std::uint64_t purpose) : key_{} {
    const std::uint64_t mixed = hash64(&seed, sizeof seed, purpose);
    key_[0] = static_cast<std::uint32_t>(mixed);
    key_[1] = static_cast<std::uint32_t>(mixed >> 32);
  }

  // 64 random bits for number `index` of event (or batch, or step) `event`.
  std::uint64_t bits(std::uint64_t event, std::uint64_t index) const {
    r123::Philox4x32::ctr_type counter{{static_cast<std::uint32_t>(event), static_cast<std::uint32_t>(event >> 32), static_cast<std::uint32_t>(index),
                                        static_cast<std::uint32_t>(index >> 32)}};
    const auto out = r123::Philox4x32{}(counter, key_);
    return out[0] | static_cast<std::uint64_t>(out[1]) << 32;
  }
  // uniform in [0, 1), 53 bits
  double uniform(std::uint64_t event, std::uint64_t index) const { return static_cast<double>(bits(event, index) >> 11) * 0x1p-53; }
  // uniform integer in [0, n), n > 0; the bias is below n / 2^64
  std::uint64_t below(std::uint64_t n, std::uint64_t event, std::uint64_t index) const {
    return static_cast<std::uint64_t>((static_cast<__uint128_t>(bits(event, index)) * n) >> 64);
  }
  // standard normal by Box-Muller
  double normal(std::uint64_t event, std::uint64_t index) const {
    const std::uint64_t b = bits(event, index);
    const double u = (static_cast<double>(b & 0xffffffffu) + 1.0) * 0x1p-32, v = static_cast<double>(b >> 32) * 0x1p-32;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
  }

 private:
  r123::Philox4x32::key_type key_;
};

}  // namespace bl
