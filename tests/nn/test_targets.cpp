// One binary on several instruction sets: every op's results on each that this CPU has agree within rounding, and the
// same set gives the same bits in every process.
#include <gtest/gtest.h>

#include <hwy/targets.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.hpp"
#include "cases.hpp"
#include "nn/decode.hpp"

namespace bl::nn::testing {
namespace {

std::string program;  // this one

using Numbers = std::map<std::string, std::vector<double>>;

// Value and gradients of every op, by its name, one line each. The kernels are chosen at their first use, so a process
// can show one choice only.
int dump(const char* target) {
  std::int64_t wanted = 0;
  for (std::int64_t bits = hwy::SupportedTargets(); bits != 0; bits &= bits - 1)
    if (const std::int64_t one = bits & -bits; std::strcmp(hwy::TargetName(one), target) == 0) wanted = one;
  if (std::strcmp(target, "best") != 0) {
    if (wanted == 0) return 2;
    hwy::SetSupportedTargetsForTest(wanted);
  }
  std::printf("%s\n", kernel_target());
  for (const auto& c : op_cases<float>()) {
    Size size;
    size.sequences = 4, size.tokens = 9, size.width = 36, size.heads = 2, size.classes = 21, size.seed = 3;
    Function<float> f(c.make(size), 3);
    Aligned<float> gradient(f.params().size());
    std::printf("%s %a", c.name.c_str(), f.evaluate(gradient.data()));
    for (std::size_t i = 0; i < gradient.size(); ++i) std::printf(" %a", static_cast<double>(gradient[i]));
    std::printf("\n");
  }
  const auto print = [](const char* name, const Aligned<float>& values) {
    std::printf("%s", name);
    for (std::size_t i = 0; i < values.size(); ++i) std::printf(" %a", static_cast<double>(values[i]));
    std::printf("\n");
  };
  const Rng rng(3, "decode");
  const CacheShape shape{2, 18, 21};
  Aligned<float> keys(shape.floats()), values(shape.floats()), scratch(shape.scratch()), qkv(3 * 36), attended(21 * 36), weights(90), sums(2);
  for (std::size_t n = 1; n <= 21; ++n) {
    for (std::size_t i = 0; i < qkv.size(); ++i) qkv[i] = static_cast<float>(rng.normal(n, i));
    attend_cached(shape, n, qkv.data(), keys.data(), values.data(), attended.data() + (n - 1) * 36, scratch.data());
  }
  print("attend_cached", attended);
  sampling_weights(weights.size(), attended.data(), 2, weights.data(), sums.data());
  print("sampling_weights", weights);
  print("sampling_sums", sums);
  return 0;
}
constexpr std::size_t decode_lines = 3;

// What a process prints that runs on `target`; empty when it failed.
std::string output_of(const std::string& target) {
  std::string text;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(("'" + program + "' --dump " + target).c_str(), "r"), pclose);
  std::array<char, 65536> part{};
  for (std::size_t n = 0; pipe && (n = std::fread(part.data(), 1, part.size(), pipe.get())) > 0;) text.append(part.data(), n);
  return text;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

Numbers numbers_of(const std::string& text) {
  Numbers result;
  std::size_t at = text.find('\n') + 1;
  while (at < text.size()) {
    const std::size_t end = text.find('\n', at), space = text.find(' ', at);
    std::vector<double>& v = result[text.substr(at, space - at)];
    const char* p = text.c_str() + space;
    for (char* next = nullptr; p < text.c_str() + end; p = next) v.push_back(std::strtod(p, &next));
    at = end + 1;
  }
  return result;
}

// Instruction sets that kernels may be compiled for and this CPU has.
std::vector<std::string> targets() {
  std::vector<std::string> names;
  for (std::int64_t bits = hwy::SupportedTargets(); bits != 0; bits &= bits - 1) {
    const std::string name = hwy::TargetName(bits & -bits);
    if (const std::string text = output_of(name); first_line(text) == name) names.push_back(name);
  }
  return names;
}

TEST(Targets, the_choice_and_its_bits_are_those_of_every_run) {
  const std::string once = output_of("best");
  ASSERT_FALSE(once.empty());
  EXPECT_EQ(output_of("best"), once);
  const std::vector<std::string> names = targets();
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(first_line(once), names.front()) << "the best is the first";
}

TEST(Targets, agree_within_rounding) {
  const std::vector<std::string> names = targets();
  for (const std::string& name : names) std::printf("kernels run on %s\n", name.c_str());
  const Numbers best = numbers_of(output_of(names.front()));
  ASSERT_EQ(best.size(), op_cases<float>().size() + decode_lines);
  for (std::size_t t = 1; t < names.size(); ++t)
    for (const auto& [op, values] : numbers_of(output_of(names[t]))) {
      const std::vector<double>& want = best.at(op);
      ASSERT_EQ(values.size(), want.size());
      double scale = 0, worst = 0;
      for (const double x : want) scale = std::max(scale, std::abs(x));
      for (std::size_t i = 0; i < want.size(); ++i) worst = std::max(worst, std::abs(values[i] - want[i]));
      EXPECT_LE(worst, 2e-5 * scale) << op << " on " << names[t] << " and on " << names.front();
      EXPECT_TRUE(std::isfinite(worst)) << op;
    }
}

}  // namespace
}  // namespace bl::nn::testing

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--dump") == 0) return bl::nn::testing::dump(argv[2]);
  bl::nn::testing::program = argv[0];
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
