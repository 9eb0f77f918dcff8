// What the metrics of generated samples take: values of one variable, or rows of several.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/rng.hpp"

namespace bl::stats {

// One variable of a sample, in any unit. weight: one per value, none negative; empty means 1 each. name: for messages.
struct Sample {
  std::span<const double> value;
  std::span<const double> weight = {};
  std::string_view name = "sample";
};
// Throws Exit::input unless there are values, all values are finite, and weights are finite, not negative and sum to more
// than 0. Messages count from 0.
void require(const Sample& sample);

// Several variables: row-major, rows() rows of `columns` values.
struct Features {
  std::span<const double> value;
  std::size_t columns = 0;
  std::string_view name = "sample";
  std::size_t rows() const { return columns == 0 ? 0 : value.size() / columns; }
};
void require(const Features& features);  // whole rows, at least one, all finite; else Exit::input
std::vector<double> rows_of(const Features& features, std::span<const std::uint32_t> rows);

// A value with its error; each function says which error.
struct Estimate {
  double value = 0, error = 0;
};

// out.size() rows of `rows`, uniformly and with replacement: number i is rng.below(rows, 2 task + side, i). All metrics that
// draw do it by this function, so what they draw can be repeated elsewhere.
enum class Drawn : std::uint8_t { reference, sample };
void draw_rows(const Rng& rng, std::uint64_t task, Drawn side, std::size_t rows, std::span<std::uint32_t> out);

// A random order of 0 … n - 1 (Fisher & Yates by rng.below(·, task, ·)).
std::vector<std::uint32_t> shuffled(const Rng& rng, std::uint64_t task, std::size_t n);

// Mean over runs that differ by their seed. deviation: standard deviation with n - 1, NaN for one run; error: of the mean,
// deviation / sqrt(n). Where a value is not finite the mean is what the sum gives, and both errors are NaN.
struct OverSeeds {
  double mean = 0, deviation = 0, error = 0;
  std::size_t runs = 0;
};
OverSeeds over_seeds(std::span<const double> values);  // Exit::input without values

}  // namespace bl::stats
