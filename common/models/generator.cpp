#include "models/generator.hpp"

#include <algorithm>
#include <atomic>
#include <functional>
#include <utility>

#include "base/error.hpp"
#include "nn/arena.hpp"
#include "nn/decode.hpp"
#include "nn/kernels.hpp"
#include "nn/ops/norm.hpp"

namespace bl::models {

void GeneratorConfig::validate(const GptConfig& model) const {
  sampling.validate();
  if (batch < 1 || batch > 65536) fail(Exit::usage, "the batch is {} sequences, allowed are 1 to 65536", batch);
  if (max_length > model.positions - 1) fail(Exit::usage, "the longest sequence has {} tokens, the model reads at most {}", max_length, model.positions - 1);
  if (sampling.top_k > model.vocabulary) fail(Exit::usage, "top-k is {}, the model knows {} ids", sampling.top_k, model.vocabulary);
}

// The sequences of one thread: slots with a cache each, and the rows of a step side by side.
class Generator::Worker {
 public:
  Worker(const GptModel<float>& model, const nn::PackedWeights& packed, const GeneratorConfig& config, const Rng& rng)
      : model_(model),
        config_(config),
        rng_(rng),
        sampler_(config.sampling, model.config().vocabulary, config.never, model.config().stop_id()),
        cache_{model.config().heads, model.config().dim / model.config().heads, model.config().positions} {
    const auto matrix = [&](const nn::Param& p) {
      const nn::PackedMatrix* m = packed.find(p.offset);
      check(m != nullptr, "generation: a matrix is not laid out");
      return m;
    };
    for (const Block& l : model.parts().blocks) matrices_.push_back({matrix(l.qkv_weight), matrix(l.out_weight), matrix(l.up_weight), matrix(l.down_weight)});
    head_ = matrix(model.parts().head_weight);
    scratch_ = nn::Aligned<float>(cache_.scratch());
  }

  // Works on sequences from `next` until there are none; results go to where their number says.
  void run(std::size_t slots, std::uint64_t first, std::atomic<std::size_t>& next, std::span<Sequence> results,
           const std::function<Beginning(std::uint64_t)>& begin, const std::function<void(std::size_t)>& after_step) {
    reserve(slots);
    active_ = 0;
    const auto fill = [&](Slot& slot) {
      for (std::size_t i = next++; i < results.size(); i = next++) {
        slot.number = first + i;
        slot.beginning = begin ? begin(slot.number) : Beginning{};
        slot.result = &results[i];
        slot.result->tokens.assign(slot.beginning.prompt.begin(), slot.beginning.prompt.end());
        slot.fed = 0;
        if (slot.beginning.prompt.size() < config_.max_length) return true;  // else there is nothing to add
      }
      return false;
    };
    while (active_ < slots && fill(slots_[active_])) ++active_;
    while (active_ > 0) {
      forward();
      std::size_t tokens = 0, row = 0;
      for (std::size_t s = 0; s < active_; ++s) {
        Slot& slot = slots_[s];
        ++slot.fed;
        slot.over = false;
        if (slot.fed <= slot.beginning.prompt.size()) continue;
        slot.over = extend(slot, logits_.data() + row++ * model_.config().vocabulary);
        ++tokens;
      }
      // A sequence that is over makes room; its cache is written over.
      for (std::size_t s = 0; s < active_;) {
        if (!slots_[s].over || fill(slots_[s])) {
          slots_[s++].over = false;
          continue;
        }
        std::swap(slots_[s], slots_[--active_]);
      }
      if (after_step) after_step(tokens);
    }
  }

 private:
  struct Slot {
    std::uint64_t number = 0;
    Beginning beginning;
    Sequence* result = nullptr;
    std::size_t fed = 0;  // rows that have gone through the model: start and tokens
    std::size_t cache = 0;
    bool over = false;
  };
  struct Matrices {
    const nn::PackedMatrix *qkv, *out, *up, *down;
  };

  void reserve(std::size_t slots) {
    if (slots <= slots_.size()) return;
    const GptConfig& c = model_.config();
    const std::size_t dim = c.dim;
    slots_.resize(slots);
    for (std::size_t s = 0; s < slots; ++s) slots_[s].cache = s;
    keys_ = nn::Aligned<float>(slots * c.layers * cache_.floats());
    values_ = nn::Aligned<float>(slots * c.layers * cache_.floats());
    x_ = nn::Aligned<float>(slots * dim);
    h_ = nn::Aligned<float>(slots * dim);
    wide_ = nn::Aligned<float>(slots * dim * std::max(3u, c.feed_forward));
    logits_ = nn::Aligned<float>(slots * c.vocabulary);
    mean_.resize(slots);
    rstd_.resize(slots);
  }

  std::span<const float> row_of(const nn::Param& p, std::size_t row) const { return model_.params().of(p).subspan(row * p.width, p.width); }
  const float* values_of(const nn::Param& p) const { return model_.params().of(p).data(); }

  void norm(std::size_t rows, const nn::Param& weight, const nn::Param& bias) {
    kernels_.norm(rows, model_.config().dim, true, nn::norm_epsilon, x_.data(), values_of(weight), values_of(bias), h_.data(), mean_.data(), rstd_.data());
  }

