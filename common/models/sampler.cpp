#include "models/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.hpp"
#include "nn/decode.hpp"

namespace bl::models {
namespace {

constexpr float impossible = -std::numeric_limits<float>::infinity();

}  // namespace

void Sampling::validate() const {
  if (!(temperature > 0 && std::isfinite(temperature)))
    fail(Exit::usage, "the temperature is {}, allowed is above 0; the most probable token each time is top-k 1", temperature);
  if (!(top_p > 0 && top_p <= 1)) fail(Exit::usage, "top-p is {}, allowed is above 0 to 1", top_p);
  if (!(stop_threshold >= 0 && stop_threshold <= 1)) fail(Exit::usage, "the stop threshold is {}, allowed is 0 to 1", stop_threshold);
}

Sampler::Sampler(const Sampling& sampling, std::size_t vocabulary, std::vector<std::int32_t> never, std::int32_t stop)
    : sampling_(sampling),
      never_(std::move(never)),
      stop_(stop),
      weights_(vocabulary),
      sums_((vocabulary + nn::sampling_block - 1) / nn::sampling_block),
      kept_logits_(never_.size()) {
  sampling_.validate();
}

std::int32_t Sampler::draw(float* logits, double u) {
  for (std::size_t i = 0; i < never_.size(); ++i) kept_logits_[i] = std::exchange(logits[never_[i]], impossible);
  // A limit that floats hold: colder than this is the greedy choice in any case.
  const auto inverse = static_cast<float>(std::min(1 / sampling_.temperature, 1e30));
  nn::sampling_weights(weights_.size(), logits, inverse, weights_.data(), sums_.data());
  const float stop_logit = logits[stop_];
  if (sampling_.stop_threshold > 0) {
    double total = 0;
    for (const float s : sums_) total += static_cast<double>(s);
    const auto stop = static_cast<std::size_t>(stop_);
    if (static_cast<double>(weights_[stop]) < sampling_.stop_threshold * total) {
      weights_[stop] = 0;
      logits[stop_] = impossible;
      const std::size_t block = stop / nn::sampling_block, first = block * nn::sampling_block;
      sums_[block] = 0;
      for (std::size_t i = first; i < std::min(weights_.size(), first + nn::sampling_block); ++i) sums_[block] += weights_[i];
    }
  }
  const bool whole = sampling_.top_k == 0 && sampling_.top_p == 1;
  const std::int32_t token = whole ? draw_all(u) : draw_best(logits, u);
  logits[stop_] = stop_logit;
  for (std::size_t i = 0; i < never_.size(); ++i) logits[never_[i]] = kept_logits_[i];
  return token;
}

// The block in which the sum passes u of the total, then the token in it. Where rounding leaves nothing to pass it, the last
// one that has any weight.
std::int32_t Sampler::draw_all(double u) const {
  double total = 0, start = 0, sum = 0;
  for (const float s : sums_) total += static_cast<double>(s);
  const double wanted = u * total;
  std::size_t block = 0;
  for (std::size_t b = 0; b < sums_.size() && sum <= wanted; ++b) {
    if (sums_[b] <= 0) continue;
    block = b;
    start = sum;
    sum += static_cast<double>(sums_[b]);
  }
  std::int32_t token = -1;
  sum = start;
  for (std::size_t i = block * nn::sampling_block, end = std::min(weights_.size(), i + nn::sampling_block); i < end && (token < 0 || sum <= wanted); ++i) {
    if (weights_[i] <= 0) continue;
    token = static_cast<std::int32_t>(i);
    sum += static_cast<double>(weights_[i]);
  }
  check(token >= 0, "sampling: no token has any probability");
  return token;
}

std::int32_t Sampler::draw_best(const float* logits, double u) {
  double total = 0;
  for (const float s : sums_) total += static_cast<double>(s);
  // All ids of less weight than this add up to less than 1 - top_p: none of them is kept.
  const double least = sampling_.top_k == 0 ? (1 - sampling_.top_p) * total / static_cast<double>(weights_.size()) : 0;
  candidates_.clear();
  for (std::size_t i = 0; i < weights_.size(); ++i)
    if (weights_[i] > 0 && static_cast<double>(weights_[i]) >= least) candidates_.emplace_back(logits[i], static_cast<std::int32_t>(i));
  check(!candidates_.empty(), "sampling: no token has any probability");
  const auto better = [](const auto& a, const auto& b) { return a.first > b.first || (a.first == b.first && a.second < b.second); };
  const auto weight = [&](std::size_t i) { return static_cast<double>(weights_[static_cast<std::size_t>(candidates_[i].second)]); };
  std::size_t sorted = 0;
  const auto sort_first = [&](std::size_t n) {
    n = std::min(n, candidates_.size());
    std::partial_sort(candidates_.begin() + static_cast<std::ptrdiff_t>(sorted), candidates_.begin() + static_cast<std::ptrdiff_t>(n), candidates_.end(),
                      better);
    sorted = n;
  };
  if (sampling_.top_k > 0) {
    sort_first(sampling_.top_k);
    candidates_.resize(sorted);
    total = 0;
    for (std::size_t i = 0; i < sorted; ++i) total += weight(i);
  }
  double kept = 0;
  std::size_t n = 0;
  if (sampling_.top_p == 1) {
    n = candidates_.size();
    kept = total;
  } else {
    // Sorted in growing pieces: mostly few are enough.
    for (; n < candidates_.size() && !(kept >= sampling_.top_p * total); ++n) {
      if (n == sorted) sort_first(4 * std::max<std::size_t>(n, 16));
      kept += weight(n);
    }
  }
  const double wanted = u * kept;
  double before = 0;
  for (std::size_t i = 0; i + 1 < n; ++i) {
    before += weight(i);
    if (before > wanted) return candidates_[i].second;
  }
  return candidates_[n - 1].second;
}

}  // namespace bl::models
