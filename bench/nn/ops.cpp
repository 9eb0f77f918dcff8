// Each op of the engine alone, on one thread: bench_ops [--seconds S], S for each op. The ops are those of the list that
// tests and gradient checks take (tests/nn/cases.hpp). Time is processor time, so that a busy machine disturbs little.
// Whole models beside their peers: compare.py.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "../../tests/nn/cases.hpp"
#include "nn/kernels.hpp"
#include "nn/packed.hpp"
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

}  // namespace

int main(int argc, char** argv) {
  double seconds = 0.2;
  if (argc == 3 && std::strcmp(argv[1], "--seconds") == 0) seconds = std::stod(argv[2]);
  else if (argc != 1) return fmt::print(stderr, "usage: bench_ops [--seconds S]\n"), 2;
  fmt::print("products: {}; kernels: {}\n", bl::nn::product_backend(bl::nn::Precision::f32), bl::nn::kernel_target());
  const double peak = bl::bench::fma_peak(0.3);
  fmt::print("peak {:.0f} GFLOP/s; forward + backward, 2048 tokens, width 64, 967 classes\n{:24} {:>10} {:>10} {:>7}\n", peak, "op", "us", "GFLOP/s", "% peak");
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
    const double t = median_seconds(seconds, [&] {
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
}
