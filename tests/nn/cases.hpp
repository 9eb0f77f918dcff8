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
#include "nn/ops/graph.hpp"
#include "nn/ops/linear.hpp"
#include "nn/ops/loss.hpp"
#include "nn/ops/norm.hpp"
#include "nn/ops/quantiser.hpp"
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
    list.push_back({name, "linear", [=, act = act](const Size& s) {
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
    list.push_back({name, "linear", [=, act = act](const Size& s) {
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
  // Self-attention that hides tokens (the first of each sequence stays visible), then also pairs, so that some queries see nothing.
  for (const bool paired : {false, true})
    list.push_back({paired ? "attention_hidden_pairs" : "attention_hidden_keys", "attention", [=](const Size& s) {
                      auto c = std::make_shared<Constants>();
                      c->offsets = random_offsets(s, s.sequences < 10);
                      const std::size_t heads = s.heads, dim = s.width / heads * heads, n = static_cast<std::size_t>(c->offsets.back());
                      const AttentionShape a{c->offsets, heads, dim};
                      const Rng rng(s.seed, "visible");
                      auto flags = std::make_shared<std::pair<std::vector<std::uint8_t>, std::vector<std::uint8_t>>>();
                      for (std::size_t i = 0; i < n; ++i) flags->first.push_back(rng.uniform(0, i) < 0.7);
                      for (std::size_t q = 0; q + 1 < c->offsets.size(); ++q) {
                        if (c->offsets[q + 1] > c->offsets[q]) flags->first[static_cast<std::size_t>(c->offsets[q])] = 1;
                        const std::int32_t m = c->offsets[q + 1] - c->offsets[q];
                        for (std::int32_t i = 0; i < m; ++i)
                          for (std::int32_t j = 0; j < m; ++j) flags->second.push_back((i % 4 != 2 || m < 3) && rng.uniform(1, flags->second.size()) < 0.7);
                      }
                      return Problem<T>{{shape(n, 3 * dim), shape(a.pairs(), heads)},
                                        [c, heads, flags, paired](Tape<T>& t, const std::vector<Var<T>>& v) {
                                          const AttentionMask mask{flags->first.data(), paired ? flags->second.data() : nullptr};
                                          return Result<T>{attention(t, v[0], c->offsets, heads, paired, v[1], mask)};
                                        },
                                        14.0 * static_cast<double>(a.pairs() * dim)};
                    }});
  for (const bool biased : {false, true})
    list.push_back({biased ? "cross_attention_bias" : "cross_attention", "attention", [=](const Size& s) {
                      auto c = std::make_shared<Constants>();
                      auto other = std::make_shared<std::vector<std::int32_t>>();
                      c->offsets = random_offsets(s, s.sequences < 10);
                      Size k = s;
                      k.seed += 1000;
                      *other = random_offsets(k, false);
                      if (s.sequences > 3) other->at(3) = other->at(2);  // queries without a key
                      const std::size_t heads = s.heads, dim = s.width / heads * heads;
                      const AttentionShape a{c->offsets, heads, dim, false, *other};
                      std::vector<Param> in{shape(static_cast<std::size_t>(c->offsets.back()), dim), shape(static_cast<std::size_t>(other->back()), 2 * dim)};
                      if (biased) in.push_back(shape(a.pairs(), heads));
                      return Problem<T>{in,
                                        [c, other, heads, biased](Tape<T>& t, const std::vector<Var<T>>& v) {
                                          return Result<T>{cross_attention(t, v[0], v[1], c->offsets, *other, heads, biased ? v[2] : nullptr)};
                                        },
                                        14.0 * static_cast<double>(a.pairs() * dim)};
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
      list.push_back({std::string(chunked ? "linear_" : "") + name, "loss", [=, smoothing = smoothing, weighted = weighted](const Size& s) {
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
  // v[0] plus a constant that keeps what has kinks away from them, as the five-point rule cannot step over one.
  const auto moved = [](Tape<T>& t, Var<T> x, auto&& constant) {
    T* at = t.arena().template take<T>(x->size());
    for (std::size_t r = 0; r < x->rows; ++r)
      for (std::size_t c = 0; c < x->width; ++c) at[r * x->width + c] = static_cast<T>(constant(r, c));
    return add(t, x, t.input(at, x->rows, x->width));
  };
  // no two rows of a sequence near each other in any column
  const auto apart = [](std::size_t r, std::size_t c) { return 8 * ((7 * r + 13 * c) % 97); };
  for (const auto& [name, act] : {std::pair{"relu", Activation::relu},
                                  {"gelu", Activation::gelu},
                                  {"silu", Activation::silu},
                                  {"sigmoid", Activation::sigmoid},
                                  {"tanh", Activation::tanh},
                                  {"softplus", Activation::softplus}})
    list.push_back({name, "elementwise", [=, act = act](const Size& s) {
                      return Problem<T>{{shape(s.tokens, s.width)}, [=](Tape<T>& t, const std::vector<Var<T>>& v) {
                                          const auto sides = [](std::size_t, std::size_t c) { return c % 2 ? 10 : -10; };
                                          return Result<T>{activation(t, act == Activation::relu ? moved(t, v[0], sides) : v[0], act)};
                                        }};
                    }});
  for (const auto& [name, act] : {std::pair{"gate", Activation::none}, {"gate_sigmoid", Activation::sigmoid}})
    list.push_back({name, "elementwise", [=, act = act](const Size& s) {
                      return Problem<T>{{shape(s.tokens, s.width), shape(s.tokens, s.width)}, [=](Tape<T>& t, const std::vector<Var<T>>& v) {
                                          // x gates itself, too: both paths add up in one gradient
                                          return Result<T>{gate(t, gate(t, v[0], v[1], act), v[0], act)};
                                        }};
                    }});
  list.push_back({"layer_scale", "elementwise", [=](const Size& s) {
                    return Problem<T>{{shape(tokens_of(s), s.width), shape(1, s.width)},
                                      [](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{layer_scale(t, v[0], v[1])}; }};
                  }});
  for (const bool per_sequence : {false, true})
    list.push_back({per_sequence ? "film_sequence" : "film_token", "elementwise", [=](const Size& s) {
                      auto c = std::make_shared<Constants>();
                      c->offsets = random_offsets(s, true);
                      const auto n = static_cast<std::size_t>(c->offsets.back()), rows = per_sequence ? s.sequences : n;
                      return Problem<T>{
                          {shape(n, s.width), shape(rows, s.width), shape(rows, s.width)}, [c, per_sequence](Tape<T>& t, const std::vector<Var<T>>& v) {
                            return Result<T>{
                                film(t, v[0], v[1], v[2], per_sequence ? std::span<const std::int32_t>(c->offsets) : std::span<const std::int32_t>())};
                          }};
                    }});
  list.push_back({"stochastic_depth", "elementwise", [=](const Size& s) {
                    auto c = std::make_shared<Constants>();
                    c->offsets = random_offsets(s, true);
                    return Problem<T>{{shape(static_cast<std::size_t>(c->offsets.back()), s.width)},
                                      [c, seed = s.seed](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        t.seed(seed, 3, 5);
                                        return Result<T>{add(t, v[0], stochastic_depth<T>(t, v[0], c->offsets, 0.3))};
                                      }};
                  }});
  list.push_back({"scatter_add_rows", "rows", [=](const Size& s) {
                    auto c = std::make_shared<Constants>();
                    const std::size_t rows = 2 * s.sequences;
                    c->ids = random_ids(tokens_of(s), rows, s.seed, 0);
                    return Problem<T>{{shape(c->ids.size(), s.width)}, [c, rows](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        return Result<T>{scatter_add_rows<T>(t, v[0], c->ids, rows + 1)};
                                      }};
                  }});
  list.push_back({"segment_sum", "rows", [=](const Size& s) {
                    auto c = std::make_shared<Constants>();
                    c->offsets = random_offsets(s, true);
                    return Problem<T>{{shape(static_cast<std::size_t>(c->offsets.back()), s.width)},
                                      [c](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{segment_sum<T>(t, v[0], c->offsets)}; }};
                  }});
  list.push_back({"segment_max", "rows", [=](const Size& s) {
                    auto c = std::make_shared<Constants>();
                    c->offsets = random_offsets(s, true);
                    return Problem<T>{{shape(static_cast<std::size_t>(c->offsets.back()), s.width)}, [=](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        return Result<T>{segment_max<T>(t, moved(t, v[0], apart), c->offsets)};
                                      }};
                  }});
  list.push_back({"segment_softmax_sum", "rows", [=](const Size& s) {
                    auto c = std::make_shared<Constants>();
                    c->offsets = random_offsets(s, true);
                    const auto n = static_cast<std::size_t>(c->offsets.back());
                    return Problem<T>{{shape(n, s.width / s.heads * s.heads), shape(n, s.heads)},
                                      [c](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{segment_softmax_sum<T>(t, v[0], v[1], c->offsets)}; }};
                  }});
  list.push_back({"broadcast_rows", "rows", [=](const Size& s) {
                    auto c = std::make_shared<Constants>();
                    c->offsets = random_offsets(s, true);
                    return Problem<T>{{shape(s.sequences, s.width)},
                                      [c](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{broadcast_rows<T>(t, v[0], c->offsets)}; }};
                  }});
  list.push_back({"concat_columns", "rows", [=](const Size& s) {
                    return Problem<T>{{shape(s.tokens, s.width), shape(s.tokens, s.classes)}, [](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        return Result<T>{concat_columns<T>(t, std::vector<Var<T>>{v[0], v[1], v[0]})};
                                      }};
                  }});
  list.push_back({"concat_rows", "rows", [=](const Size& s) {
                    return Problem<T>{{shape(s.tokens, s.width), shape(s.classes, s.width)}, [](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        return Result<T>{concat_rows<T>(t, std::vector<Var<T>>{v[0], v[1], v[0]})};
                                      }};
                  }});
  list.push_back({"slice_columns", "rows", [=](const Size& s) {
                    return Problem<T>{{shape(s.tokens, s.width + s.classes)},
                                      [first = s.classes - 1, width = s.width](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        return Result<T>{add(t, slice_columns(t, v[0], 0, width), slice_columns(t, v[0], first, width))};
                                      }};
                  }});

  // graphs of constant points; one sequence may be empty, and short ones have fewer than k neighbours
  const auto points = [](const Size& s, std::size_t k) {
    auto c = std::make_shared<Constants>();
    c->offsets = random_offsets(s, true);
    auto coordinates = std::make_shared<std::vector<T>>(2 * static_cast<std::size_t>(c->offsets.back()));
    const Rng rng(s.seed, "points");
    for (std::size_t i = 0; i < coordinates->size(); ++i) (*coordinates)[i] = static_cast<T>(6.2 * rng.uniform(0, i) - 3.1);
    return [c, coordinates, k](Tape<T>& t) { return knn_graph<T>(t.arena(), c->offsets, k, coordinates->data(), 2, Metric::delta_r); };
  };
  const auto point_count = [](const Size& s) { return static_cast<std::size_t>(random_offsets(s, true).back()); };
  list.push_back({"edge_features", "graph", [=](const Size& s) {
                    return Problem<T>{{shape(point_count(s), s.width)},
                                      [graph = points(s, 3)](Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{edge_features(t, v[0], graph(t))}; }};
                  }});
  for (const auto& [name, act] : {std::pair{"edge_linear", Activation::none}, {"edge_conv_mean", Activation::gelu}})
    list.push_back({name, "graph", [=, act = act, conv = act != Activation::none](const Size& s) {
                      const std::size_t n = point_count(s), out = s.classes;
                      return Problem<T>{{shape(n, s.width), shape(out, 2 * s.width), shape(1, out)},
                                        [=, graph = points(s, 4)](Tape<T>& t, const std::vector<Var<T>>& v) {
                                          if (!conv) return Result<T>{edge_linear(t, v[0], graph(t), v[1], v[2])};
                                          return Result<T>{edge_conv(t, v[0], graph(t), v[1], v[2], act, Aggregate::mean)};
                                        },
                                        12.0 * static_cast<double>(n * s.width * out)};
                    }});
  list.push_back({"edge_conv_max", "graph", [=](const Size& s) {
                    const std::size_t n = point_count(s), width = s.width;
                    return Problem<T>{{shape(n, width), shape(width, 2 * width), shape(1, width)},
                                      [=, graph = points(s, 4)](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        // the distance of neighbours outweighs the random part, so that one of them is clearly the largest
                                        const auto weigh = [width](std::size_t r, std::size_t c) { return c == width + r ? 1e4 : 0.0; };
                                        Var<T> x = moved(t, v[0], apart), w = moved(t, v[1], weigh);
                                        return Result<T>{edge_conv(t, x, graph(t), w, v[2], Activation::none, Aggregate::max)};
                                      },
                                      12.0 * static_cast<double>(n * width * width)};
                  }});

  // The quantiser has no gradient of its own: each case is the function whose gradient it claims to give.
  const auto far_codes = [](std::size_t k, std::size_t c) { return c == 0 ? 40.0 * static_cast<double>(k) : 0.0; };
  list.push_back({"quantise", "quantiser", [=](const Size& s) {
                    // straight-through: e + sg(z - e), which is z
                    auto codes = std::make_shared<std::vector<T>>(s.classes * s.width);
                    const Rng rng(s.seed, "codes");
                    for (std::size_t i = 0; i < codes->size(); ++i) (*codes)[i] = static_cast<T>(rng.normal(0, i));
                    auto nearest = std::make_shared<NearestCodes<T>>();
                    nearest->build(s.classes, s.width, codes->data());
                    return Problem<T>{{shape(tokens_of(s), s.width)}, [=](Tape<T>& t, const std::vector<Var<T>>& v) {
                                        const Var<T> e = quantise(t, v[0], t.input(codes->data(), nearest->codes(), nearest->dim()), *nearest, {}).value;
                                        T* rest = t.arena().template take<T>(e->size());
                                        for (std::size_t i = 0; i < e->size(); ++i) rest[i] = v[0]->value[i] - e->value[i];
                                        return Result<T>{add(t, e, t.input(rest, e->rows, e->width))};
                                      }};
                  }});
  enum class Pull { commitment, codebook, sync };
  for (const auto& [name, pull] : {std::pair{"quantise_commitment", Pull::commitment}, {"quantise_codebook", Pull::codebook}, {"quantise_sync", Pull::sync}})
    list.push_back(
        {name, "quantiser", [=, pull = pull](const Size& s) {
           // rows and codes near far apart places, so that a small step changes no choice; one of the two is a constant
           const auto ids = std::make_shared<std::vector<std::int32_t>>(random_ids(tokens_of(s), s.classes, s.seed, 0));
           const auto places = [=](std::size_t r, std::size_t c) { return far_codes(static_cast<std::size_t>((*ids)[r]), c); };
           const bool of_rows = pull == Pull::commitment;
           auto other = std::make_shared<std::vector<T>>((of_rows ? s.classes : ids->size()) * s.width);
           for (std::size_t i = 0; i < other->size(); ++i)
             (*other)[i] =
                 static_cast<T>(Rng(s.seed, "other").normal(0, i) + (of_rows ? far_codes(i / s.width, i % s.width) : places(i / s.width, i % s.width)));
           auto nearest = std::make_shared<NearestCodes<T>>();
           return Problem<T>{{shape(of_rows ? ids->size() : s.classes, s.width)}, [=](Tape<T>& t, const std::vector<Var<T>>& v) {
                               const Var<T> constant = t.input(other->data(), other->size() / v[0]->width, v[0]->width);
                               const Var<T> z = of_rows ? moved(t, v[0], places) : constant, codes = of_rows ? constant : moved(t, v[0], far_codes);
                               nearest->build(codes->rows, codes->width, codes->value);
                               const QuantiserScales scales{of_rows ? loss_scale : 0, pull == Pull::codebook ? loss_scale : 0, pull == Pull::sync ? 1.0 : 0};
                               const Quantised<T> q = quantise(t, z, codes, *nearest, scales);
                               return pull == Pull::sync ? Result<T>{q.value} : Result<T>{nullptr, q.squared_error};
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
