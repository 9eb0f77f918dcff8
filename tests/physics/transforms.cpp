#include "physics/transforms.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/rng.hpp"

namespace {

using namespace bl;
using nlohmann::json;
using physics::Chain;

Chain chain(const char* text) { return Chain::parse(json::parse(text), "test"); }

std::string usage_error(const char* text) {
  try {
    chain(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::usage);
    return error.what();
  }
  return "no error";
}

std::string domain_error(const char* text, double x) {
  try {
    chain(text).forward(x);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::input);
    return error.what();
  }
  return "no error";
}

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << text

std::vector<double> gamma_like(std::size_t n) {
  const Rng rng(7, "transforms");
  std::vector<double> values;
  for (std::size_t i = 0; i < n; ++i) values.push_back(20 - 80 * std::log(1 - rng.uniform(i, 0)) - 30 * std::log(1 - rng.uniform(i, 1)));
  return values;
}

TEST(Transforms, ForwardValues) {
  EXPECT_DOUBLE_EQ(chain(R"(["identity"])").forward(3.5)[0], 3.5);
  EXPECT_DOUBLE_EQ(chain(R"([{"step": "scale", "shift": 2, "factor": 0.5}])").forward(3)[0], 0.5);
  EXPECT_DOUBLE_EQ(chain(R"(["log"])").forward(std::exp(2.0))[0], 2);
  EXPECT_DOUBLE_EQ(chain(R"(["log1p"])").forward(std::expm1(2.0))[0], 2);
  EXPECT_DOUBLE_EQ(chain(R"(["signed_log"])").forward(-std::expm1(2.0))[0], -2);
  EXPECT_DOUBLE_EQ(chain(R"([{"step": "clip", "low": -1, "high": 1}])").forward(3)[0], 1);
  EXPECT_DOUBLE_EQ(chain(R"(["tanh"])").forward(0.5)[0], std::tanh(0.5));
  EXPECT_DOUBLE_EQ(chain(R"(["sincos"])").forward(0.5)[0], std::sin(0.5));
  EXPECT_DOUBLE_EQ(chain(R"(["sincos"])").forward(0.5)[1], std::cos(0.5));
  EXPECT_NEAR(chain(R"([{"step": "uniform_normal", "low": 0, "high": 1}])").forward(0.975)[0], 1.959963984540054, 1e-12);
  EXPECT_DOUBLE_EQ(chain(R"([{"step": "standardise", "mean": 3, "deviation": 2}])").forward(7)[0], 2);
  // In order: log first, then scaled
  EXPECT_DOUBLE_EQ(chain(R"(["log", {"step": "scale", "shift": 1, "factor": 10}])").forward(std::exp(3.0))[0], 20);
  EXPECT_EQ(chain(R"([])").forward(4)[0], 4);
}

TEST(Transforms, NormalQuantiles) {
  EXPECT_NEAR(physics::normal_quantile(0.5), 0, 1e-15);
  EXPECT_NEAR(physics::normal_quantile(0.975), 1.959963984540054, 1e-13);
  EXPECT_NEAR(physics::normal_quantile(0.0013498980316300933), -3, 1e-12);
  EXPECT_NEAR(physics::normal_quantile(1e-9), -5.997807015007687, 1e-9);
  for (double p = 1e-6; p < 1; p += 0.00731) EXPECT_NEAR(physics::normal_cdf(physics::normal_quantile(p)), p, 1e-14);
  EXPECT_THROW(physics::normal_quantile(0), std::logic_error);
}

