// The one list of ops. A case gives an op its test, gradient and speed modes; an op whose file is missing here fails a
// test (cases_cover_every_op). Adding an op = one file in common/nn/ops + one entry in op_cases().
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/rng.hpp"
#include "nn/ops/attention.hpp"
#include "nn/ops/elementwise.hpp"
#include "nn/ops/embedding.hpp"
#include "nn/ops/fourier.hpp"
#include "nn/ops/linear.hpp"
#include "nn/ops/loss.hpp"
#include "nn/ops/norm.hpp"
#include "nn/ops/rows.hpp"
#include "nn/tape.hpp"

namespace bl::nn::testing {

// How large: tests use small random sizes, the speed mode those of an event encoder.
struct Size {
  std::size_t sequences = 3, tokens = 5, width = 8, classes = 7, heads = 2;
  std::uint64_t seed = 1;
};

// What an op's forward makes: a matrix, or the sum of a loss (whose gradient it scaled by loss_scale itself).
template <class T>
struct Result {
  Var<T> value = nullptr;
  double loss = 0;
};
inline constexpr double loss_scale = 0.37;

// Constants of a case. Shared, so that a tape may point into them.
struct Constants {
  std::vector<std::int32_t> offsets, ids, ids2;
  std::vector<double> numbers;
};

template <class T>
struct Problem {
  std::vector<Param> shapes;  // the differentiable inputs; offset is not used
  std::function<Result<T>(Tape<T>&, const std::vector<Var<T>>&)> forward;
  double flops = 0;  // of forward and backward, 0 when it is about bandwidth
};

template <class T>
struct OpCase {
  std::string name, file;  // file: stem of common/nn/ops/<file>.hpp
  std::function<Problem<T>(const Size&)> make;
};

// offsets of `sequences` sequences with 1 … 2 tokens-1 tokens, `tokens` on average; in tests one may be empty.
inline std::vector<std::int32_t> random_offsets(const Size& size, bool with_empty) {
  const Rng rng(size.seed, "offsets");
  std::vector<std::int32_t> offsets{0};
  for (std::size_t s = 0; s < size.sequences; ++s) {
    std::int32_t n = 1 + static_cast<std::int32_t>(rng.below(2 * size.tokens - 1, s, 0));
    if (with_empty && s == 1) n = 0;
    offsets.push_back(offsets.back() + n);
  }
  return offsets;
}

inline std::vector<std::int32_t> random_ids(std::size_t n, std::size_t below, std::uint64_t seed, std::uint64_t which) {
  const Rng rng(seed, "ids");
  std::vector<std::int32_t> ids(n);
  for (std::size_t i = 0; i < n; ++i) ids[i] = static_cast<std::int32_t>(rng.below(below, which, i));
  return ids;
}

template <class T>
std::vector<OpCase<T>> op_cases() {
  std::vector<OpCase<T>> list;
  const auto tokens_of = [](const Size& s) { return static_cast<std::size_t>(random_offsets(s, false).back()); };
  const auto shape = [](std::size_t rows, std::size_t width) { return Param{0, rows, width}; };

  for (const auto& [name, act] :
       {std::pair{"linear", Activation::none}, {"linear_relu", Activation::relu}, {"linear_gelu", Activation::gelu}, {"linear_silu", Activation::silu}})
    list.push_back({name, "linear", [=](const Size& s) {
                      const std::size_t n = tokens_of(s), in = s.width, out = s.width + s.classes;
                      return Problem<T>{{shape(n, in), shape(out, in), shape(1, out)},
                                        [act](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{linear(t, v[0], v[1], v[2], act)}; },
                                        6.0 * static_cast<double>(n * in * out)};
                    }});
  list.push_back({"linear_residual", "linear", [=](const Size& s) {
                    const std::size_t n = tokens_of(s), in = s.width;
                    return Problem<T>{{shape(n, in), shape(in, in), shape(1, in)},
                                      [](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        // the residual is the input itself: two paths add up in one gradient
                                        return Result<T>{linear(t, v[0], v[1], v[2], Activation::none, v[0])};
                                      },
                                      6.0 * static_cast<double>(n * in * in)};
                  }});
  for (const auto& [name, act] : {std::pair{"gated_linear", Activation::none},
                                  {"glu", Activation::sigmoid},
                                  {"reglu", Activation::relu},
                                  {"geglu", Activation::gelu},
                                  {"swiglu", Activation::silu}})
    list.push_back({name, "linear", [=](const Size& s) {
                      const std::size_t n = tokens_of(s), in = s.width, out = s.width + s.classes;
                      return Problem<T>{{shape(n, in), shape(2 * out, in), shape(1, 2 * out)},
                                        [act](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{gated_linear(t, v[0], v[1], v[2], act)}; },
                                        12.0 * static_cast<double>(n * in * out)};
                    }});
  list.push_back({"layer_norm", "norm", [=](const Size& s) {
                    return Problem<T>{{shape(tokens_of(s), s.width), shape(1, s.width), shape(1, s.width)},
                                      [](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{layer_norm(t, v[0], v[1], v[2])}; }};
                  }});
  list.push_back({"rms_norm", "norm", [=](const Size& s) {
                    return Problem<T>{{shape(tokens_of(s), s.width), shape(1, s.width)},
                                      [](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{rms_norm(t, v[0], v[1])}; }};
                  }});
  list.push_back({"embedding", "embedding", [=](const Size& s) {
                    const std::size_t n = tokens_of(s);
                    auto c = std::make_shared<Constants>();
                    c->ids = random_ids(n, s.classes, s.seed, 0);
                    c->ids2 = random_ids(n, 3, s.seed, 1);
                    return Problem<T>{{shape(s.classes, s.width), shape(3, s.width), shape(3, s.width)}, [c](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        const std::vector<Lookup<T>> l{{v[0], c->ids.data()}, {v[1], c->ids2.data()}, {v[2], c->ids2.data()}};
                                        return Result<T>{embedding<T>(t, c->ids.size(), l)};
                                      }};
                  }});
  list.push_back({"fourier_features", "fourier", [=](const Size& s) {
                    return Problem<T>{{shape(tokens_of(s), 3), shape(s.width, 3)},
                                      [](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{fourier_features(t, v[0], v[1])}; }};
                  }});
  for (const bool causal : {false, true})
    for (const bool biased : {false, true})
      list.push_back({std::string("attention") + (causal ? "_causal" : "") + (biased ? "_bias" : ""), "attention", [=](const Size& s) {
                        auto c = std::make_shared<Constants>();
                        c->offsets = random_offsets(s, s.sequences < 10);
                        const std::size_t heads = s.heads, dim = s.width / heads * heads, n = static_cast<std::size_t>(c->offsets.back());
                        const AttentionShape a{c->offsets, heads, dim, causal};
                        std::vector<Param> in{shape(n, 3 * dim)};
                        if (biased) in.push_back(shape(a.pairs(), heads));
                        return Problem<T>{in,
                                          [c, heads, causal, biased](Tape<T>& t, const std::vector<Var<T>>& v) {
                                            return Result<T>{attention(t, v[0], c->offsets, heads, causal, biased ? v[1] : nullptr)};
                                          },
                                          14.0 * static_cast<double>(a.pairs() * dim) * (causal ? 0.5 : 1)};
                      }});
  list.push_back({"add", "elementwise", [=](const Size& s) {
                    return Problem<T>{{shape(s.tokens, s.width), shape(s.tokens, s.width)},
                                      [](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{add(t, v[0], add(t, v[1], v[0]))}; }};
                  }});
  list.push_back({"dropout", "elementwise", [=](const Size& s) {
                    return Problem<T>{{shape(s.sequences * s.tokens, s.width)}, [seed = s.seed](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        t.seed(seed, 3, 4);
                                        return Result<T>{dropout(t, v[0], 0.3)};
                                      }};
                  }});
  list.push_back(
      {"gather_rows", "rows", [=](const Size& s) {
         auto c = std::make_shared<Constants>();
         const std::size_t n = tokens_of(s);
         c->ids = random_ids(2 * s.sequences, n, s.seed, 0);
         return Problem<T>{{shape(n, s.width)}, [c](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{gather_rows<T>(t, v[0], c->ids)}; }};
       }});
  list.push_back({"segment_mean", "rows", [=](const Size& s) {
                    auto c = std::make_shared<Constants>();
                    c->offsets = random_offsets(s, true);
                    return Problem<T>{{shape(static_cast<std::size_t>(c->offsets.back()), s.width)},
                                      [c](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{segment_mean<T>(t, v[0], c->offsets)}; }};
                  }});
  list.push_back({"cross_entropy", "loss", [=](const Size& s) {
                    auto c = std::make_shared<Constants>();
                    c->ids = random_ids(tokens_of(s), s.classes, s.seed, 0);
                    return Problem<T>{{shape(c->ids.size(), s.classes)}, [c](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        return Result<T>{nullptr, cross_entropy<T>(t, v[0], c->ids, loss_scale)};
                                      }};
                  }});
  list.push_back({"linear_cross_entropy", "loss", [=](const Size& s) {
                    auto c = std::make_shared<Constants>();
                    c->ids = random_ids(tokens_of(s), s.classes, s.seed, 0);
                    return Problem<T>{{shape(c->ids.size(), s.width), shape(s.classes, s.width), shape(1, s.classes)},
                                      [c](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        return Result<T>{nullptr, linear_cross_entropy<T>(t, v[0], v[1], v[2], c->ids, loss_scale)};
                                      },
                                      6.0 * static_cast<double>(c->ids.size() * s.width * s.classes)};
                  }});
  for (const auto& [name, smoothing, weighted] :
       {std::tuple{"cross_entropy_smoothed", 0.2, false}, {"cross_entropy_weighted", 0.0, true}, {"cross_entropy_smoothed_weighted", 0.1, true}})
    for (const bool chunked : {false, true})
      list.push_back({std::string(chunked ? "linear_" : "") + name, "loss", [=](const Size& s) {
                        auto c = std::make_shared<Constants>();
                        c->ids = random_ids(tokens_of(s), s.classes, s.seed, 0);
                        auto weights = std::make_shared<std::vector<T>>();
                        // one class in five has no weight at all
                        for (std::size_t i = 0; weighted && i < s.classes; ++i) weights->push_back(static_cast<T>((i + 1) % 5) / T{2});
                        std::vector<Param> in{shape(c->ids.size(), s.classes)};
                        if (chunked) in = {shape(c->ids.size(), s.width), shape(s.classes, s.width), shape(1, s.classes)};
                        return Problem<T>{in,
                                          [c, weights, smoothing, chunked](Tape<T>& t, const std::vector<Var<T>>& v) {
                                            const ClassTargets<T> o{smoothing, *weights};
                                            return Result<T>{nullptr, chunked ? linear_cross_entropy<T>(t, v[0], v[1], v[2], c->ids, loss_scale, {}, o)
                                                                              : cross_entropy<T>(t, v[0], c->ids, loss_scale, o)};
                                          },
                                          chunked ? 6.0 * static_cast<double>(c->ids.size() * s.width * s.classes) : 0};
                      }});
  list.push_back({"squared_error", "loss", [=](const Size& s) {
                    auto target = std::make_shared<std::vector<T>>(s.tokens * s.width);
                    const Rng rng(s.seed, "target");
                    for (std::size_t i = 0; i < target->size(); ++i) (*target)[i] = static_cast<T>(rng.normal(0, i));
                    return Problem<T>{{shape(s.tokens, s.width)}, [target](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        return Result<T>{nullptr, squared_error<T>(t, v[0], *target, loss_scale)};
                                      }};
                  }});
  for (const std::string name : {"squared_error_weighted", "absolute_error", "huber_loss"})
    list.push_back({name, "loss", [=](const Size& s) {
                      auto target = std::make_shared<std::vector<T>>(s.tokens * s.width);
                      auto weights = std::make_shared<std::vector<T>>(target->size());
                      const Rng rng(s.seed, "target");
                      for (std::size_t i = 0; i < target->size(); ++i) {
                        // far from the kink at zero, and on both sides of the Huber loss's delta, whose second derivative jumps
                        (*target)[i] = static_cast<T>((i % 2 ? 8 : -8) * (name == "huber_loss" && i % 3 == 0 ? 0.0 : 1.0));
                        (*weights)[i] = static_cast<T>(rng.uniform(1, i));
                      }
                      return Problem<T>{{shape(s.tokens, s.width)}, [target, weights, name](Tape<T>& t, const std::vector<Var<T>>& v) {
                                          if (name == "absolute_error") return Result<T>{nullptr, absolute_error<T>(t, v[0], *target, loss_scale, *weights)};
                                          if (name == "huber_loss") return Result<T>{nullptr, huber_loss<T>(t, v[0], *target, 6.0, loss_scale, *weights)};
                                          return Result<T>{nullptr, squared_error<T>(t, v[0], *target, loss_scale, *weights)};
                                        }};
                    }});
  return list;
}

// A problem with its inputs in one block, and the scalar function  L(inputs) = Σ c · value  (or loss_scale · loss)
// whose gradient the tape gives.
template <class T>
class Function {
 public:
  Function(Problem<T> problem, std::uint64_t seed) : problem_(std::move(problem)), seed_(seed) {
    for (std::size_t i = 0; i < problem_.shapes.size(); ++i)
      handles_.push_back(params_.add("input" + std::to_string(i), problem_.shapes[i].rows, problem_.shapes[i].width, Group::weight));
    params_.allocate();
    for (const Param& p : handles_) params_.init_normal(p, seed, 1.0);
  }
  Params<T>& params() { return params_; }

