#include "base/error.hpp"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <numeric>
#include <system_error>

namespace bl {

Interrupted::Interrupted(int signal)
    : Error(static_cast<Exit>(128 + signal), fmt::format("stopped by {}", signal == SIGINT    ? "SIGINT"
                                                                          : signal == SIGTERM ? "SIGTERM"
                                                                                              : fmt::format("signal {}", signal))),
      signal_(signal) {}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const auto& candidate : candidates) {
    std::vector<std::size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < word.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i + 1;
      for (std::size_t j = 0; j < candidate.size(); ++j) {
        const std::size_t substitute = diagonal + (word[i] == candidate[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, substitute});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

std::string errno_text(int value) { return std::generic_category().message(value); }

}  // namespace bl