  // One row of each sequence through the model; the logits of those that are not in their prompt, one after the other.
  void forward() {
    const GptConfig& c = model_.config();
    const auto& parts = model_.parts();
    const std::size_t dim = c.dim, rows = active_;
    for (std::size_t r = 0; r < rows; ++r) {
      const Slot& s = slots_[r];
      const auto token = static_cast<std::size_t>(s.fed == 0 ? c.start_id() : s.result->tokens[s.fed - 1]);
      float* x = x_.data() + r * dim;
      kernels_.add(dim, row_of(parts.token, token).data(), row_of(parts.position, s.fed).data(), x);
      if (c.classes > 0) kernels_.add(dim, x, row_of(parts.class_of, static_cast<std::size_t>(s.beginning.label)).data(), x);
    }
    for (std::size_t l = 0; l < c.layers; ++l) {
      const Block& p = parts.blocks[l];
      const Matrices& m = matrices_[l];
      norm(rows, p.norm1_weight, p.norm1_bias);
      m.qkv->forward(rows, h_.data(), wide_.data());
      kernels_.bias_activation(rows, 3 * dim, wide_.data(), values_of(p.qkv_bias), nn::Activation::none, nullptr, wide_.data(), nullptr);
      for (std::size_t r = 0; r < rows; ++r) {
        const std::size_t at = (slots_[r].cache * c.layers + l) * cache_.floats();
        nn::attend_cached(cache_, slots_[r].fed + 1, wide_.data() + r * 3 * dim, keys_.data() + at, values_.data() + at, h_.data() + r * dim, scratch_.data());
      }
      m.out->forward(rows, h_.data(), wide_.data());
      kernels_.bias_activation(rows, dim, wide_.data(), values_of(p.out_bias), nn::Activation::none, x_.data(), x_.data(), nullptr);
      norm(rows, p.norm2_weight, p.norm2_bias);
      m.up->forward(rows, h_.data(), wide_.data());
      const std::size_t inner = dim * c.feed_forward;
      kernels_.bias_activation(rows, inner, wide_.data(), values_of(p.up_bias), c.activation, nullptr, wide_.data(), nullptr);
      m.down->forward(rows, wide_.data(), h_.data());
      kernels_.bias_activation(rows, dim, h_.data(), values_of(p.down_bias), nn::Activation::none, x_.data(), x_.data(), nullptr);
    }
    std::size_t wanted = 0;  // rows, moved together
    for (std::size_t r = 0; r < rows; ++r) {
      if (slots_[r].fed < slots_[r].beginning.prompt.size()) continue;
      if (wanted != r) std::copy_n(x_.data() + r * dim, dim, x_.data() + wanted * dim);
      ++wanted;
    }
    if (wanted == 0) return;
    norm(wanted, parts.norm_weight, parts.norm_bias);
    head_->forward(wanted, h_.data(), logits_.data());
    kernels_.bias_activation(wanted, c.vocabulary, logits_.data(), values_of(parts.head_bias), nn::Activation::none, nullptr, logits_.data(), nullptr);
  }

  // The next token of a sequence; true when it is over.
  bool extend(const Slot& slot, float* logits) {
    Sequence& sequence = *slot.result;
    const std::int32_t token = sampler_.draw(logits, rng_.uniform(slot.number, sequence.tokens.size()));
    if (config_.keep_log_probability)
      sequence.log_probability.push_back(-kernels_.cross_entropy(model_.config().vocabulary, logits, nullptr, static_cast<std::size_t>(token), 0, nullptr));
    if (token == model_.config().stop_id()) {
      sequence.stopped = true;
      return true;
    }
    sequence.tokens.push_back(token);
    return sequence.tokens.size() >= config_.max_length;
  }

  const GptModel<float>& model_;
  const GeneratorConfig& config_;
  const Rng& rng_;
  const nn::Kernels<float>& kernels_ = nn::kernels<float>();
  Sampler sampler_;
  nn::CacheShape cache_;
  std::vector<Matrices> matrices_;
  const nn::PackedMatrix* head_ = nullptr;
  std::vector<Slot> slots_;  // the first `active_` are at work
  std::size_t active_ = 0;
  nn::Aligned<float> keys_, values_;                    // (slots, layers, cache)
  nn::Aligned<float> x_, h_, wide_, logits_, scratch_;  // x, h (slots, dim); wide: query | key | value, or the feed-forward part
  std::vector<float> mean_, rstd_;
};

Generator::Generator(const GptModel<float>& model, GeneratorConfig config, const Rng& rng, Pool& pool)
    : model_(model), config_(std::move(config)), rng_(rng), pool_(pool), packed_(model.params(), nn::Precision::f32, nn::Use::inference) {
  config_.validate(model.config());
  if (config_.max_length == 0) config_.max_length = model.config().positions - 1;
  config_.never.push_back(model.config().start_id());
  packed_.update(pool, model.params().values().data());
  for (std::size_t w = 0; w < pool.threads(); ++w) workers_.push_back(std::make_unique<Worker>(model_, packed_, config_, rng_));
}
Generator::~Generator() = default;

std::uint32_t Generator::max_length() const { return config_.max_length; }

std::vector<Sequence> Generator::generate(std::uint64_t first, std::size_t count, const std::function<Beginning(std::uint64_t)>& begin,
                                          const std::function<void(std::size_t)>& after_step) {
  std::vector<Sequence> results(count);
  std::atomic<std::size_t> next = 0;
  const std::size_t threads = pool_.threads(), slots = std::min<std::size_t>(config_.batch, (count + threads - 1) / threads);
  const auto task = [&](std::size_t, std::size_t worker) { workers_[worker]->run(slots, first, next, results, begin, after_step); };
  if (slots > 0) pool_.run(threads, std::ref(task));
  return results;
}

}  // namespace bl::models