  // gradient: the block that is added to; null for the value alone. The tape always trains, so that dropout drops.
  double evaluate(T* gradient) {
    arena_.reset();
    if (unused_.size() == 0) unused_ = Aligned<T>(params_.size());
    Tape<T> tape(arena_, params_.values().data(), gradient ? gradient : unused_.data());
    inputs_.clear();
    for (const Param& p : handles_) inputs_.push_back(tape.param(p));
    const Result<T> result = problem_.forward(tape, inputs_);
    double value = loss_scale * result.loss;
    if (result.value != nullptr) {
      const Rng rng(seed_, "cotangent");
      result.value->grad = tape.scratch(result.value->size());
      value = 0;
      for (std::size_t i = 0; i < result.value->size(); ++i) {
        const double c = rng.normal(1, i);
        result.value->grad[i] = static_cast<T>(c);
        value += c * static_cast<double>(result.value->value[i]);
      }
    }
    if (gradient) tape.backward();
    return value;
  }

 private:
  Problem<T> problem_;
  std::uint64_t seed_;
  Params<T> params_;
  std::vector<Param> handles_;
  std::vector<Var<T>> inputs_;
  Aligned<T> unused_;
  Arena arena_;
};

// Directional derivative by the five-point rule against gradient · direction; relative to the larger of the two and to
// the length of the gradient (a direction may be almost orthogonal to it).
inline double gradient_error(Function<double>& f, std::uint64_t seed) {
  const std::span<double> x = f.params().values();
  Aligned<double> gradient(x.size());
  f.evaluate(gradient.data());
  std::vector<double> direction(x.size(), 0.0), start(x.begin(), x.end());
  const Rng rng(seed, "direction");
  double length = 0;
  for (const ParamInfo& p : f.params().list())
    for (std::size_t i = p.at.offset; i < p.at.offset + p.at.size(); ++i) length += std::pow(direction[i] = rng.normal(2, i), 2);
  double analytic = 0, norm = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    direction[i] /= std::sqrt(length);
    analytic += gradient[i] * direction[i];
    norm += gradient[i] * gradient[i];
  }
  const double h = 1e-3;
  const auto at = [&](double step) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = start[i] + step * direction[i];
    return f.evaluate(nullptr);
  };
  const double numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
  std::copy(start.begin(), start.end(), x.begin());
  const double scale = std::max({std::abs(numeric), std::abs(analytic), 1e-2 * std::sqrt(norm / static_cast<double>(x.size()))});
  return std::abs(numeric - analytic) / scale;
}

}  // namespace bl::nn::testing