TEST(Transforms, EveryChainComesBack) {
  const auto values = gamma_like(4000);
  for (const char* text :
       {R"(["identity"])", R"([{"step": "scale", "shift": 50, "factor": 0.01}])", R"(["log"])", R"(["log1p"])", R"(["signed_log"])",
        R"([{"step": "clip", "low": 0, "high": 1e6}])", R"([{"step": "scale", "factor": 1e-3}, "tanh"])",
        R"([{"step": "uniform_normal", "low": 0, "high": 5000}])", R"(["quantile_normal"])", R"([{"step": "quantile_normal", "knots": 11}])",
        R"(["standardise"])", R"(["log", "standardise"])", R"(["log1p", {"step": "quantile_normal", "knots": 101}, {"step": "scale", "factor": 2}])"}) {
    Chain c = chain(text);
    c.fit(values);
    ASSERT_TRUE(c.fitted()) << text;
    for (std::size_t i = 0; i < values.size(); i += 7) ASSERT_NEAR(c.inverse(c.forward(values[i])), values[i], 1e-8 * values[i]) << text;
    // Also outside of what was seen in the fit, where the transform is not a cut-off
    for (const double x : {19.0, 1500.0}) EXPECT_NEAR(c.inverse(c.forward(x)), x, 1e-6 * x) << text;
  }
  const Chain angle = chain(R"(["sincos"])");
  for (double phi = -3.14; phi < 3.14; phi += 0.1) EXPECT_NEAR(angle.inverse(angle.forward(phi)), phi, 1e-12);
  const Chain halves = chain(R"([{"step": "scale", "factor": 0.5}, "sincos"])");
  for (double phi = -3.14; phi < 3.14; phi += 0.1) EXPECT_NEAR(halves.inverse(halves.forward(phi)), phi, 1e-12);
}

TEST(Transforms, ComeBackAfterSinglePrecision) {
  const auto values = gamma_like(2000);
  for (const char* text : {R"(["log", "standardise"])", R"(["quantile_normal"])", R"(["log1p", "standardise"])"}) {
    Chain c = chain(text);
    c.fit(values);
    for (const double x : values) {
      const auto y = c.forward(x);
      EXPECT_NEAR(c.inverse({static_cast<float>(y[0]), static_cast<float>(y[1])}), x, 2e-5 * x) << text;
    }
  }
}

TEST(Transforms, StandardiseFitsMeanAndDeviation) {
  Chain c = chain(R"(["standardise"])");
  EXPECT_FALSE(c.fitted());
  c.fit({1, 2, 3, 4});
  EXPECT_DOUBLE_EQ(c.steps()[0].a, 2.5);
  EXPECT_DOUBLE_EQ(c.steps()[0].b, std::sqrt(1.25));
  Chain constant = chain(R"(["standardise"])");
  constant.fit({5, 5, 5});
  EXPECT_EQ(constant.forward(5)[0], 0);
  EXPECT_EQ(constant.inverse({0, 0}), 5);
  // Later steps are fitted on what the earlier ones make.
  Chain logs = chain(R"(["log", "standardise"])");
  logs.fit({1, std::exp(2.0)});
  EXPECT_DOUBLE_EQ(logs.steps()[1].a, 1);
  EXPECT_DOUBLE_EQ(logs.steps()[1].b, 1);
}

TEST(Transforms, QuantilesMakeANormalDistribution) {
  auto values = gamma_like(20000);
  Chain c = chain(R"(["quantile_normal"])");
  c.fit(values);
  double sum = 0, squares = 0;
  for (const double v : gamma_like(20000)) {
    const double y = c.forward(v)[0];
    sum += y;
    squares += y * y;
  }
  EXPECT_NEAR(sum / 20000, 0, 0.01);
  EXPECT_NEAR(squares / 20000, 1, 0.02);
  // rising, so that order is kept
  double last = -100;
  for (double x = 20; x < 800; x += 0.5) {
    const double y = c.forward(x)[0];
    EXPECT_GT(y, last);
    last = y;
  }
}

TEST(Transforms, QuantilesOfCountsComeBack) {
  std::vector<double> counts;
  for (int i = 0; i < 1000; ++i) counts.push_back(4 + (i % 10) / 3);
  Chain c = chain(R"(["quantile_normal"])");
  c.fit(counts);
  for (const double n : {4.0, 5.0, 6.0, 7.0}) EXPECT_NEAR(c.inverse(c.forward(n)), n, 1e-9);
  Chain constant = chain(R"(["quantile_normal"])");
  constant.fit({3, 3, 3});
  EXPECT_EQ(constant.inverse(constant.forward(3)), 3);
}

