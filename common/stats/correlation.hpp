// Does one quantity follow another?
#pragma once
#include <span>

namespace bl::stats {

// Spearman's rank correlation: Pearson's of the ranks, equal values sharing the mean of theirs (Kendall, "Rank correlation
// methods", 1948, ch. 3). In [-1, 1]; NaN with fewer than two values or when one quantity never changes.
double spearman(std::span<const double> x, std::span<const double> y);

// Quantile p in [0, 1] of sorted values, linear between order statistics (Hyndman & Fan, Am. Stat. 50 (1996) 361, type 7);
// NaN without values.
double quantile_of_sorted(std::span<const double> sorted, double p);

}  // namespace bl::stats
