// Training tokens/s of the event encoder and the share of the FMA peak, both measured in this run; and each op alone.
//   bench_nn [--ops] [--json FILE] [--seconds S] [--dim D] [--precision P]
// Events of 7 to 18 tokens. "one hidden": one target an event (what bl-train does; the last layer then works on hidden
// rows only). "all rows": every token is a target and the whole last layer is worked on, for comparison with others.
// Time is processor time of the one thread, so that a busy machine disturbs little.
#include <fmt/format.h>
#include <hwy/highway.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "../../tests/nn/cases.hpp"
#include "models/trainer.hpp"
#include "nn/gemm.hpp"
#include "peak.hpp"

namespace {

double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Median over repetitions, for at least `seconds` and 3 of them, after one that warms up.
template <class F>
double median_seconds(double seconds, const F& f) {
  f();
  std::vector<double> times;
  double total = 0;
  while (total < seconds || times.size() < 3) {
    const double start = thread_seconds();
    f();
    times.push_back(thread_seconds() - start);
    total += times.back();
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

bl::models::Examples make_events(std::size_t events, std::int32_t vocabulary, bool all_hidden) {
  const bl::Rng rng(1, "bench");
  bl::models::Examples data;
  for (std::size_t e = 0; e < events; ++e) {
    const std::size_t n = 7 + rng.below(12, e, 0), hidden = rng.below(n, e, 1);
    for (std::size_t i = 0; i < n; ++i) {
      data.tokens.push_back(static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(vocabulary) - 1, e, 10 + i)));
      data.positions.push_back(static_cast<std::int32_t>(i));
      data.mask.push_back(all_hidden || i == hidden);
    }
    data.offsets.push_back(data.tokens.size());
  }
  return data;
}

}  // namespace

int main(int argc, char** argv) {
  bool ops = false;
  double seconds = 2;
  std::string json;
  std::vector<std::uint32_t> dims{64, 128, 512};
  std::vector<bl::nn::Precision> precisions{bl::nn::Precision::f32, bl::nn::Precision::bf16};
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--ops") == 0) ops = true;
    else if (std::strcmp(argv[i], "--json") == 0 && i + 1 < argc) json = argv[++i];
    else if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) seconds = std::stod(argv[++i]);
    else if (std::strcmp(argv[i], "--dim") == 0 && i + 1 < argc) dims = {static_cast<std::uint32_t>(std::stoul(argv[++i]))};
    else if (std::strcmp(argv[i], "--precision") == 0 && i + 1 < argc) precisions = {bl::nn::precision_named(argv[++i])};
    else return fmt::print(stderr, "usage: bench_nn [--ops] [--json FILE] [--seconds S] [--dim D] [--precision f32|bf16]\n"), 2;
  }
  std::string lines;
  for (const auto p : precisions) fmt::print("{}: {}\n", bl::nn::name_of(p), bl::nn::product_backend(p));
  fmt::print("kernels: {}\n", bl::nn::kernel_target());

  if (ops) {
    const double peak = bl::bench::fma_peak(0.3);
    fmt::print("peak {:.0f} GFLOP/s; forward + backward, 2048 tokens, width 64, 967 classes\n{:24} {:>10} {:>10} {:>7}\n", peak, "op", "us", "GFLOP/s",
               "% peak");
    bl::nn::testing::Size size{170, 12, 64, 967, 4, 1};
    for (const auto& c : bl::nn::testing::op_cases<float>()) {
      auto problem = c.make(size);
      const double flops = problem.flops;
      bl::nn::Params<float> params;
      std::vector<bl::nn::Param> handles;
      for (std::size_t i = 0; i < problem.shapes.size(); ++i)
        handles.push_back(params.add(std::to_string(i), problem.shapes[i].rows, problem.shapes[i].width, bl::nn::Group::weight));
      params.allocate();
      for (const auto& p : handles) params.init_normal(p, 1, 1.0);
      bl::nn::Aligned<float> gradient(params.size());
      bl::nn::Arena arena;
      std::vector<bl::nn::Var<float>> inputs(handles.size());
      const double t = median_seconds(seconds / 10, [&] {
        arena.reset();
        bl::nn::Tape<float> tape(arena, params.values().data(), gradient.data());
        for (std::size_t i = 0; i < handles.size(); ++i) inputs[i] = tape.param(handles[i]);
        const auto result = problem.forward(tape, inputs);
        if (result.value != nullptr) {
          result.value->grad = tape.scratch(result.value->size());
          std::fill_n(result.value->grad, result.value->size(), 1.0f);
        }
        tape.backward();
      });
      fmt::print("{:24} {:10.1f} {:>10} {:>7}\n", c.name, t * 1e6, flops > 0 ? fmt::format("{:.1f}", flops / t * 1e-9) : "-",
                 flops > 0 ? fmt::format("{:.0f}", flops / t * 1e-7 / peak) : "-");
    }
    return 0;
  }

  fmt::print("{:>5} {:>9} {:>7} {:>12} {:>12} {:>10} {:>8} {:>8} {:>14}\n", "dim", "precision", "layers", "targets", "tokens/s", "GFLOP/s", "peak", "% peak",
             "scored events/s");
  for (const std::uint32_t dim : dims)
    for (std::size_t run = 0; run < 2 * precisions.size(); ++run) {
      const bool all = run % 2 != 0;
      const bl::nn::Precision precision = precisions[run / 2];
      bl::models::EncoderConfig config;
      config.vocabulary = 967;
      config.mask_id = 966;
      config.dim = dim;
      config.heads = dim == 64 ? 4 : 8;
      config.layers = 6;
      const std::size_t events = dim == 512 ? 128 : 256;
      const auto data = make_events(events, 967, all);
      bl::Pool pool(1);
      bl::models::TrainerConfig training;
      training.batch = static_cast<std::uint32_t>(events);
      training.precision = precision;
      bl::models::Trainer trainer(config, training, pool);
      std::vector<std::uint32_t> list(events);
      std::iota(list.begin(), list.end(), 0u);
      const double peak = bl::bench::fma_peak(0.3);
      const double t = median_seconds(seconds, [&] { trainer.step(data, list); });
      double pairs = 0, targets = 0;
      for (std::size_t e = 0; e < events; ++e) pairs += std::pow(static_cast<double>(data.offsets[e + 1] - data.offsets[e]), 2);
      for (const auto m : data.mask) targets += m;
      const double tokens = static_cast<double>(data.tokens.size()), flops = trainer.model().training_flops(tokens, pairs, targets);
      double scored = 0;
      if (!all && dim < 512 && precision == bl::nn::Precision::f32) {
        bl::models::Scorer scorer(trainer.model(), pool);
        scored = static_cast<double>(events) / median_seconds(seconds / 2, [&] { scorer.token_log_probabilities(data, {}); });
      }
      fmt::print("{:5} {:>9} {:7} {:>12} {:12.0f} {:10.1f} {:8.0f} {:8.0f} {:>14}\n", dim, bl::nn::name_of(precision), config.layers,
                 all ? "all rows" : "one hidden", tokens / t, flops / t * 1e-9, peak, flops / t * 1e-7 / peak,
                 scored > 0 ? fmt::format("{:.0f}", scored) : "-");
      lines += fmt::format(
          "{{\"engine\":\"beamline\",\"precision\":\"{}\",\"dim\":{},\"targets\":\"{}\",\"tokens_per_second\":{:.1f},\"percent_of_peak\":{:.1f}}}\n",
          bl::nn::name_of(precision), dim, all ? "all" : "one", tokens / t, flops / t * 1e-7 / peak);
    }
  if (!json.empty()) std::ofstream(json) << lines;
}