TEST(Transforms, TheEdgesOfAnAngleAreInside) {
  const Chain c = chain(R"([{"step": "uniform_normal", "low": -3.1415926535897931, "high": 3.1415926535897931}])");
  const double edge = 3.1415927410125732;  // pi as a float is above pi
  EXPECT_LT(std::abs(c.forward(edge)[0]), 6.5);
  EXPECT_NEAR(c.inverse(c.forward(edge)), edge, 1e-6);
  EXPECT_NEAR(c.inverse(c.forward(-edge)), -edge, 1e-6);
}

TEST(Transforms, ValuesOutsideTheDomainAreNamed) {
  EXPECT_HAS(domain_error(R"(["log"])", -3), "'log' takes values above 0, not -3");
  EXPECT_HAS(domain_error(R"(["log"])", 0), "'log' takes values above 0, not 0");
  EXPECT_HAS(domain_error(R"(["log"])", std::numeric_limits<double>::quiet_NaN()), "'log'");
  EXPECT_HAS(domain_error(R"(["log1p"])", -2), "above -1, not -2");
  EXPECT_HAS(domain_error(R"([{"step": "uniform_normal", "low": 0, "high": 1}])", 1.5), "takes values from 0 to 1, not 1.5");
}

TEST(Transforms, MistakesInAChainAreNamed) {
  EXPECT_HAS(usage_error(R"(["lgo"])"), "unknown transform 'lgo' (did you mean 'log'?)");
  EXPECT_HAS(usage_error(R"(["lgo"])"), "quantile_normal");
  EXPECT_HAS(usage_error(R"([{"step": "clip", "low": 0}])"), "needs 'low' and 'high'");
  EXPECT_HAS(usage_error(R"([{"step": "clip", "low": 1, "high": 0}])"), "must be below");
  EXPECT_HAS(usage_error(R"([{"step": "log", "base": 10}])"), "has no parameter 'base'");
  EXPECT_HAS(usage_error(R"([{"step": "scale", "factor": 0}])"), "must not be 0");
  EXPECT_HAS(usage_error(R"([{"step": "scale", "factor": "x"}])"), "must be a number");
  EXPECT_HAS(usage_error(R"(["sincos", "log"])"), "must be the last step");
  EXPECT_HAS(usage_error(R"([{"step": "quantile_normal", "knots": 1}])"), "from 2 to 100000");
  EXPECT_HAS(usage_error(R"([{"step": "quantile_normal", "x": [1, 1], "z": [0, 1]}])"), "must rise");
  EXPECT_HAS(usage_error(R"([{"step": "standardise", "mean": 1}])"), "both 'mean' and 'deviation'");
  EXPECT_HAS(usage_error(R"([{"step": "standardise", "mean": 1, "deviation": 0}])"), "above 0");
  EXPECT_HAS(usage_error(R"("log")"), "is a list");
  EXPECT_HAS(usage_error(R"([3])"), "a transform is a name");
}

TEST(Transforms, JsonIsTheWholeChain) {
  for (const char* text :
       {R"(["log", "standardise"])", R"([{"step": "quantile_normal", "knots": 21}, {"step": "scale", "shift": 1, "factor": 3}])",
        R"([{"step": "clip", "low": 21, "high": 300}, {"step": "uniform_normal", "low": 0, "high": 1000}, "tanh"])", R"(["signed_log", "sincos"])"}) {
    Chain c = chain(text);
    c.fit(gamma_like(500));
    const Chain back = Chain::parse(json::parse(c.json().dump()), "json");
    EXPECT_TRUE(back.fitted());
    EXPECT_EQ(back.json(), c.json());
    for (const double x : {25.0, 100.0, 290.0}) {
      EXPECT_EQ(back.forward(x), c.forward(x)) << text;
      EXPECT_EQ(back.inverse({0.3, 0.2}), c.inverse({0.3, 0.2})) << text;
    }
  }
  EXPECT_FALSE(Chain::parse(chain(R"(["standardise"])").json(), "json").fitted());
}

TEST(Transforms, AnEmptyFitIsAnError) {
  Chain c = chain(R"(["standardise"])");
  EXPECT_THROW(c.fit({}), Error);
}

}  // namespace
