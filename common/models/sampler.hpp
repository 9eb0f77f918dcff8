// Which token comes next: drawn from softmax(logits / temperature), of which a part may be cut away.
//
// In this order: ids that may not be drawn are left out; the temperature; a stop whose probability is below the threshold is
// left out (OmniJet-α_C); of the rest only the top_k most probable are kept, and of those only the fewest whose
// probabilities add up to top_p (Holtzman et al., arXiv:1904.09751). Of equals the lower id is kept. What is kept is
// drawn from in proportion. top_k = 1 is the greedy choice.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace bl::models {

struct Sampling {
  double temperature = 1;     // above 0
  std::uint32_t top_k = 0;    // 0: all
  double top_p = 1;           // in (0, 1]
  double stop_threshold = 0;  // in [0, 1]
  void validate() const;      // throws Exit::usage naming the setting
};

class Sampler {
 public:
  // never: ids that are not drawn. stop: the id that the threshold is about.
  Sampler(const Sampling& sampling, std::size_t vocabulary, std::vector<std::int32_t> never, std::int32_t stop);
  // u: uniform in [0, 1). logits (vocabulary) are changed and put back. Not for several threads at once.
  std::int32_t draw(float* logits, double u);

 private:
  std::int32_t draw_all(double u) const;
  std::int32_t draw_best(const float* logits, double u);

  Sampling sampling_;
  std::vector<std::int32_t> never_;
  std::int32_t stop_;
  std::vector<float> weights_, sums_, kept_logits_;
  std::vector<std::pair<float, std::int32_t>> candidates_;  // logit, id
};

}  // namespace bl::models
