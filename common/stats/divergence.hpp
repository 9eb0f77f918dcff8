// Divergences of one variable between a reference (true jets) and a sample (generated jets), from histograms.
//
// Two definitions of the Kullback-Leibler divergence are in use for generated jets, both under the name "quantiled KL
// divergence", and their values cannot be compared. A report must name the one it used: name_of().
//
// All are in nats (natural logarithm) unless a base is given, and 0 for equal histograms. Values that fall in no bin are left
// out as the definition says. Weights, where a sample has them, enter the bin contents; bin edges are quantiles of the
// reference's values without weights. Exit::input for samples that require() refuses, Exit::usage for fewer than 1 bin.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "stats/sample.hpp"

namespace bl::stats {

enum class KlDefinition : std::uint8_t { omnijet_alpha, ntp4jets };
std::string_view name_of(KlDefinition definition);  // "omnijet-alpha", "ntp4jets"

// KL(reference || sample) = sum_i p_i ln(p_i / q_i), p and q normalised to 1.
//
// omnijet_alpha: OmniJet-alpha (Birk, Hallin & Kasieczka, arXiv:2403.05618), gabbro/metrics/utils.py. `points` edges at the
// quantiles linspace(0.001, 0.999, points) of the reference, so points - 1 bins and no tails; p and q are densities (content
// / width) + 1e-8, then normalised: bins count by their density, not by their content, and an empty bin costs ln(p / 1e-8).
// The published definition divides by 0 where two edges are equal (integers such as the multiplicity); here equal edges are
// one edge, which changes nothing elsewhere. NaN when fewer than two edges are left, or when a sample has nothing between
// the first and the last edge. points >= 2; published default 30, used with 50.
double kl_omnijet_alpha(const Sample& reference, const Sample& sample, std::size_t points = 30);
//
// ntp4jets: the later one of the same group (arXiv:2512.04149), gabbro/metrics/utils.py. Edges at the quantiles
// linspace(0, 1, bins + 1), the first and last moved to minus and plus infinity, so `bins` bins and nothing left out; p and
// q are contents / sum. Infinity when the sample leaves a bin empty that the reference fills: a fact, not an error, and
// likelier the fewer events there are.
double kl_ntp4jets(const Sample& reference, const Sample& sample, std::size_t bins = 30);

double kl_divergence(KlDefinition definition, const Sample& reference, const Sample& sample, std::size_t bins = 30);

// Jensen-Shannon divergence of two lists of bin contents, each normalised to its sum:
//   JS = KL(p || m) / 2 + KL(q || m) / 2, m = (p + q) / 2   (Lin, IEEE Trans. Inf. Theory 37 (1991) 145)
// The divergence itself, not its square root, which others call Jensen-Shannon distance. Symmetric, always finite, at most
// ln 2 (nats) or 1 (bits).
enum class LogBase : std::uint8_t { e, two };
double jensen_shannon_of_histograms(std::span<const double> p, std::span<const double> q, LogBase base = LogBase::e);
// The same in the bins of kl_ntp4jets.
double jensen_shannon(const Sample& reference, const Sample& sample, std::size_t bins = 30, LogBase base = LogBase::e);

// The edges of a definition: rising; for ntp4jets without the two at infinity.
std::vector<double> kl_edges(KlDefinition definition, const Sample& reference, std::size_t bins);

}  // namespace bl::stats
