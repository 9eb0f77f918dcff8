// Learning rate as a pure function of the step: nothing to keep in a checkpoint.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bl::nn {

struct Schedule {
  // Every kind but one_cycle begins with `warmup` steps of linear rise, rate / warmup at step 0.
  //   constant      the rate
  //   cosine        half a cosine from the rate to last · rate at step `total` (Loshchilov & Hutter, arXiv:1608.03983, without
  //                 restarts); the rate where `total` is not known
  //   one_cycle     half a cosine up from rate / 25 to the rate at step warmup - 1, then half a cosine down to
  //                 rate / 250000 at step total - 1 (Smith & Topin, arXiv:1708.07120; PyTorch's OneCycleLR). warmup 0 stands
  //                 for 3/10 of the total; needs a total
  //   inverse_sqrt  rate · sqrt(warmup / (step + 1)) (Vaswani et al., arXiv:1706.03762)
  enum class Kind : std::uint8_t { constant, cosine, one_cycle, inverse_sqrt } kind = Kind::constant;
  double rate = 1e-3;        // the largest
  std::uint64_t warmup = 0;  // steps
  std::uint64_t total = 0;   // steps of the training; 0: not known
  double last = 0;           // cosine: fraction of `rate` at the end

  double at(std::uint64_t step) const;  // step counts from 0
};

// "constant", "cosine", "one-cycle", "inverse-sqrt".
std::string_view name_of(Schedule::Kind kind);
std::vector<std::string> schedule_names();
Schedule::Kind schedule_named(std::string_view name);  // throws Exit::usage that lists the names

}  // namespace bl::nn
