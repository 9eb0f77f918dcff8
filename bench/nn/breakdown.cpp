#include "breakdown.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

#include "base/pool.hpp"
#include "nn/ops/attention.hpp"
#include "nn/ops/embedding.hpp"
#include "nn/ops/linear.hpp"
#include "nn/ops/loss.hpp"
#include "nn/ops/norm.hpp"
#include "nn/optimizer.hpp"

namespace bl::bench {
namespace {

using nn::Var;

constexpr std::size_t shard_rows = 1024;

enum Kind : std::size_t { embedding, norm, qkv, attention, out, up, down, head, zero, reduce, optimizer, kinds };
constexpr std::array<const char*, kinds> names{"embedding",
                                               "layer norm",
                                               "qkv linear",
                                               "causal attention",
                                               "output linear + residual",
                                               "up linear + GELU",
                                               "down linear + residual",
                                               "head + cross-entropy",
                                               "zero gradients",
                                               "gradient norm",
                                               "AdamW"};

// Charges the time since the last stamp. On the tape, a stamp before an op runs after that op's backward.
class Clock {
 public:
  std::array<double, kinds> forward{}, backward{};
  void start() { last_ = now(); }
  void charge(double& to) {
    const double t = now();
    to += t - last_;
    last_ = t;
  }

 private:
  static double now() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }
  double last_ = 0;
};

class Step {
 public:
  explicit Step(const models::GptModel<float>& model) : model_(model), gradient_(model.params().size()), weights_(model.params().size()) {
    std::ranges::copy(model.params().values(), weights_.data());
  }

  double loss(const models::NextTokenInput& input, double scale, Clock& clock) {
    arena_.reset();
    nn::Tape<float> tape(arena_, weights_.data(), gradient_.data());
    const auto param = [&](const std::string& name) { return tape.param(model_.params().find(name)->at); };
    const auto timed = [&](Kind kind, auto&& op) {
      tape.record([&clock, kind] { clock.charge(clock.backward[kind]); });
      auto result = op();
      clock.charge(clock.forward[kind]);
      return result;
    };
    clock.start();
    const std::array<nn::Lookup<float>, 2> lookups{{{param("gpt/token"), input.tokens.data()}, {param("gpt/position"), input.positions.data()}}};
    Var<float> x = timed(embedding, [&] { return nn::embedding<float>(tape, input.tokens.size(), lookups); });
    const auto normed = [&](const std::string& at) { return timed(norm, [&] { return nn::layer_norm(tape, x, param(at + "/weight"), param(at + "/bias")); }); };
    for (std::uint32_t l = 0; l < model_.config().layers; ++l) {
      const std::string at = fmt::format("gpt/{}/", l);
      const auto linear = [&](Kind kind, const char* name, Var<float> from, nn::Activation activation, Var<float> residual) {
        return timed(kind, [&] { return nn::linear(tape, from, param(at + name + "/weight"), param(at + name + "/bias"), activation, residual); });
      };
      Var<float> h = linear(qkv, "qkv", normed(at + "norm1"), nn::Activation::none, nullptr);
      h = timed(attention, [&] { return nn::attention(tape, h, std::span<const std::int32_t>(input.offsets), std::size_t{model_.config().heads}, true); });
      x = linear(out, "out", h, nn::Activation::none, x);
      h = linear(up, "up", normed(at + "norm2"), model_.config().activation, nullptr);
      x = linear(down, "down", h, nn::Activation::none, x);
    }
    Var<float> h = normed("gpt/norm");
    const double loss = timed(head, [&] { return nn::linear_cross_entropy<float>(tape, h, param("head/weight"), param("head/bias"), input.targets, scale); });
    tape.backward();
    return loss;
  }

  nn::Aligned<float>& gradient() { return gradient_; }

 private:
  const models::GptModel<float>& model_;
  nn::Aligned<float> gradient_, weights_;
  nn::Arena arena_;
};

double flops_of(Kind kind, const models::GptConfig& c, double rows, double pairs) {
  const double d = c.dim, l = c.layers, linear = 6 * rows * d * d * l;
  switch (kind) {
    case qkv: return 3 * linear;
    case out: return linear;
    case up:
    case down: return linear * c.feed_forward;
    case attention: return 14 * l * pairs / 2 * d;
    case head: return 6 * rows * d * c.vocabulary;
    default: return 0;
  }
}

}  // namespace

std::string breakdown(const models::GptModel<float>& model, const models::Examples& data) {
  const models::GptConfig& config = model.config();
  if (config.dropout != 0) throw std::runtime_error("breakdown: the model has dropout");
  std::vector<models::NextTokenInput> shards;
  double rows = 0, pairs = 0;
  for (std::size_t i = 0; i < data.events(); ++i) {
    if (shards.empty() || shards.back().tokens.size() >= shard_rows) shards.emplace_back();
    shards.back().add(config, data.tokens_of(i));
    const double n = static_cast<double>(data.length(i) + 1);
    rows += n;
    pairs += n * n;
  }
  Pool pool(1);
  models::GptModel<float> copy(config);  // AdamW changes it, not the model
  std::ranges::copy(model.params().values(), copy.params().values().begin());
  nn::Optimizer<float> adamw(copy.params(), {});
  Step step(model);
  std::vector<Clock> clocks(4);
  std::vector<double> totals;
  for (Clock& clock : clocks) {
    clock.start();
    std::ranges::fill(std::span(step.gradient().data(), step.gradient().size()), 0.0f);
    clock.charge(clock.backward[zero]);
    double loss = 0;
    for (const models::NextTokenInput& s : shards) loss += step.loss(s, 1 / rows, clock);
    if (&clock == &clocks.front()) {
      double expected = 0;
      nn::Arena arena;
      nn::Aligned<float> gradient(model.params().size());  // not read: inference makes its products otherwise than training
      for (const models::NextTokenInput& s : shards) {
        arena.reset();
        nn::Tape<float> tape(arena, copy.params().values().data(), gradient.data());
        expected += model.loss(tape, s, 1 / rows);
      }
      if (loss != expected) throw std::runtime_error(fmt::format("breakdown: the loss is {}, that of the model {}", loss, expected));
    }
    clock.start();
    float* const gradient = step.gradient().data();
    nn::reduce_gradients<float>(pool, std::span<float* const>(&gradient, 1), step.gradient().size());
    clock.charge(clock.backward[reduce]);
    adamw.step(pool, copy.params(), gradient, 1e-3, 1.0);
    clock.charge(clock.backward[optimizer]);
  }
  clocks.erase(clocks.begin());  // it allocated
  const auto median = [&](const auto& of) {
    std::vector<double> values;
    for (const Clock& c : clocks) values.push_back(of(c));
    std::ranges::sort(values);
    return values[values.size() / 2];
  };
  std::vector<std::string> ops;
  double total = 0;
  for (std::size_t k = 0; k < kinds; ++k) {
    const double forward = median([&](const Clock&c) { return c.forward[k]; }), backward = median([&](const Clock&c) { return c.backward[k]; });
    total += forward + backward;
    ops.push_back(fmt::format("{{\"name\":\"{}\",\"forward\":{:.6f},\"backward\":{:.6f},\"flops\":{:.6g}}}", names[k], forward, backward,
                              flops_of(static_cast<Kind>(k), config, rows, pairs)));
  }
  return fmt::format("{{\"step\":{:.6f},\"ops\":[{}]}}", total, fmt::join(ops, ","));
}

}  // namespace bl::bench
