// Tokenizers that are trained: --fit vqvae and vqvae-conditional.
#pragma once
#include <cstdint>
#include <string>

#include "models/tokenizer_fit.hpp"
#include "stage/program.hpp"

namespace bl::tokenize {

// Options of the network and its training. What is 0 or -1 by default is chosen by kind.
struct Learning {
  int latent = 4, dim = 128, layers = 0, heads = 8, feed_forward = 1, epochs = 20, batch = 64;
  std::int64_t max_steps = 0, replace_after = -1, checkpoint_every = 0;
  double dropout = 0, rate = 3e-3, decay = 0.01, clip = 1, validation = 0.1, max_angle = 0.8;
  double ema = 0.9, codebook_weight = 9, commitment_weight = 1, sync = 0;
  std::string outside = "drop", codebook = "ema", estimator = "straight-through", resume, checkpoint;

  bool operator==(const Learning&) const = default;
};
void declare(stage::Program& program, Learning& learning);

// Trains and returns the tokenizer; progress and metrics go to the context. On SIGINT or SIGTERM the state after the
// current step is saved beside `save` (or to --checkpoint) before Interrupted is thrown. Throws Exit::input when there is
// too little to learn from or a checkpoint does not fit, Exit::usage for settings that contradict each other.
models::Fitted learn(stage::Context& context, const models::FitOptions& options, const Learning& learning, std::uint32_t codes, const models::FitSample& sample,
                     const std::string& save);

}  // namespace bl::tokenize
