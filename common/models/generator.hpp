// Sequences drawn from a GptModel, token by token. The keys and values of earlier tokens are kept, so that a token costs one
// row; as many sequences are worked on at once as a thread is told, and one that has stopped makes room for the next.
//
// Sequence number i is a function of the model, the sampling and (seed, i) alone: the random number of its token t is
// rng.uniform(i, t), and a row of a product does not depend on the other rows. Batch size, threads and the sequences
// beside it do not change a bit.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/pool.hpp"
#include "base/rng.hpp"
#include "models/gpt.hpp"
#include "models/sampler.hpp"
#include "nn/packed.hpp"

namespace bl::models {

struct GeneratorConfig {
  Sampling sampling;
  std::uint32_t max_length = 0;  // tokens of a sequence without start and stop, those of its prompt counted; 0: all that the model reads
  std::uint32_t batch = 28;      // sequences that a thread works on at once
  bool keep_log_probability = false;
  std::vector<std::int32_t> never;  // ids that are not drawn; start never is
  // Throws Exit::usage naming the setting.
  void validate(const GptConfig& model) const;
};

// How a sequence begins. The tokens must outlive the generation.
struct Beginning {
  std::span<const std::int32_t> prompt;  // at most max_length ids of the vocabulary, without start
  std::int32_t label = 0;                // class, where the model knows classes
};

struct Sequence {
  std::vector<std::int32_t> tokens;  // those of the prompt first; without start and stop
  bool stopped = false;              // by the model; else it was cut at max_length
  // keep_log_probability: log p by the model, whatever the sampling, of each token behind the prompt, and of stop.
  std::vector<float> log_probability;
};

class Generator {
 public:
  // The model must outlive the generator. rng: Rng(seed, "bl-generate").
  Generator(const GptModel<float>& model, GeneratorConfig config, const Rng& rng, Pool& pool);
  ~Generator();

  // Sequences first … first + count - 1, in this order. begin(i) says how number i begins; without it: with start, class 0.
  // after_step(tokens) is called after each step of each thread, with the number of its new tokens; both are called by
  // several threads at once, and what they throw ends the generation.
  std::vector<Sequence> generate(std::uint64_t first, std::size_t count, const std::function<Beginning(std::uint64_t)>& begin = {},
                                 const std::function<void(std::size_t tokens)>& after_step = {});
  std::uint32_t max_length() const;

 private:
  class Worker;
  const GptModel<float>& model_;
  GeneratorConfig config_;
  Rng rng_;
  Pool& pool_;
  nn::PackedWeights packed_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace bl::models
