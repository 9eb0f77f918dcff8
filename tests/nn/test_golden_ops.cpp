// Linear layers, norms, embeddings, Fourier features, losses and attention against PyTorch, and attention of every head
// dimension and of long sequences against the definition.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <set>

#include "base/error.hpp"
#include "golden_op.hpp"

namespace bl::nn::testing {
namespace {

using bl::testing::Golden;
using Ids = std::vector<std::int32_t>;
using Flags = std::vector<std::uint8_t>;

// The cases of a file; when it goes out of scope, all of them must have been compared.
class GoldenFile {
 public:
  explicit GoldenFile(const std::string& op) : golden(BEAMLINE_SOURCE_DIR "/tests/golden/ops_" + op + ".golden") {}
  GoldenFile(const GoldenFile&) = delete;
  GoldenFile& operator=(const GoldenFile&) = delete;
  ~GoldenFile() {
    for (const auto& [name, values] : golden.all()) EXPECT_TRUE(seen_.contains(name.substr(0, name.find('/')))) << name << " was not compared";
  }
  template <class Forward>
  void expect(const std::string& name, const Forward& forward) {
    seen_.insert(name);
    expect_golden(golden, name, forward);
  }
  const Golden golden;

 private:
  std::set<std::string> seen_;
};

TEST(GoldenOps, every_op_has_a_file) {
  for (const auto& entry : std::filesystem::directory_iterator(BEAMLINE_SOURCE_DIR "/common/nn/ops")) {
    if (entry.path().extension() != ".hpp") continue;
    const std::string file = BEAMLINE_SOURCE_DIR "/tests/golden/ops_" + entry.path().stem().string() + ".golden";
    EXPECT_TRUE(std::filesystem::exists(file)) << file;
  }
}

TEST(GoldenOps, linear) {
  GoldenFile file("linear");
  const std::map<std::string, Activation> activations{{"none", Activation::none},        {"relu", Activation::relu}, {"gelu", Activation::gelu},
                                                      {"silu", Activation::silu},        {"tanh", Activation::tanh}, {"sigmoid", Activation::sigmoid},
                                                      {"softplus", Activation::softplus}};
  for (const auto& [name, act] : activations) {
    file.expect(name, [a = act]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{linear(t, v[0], v[1], v[2], a)}; });
    if (file.golden.has("gated_" + name + "/value"))
      file.expect("gated_" + name, [a = act]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{gated_linear(t, v[0], v[1], v[2], a)}; });
  }
  file.expect("residual", []<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{linear(t, v[0], v[1], v[2], Activation::none, v[3])}; });
}

TEST(GoldenOps, norm) {
  GoldenFile file("norm");
  for (const std::string width : {"5", "24"}) {
    file.expect("layer" + width, []<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{layer_norm(t, v[0], v[1], v[2])}; });
    file.expect("rms" + width, []<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{rms_norm(t, v[0], v[1])}; });
  }
}

TEST(GoldenOps, embedding) {
  GoldenFile file("embedding");
  const Ids ids = file.golden.as<std::int32_t>("sum/ids"), ranks = file.golden.as<std::int32_t>("sum/ranks");
  file.expect("tokens", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) {
    const std::vector<Lookup<T>> l{{v[0], ids.data()}};
    return Result<T>{embedding<T>(t, ids.size(), l)};
  });
  file.expect("sum", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) {
    const std::vector<Lookup<T>> l{{v[0], ids.data()}, {v[1], ranks.data()}};
    return Result<T>{embedding<T>(t, ids.size(), l)};
  });
}

TEST(GoldenOps, fourier) {
  GoldenFile file("fourier");
  // A constant of the tape: copied into its arena, since the tape outlives the call.
  const auto constant = []<class T>(Tape<T>& t, const std::vector<T>& values, std::size_t width) {
    T* copy = t.arena().template take<T>(values.size());
    std::ranges::copy(values, copy);
    return t.input(copy, values.size() / width, width);
  };
  file.expect("directions", []<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{fourier_features(t, v[0], v[1])}; });
  file.expect("axes", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) {
    return Result<T>{fourier_features(t, v[0], constant(t, axis_frequencies<T>(2, 4, 0.5, 4), 2))};
  });
  file.expect("positions", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) {
    return Result<T>{fourier_features(t, v[0], constant(t, position_frequencies<T>(12), 1))};
  });
}

TEST(GoldenOps, loss) {
  GoldenFile file("loss");
  for (const std::string name : {"plain", "smoothed", "weighted", "both"}) {
    const Ids targets = file.golden.as<std::int32_t>(name + "/targets");
    const auto options = [&]<class T>(T, const std::vector<T>& weights) {
      return ClassTargets<T>{static_cast<double>(file.golden.at(name + "/smoothing")[0]), weights};
    };
    const auto weights = [&]<class T>(T) { return file.golden.has(name + "/weights") ? file.golden.as<T>(name + "/weights") : std::vector<T>{}; };
    file.expect(name, [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) {
      const std::vector<T> w = weights(T{});
      return Result<T>{nullptr, cross_entropy<T>(t, v[0], targets, 1.0, options(T{}, w))};
    });
    file.expect("linear_" + name, [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) {
      const std::vector<T> w = weights(T{});
      std::vector<T> log_p(targets.size());
      const double loss = linear_cross_entropy<T>(t, v[0], v[1], v[2], targets, 1.0, log_p, options(T{}, w));
      // whatever the options, these are the plain log-probabilities
      std::vector<T> plain(targets.size());
      Arena arena;
      Tape<T> other(arena, v[0]->value, nullptr);
      linear_cross_entropy<T>(other, v[0], v[1], v[2], targets, 1.0, plain);
      for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(log_p[i], plain[i], 1e-5) << name;
      return Result<T>{nullptr, loss};
    });
  }
  std::vector<float> target, weights;
  std::vector<double> target2, weights2;
  for (const std::string name : {"squared", "absolute", "huber"})
    for (const bool weighted : {true, false}) {
      const std::string at = weighted ? name : name + "_unweighted";
      target = file.golden.as<float>(at + "/target"), target2 = file.golden.as<double>(at + "/target");
      weights = weighted ? file.golden.as<float>(at + "/weights") : std::vector<float>{};
      weights2 = std::vector<double>(weights.begin(), weights.end());
      file.expect(at, [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) {
        std::span<const T> y, w;
        if constexpr (std::is_same_v<T, float>) y = target, w = weights;
        else y = target2, w = weights2;
        if (name == "squared") return Result<T>{nullptr, squared_error<T>(t, v[0], y, 1.0, w)};
        if (name == "absolute") return Result<T>{nullptr, absolute_error<T>(t, v[0], y, 1.0, w)};
        return Result<T>{nullptr, huber_loss<T>(t, v[0], y, 0.75, 1.0, w)};
      });
    }
}

TEST(Loss, refuses_what_makes_no_sense) {
  Params<float> p;
  const Param z = p.add("z", 2, 3, Group::weight);
  p.allocate();
  Arena arena;
  Tape<float> t(arena, p);
  const Ids targets{0, 2};
  const std::vector<float> two(2, 1.f);
  EXPECT_THROW(cross_entropy<float>(t, t.param(z), targets, 1.0, {1.0, {}}), Error);
  EXPECT_THROW(cross_entropy<float>(t, t.param(z), targets, 1.0, {-0.1, {}}), Error);
  EXPECT_THROW(cross_entropy<float>(t, t.param(z), targets, 1.0, {0.0, two}), Error);
  EXPECT_THROW(huber_loss<float>(t, t.param(z), std::vector<float>(6), 0.0, 1.0), Error);
}

TEST(GoldenOps, attention) {
  GoldenFile file("attention");
  const Golden& g = file.golden;
  const auto flags = [&](const std::string& name) { return g.has(name) ? g.as<std::uint8_t>(name) : Flags{}; };
  for (const std::string name :
       {"full", "full_bias", "causal", "causal_bias", "keys", "keys_pairs", "causal_keys", "causal_long", "cross", "cross_bias_pairs"}) {
    const Ids offsets = g.as<std::int32_t>(name + "/offsets");
    const Flags keys = flags(name + "/keys"), pairs = flags(name + "/pairs");
    const AttentionMask mask{keys.empty() ? nullptr : keys.data(), pairs.empty() ? nullptr : pairs.data()};
    if (name.starts_with("cross")) {
      const Ids key_offsets = g.as<std::int32_t>(name + "/key_offsets");
      file.expect(name, [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) {
        return Result<T>{cross_attention<T>(t, v[0], v[1], offsets, key_offsets, 2, v.size() > 2 ? v[2] : nullptr, mask)};
      });
    } else {
      file.expect(name, [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) {
        return Result<T>{attention<T>(t, v[0], offsets, 2, name.starts_with("causal"), v.size() > 1 ? v[1] : nullptr, mask)};
      });
    }
  }
}

// A query that sees nothing: exactly zero, and its own and its sequence's gradients too.
TEST(Attention, of_nothing_is_zero) {
  const Ids offsets{0, 3, 7};
  const Flags keys{0, 0, 0, 1, 1, 0, 1};
  Params<float> params;
  const Param p = params.add("qkv", 7, 3 * 8, Group::weight);
  params.allocate();
  params.init_normal(p, 3, 1.0);
  Aligned<float> gradient(params.size());
  Arena arena;
  Tape<float> t(arena, params.values().data(), gradient.data());
  Var<float> y = attention<float>(t, t.param(p), offsets, 1, false, nullptr, {keys.data(), nullptr});
  for (std::size_t i = 0; i < 3 * 8; ++i) EXPECT_EQ(y->value[i], 0);
  y->grad = t.scratch(y->size());
  std::fill_n(y->grad, y->size(), 1.f);
  t.backward();
  for (std::size_t i = 0; i < 3 * 24; ++i) EXPECT_EQ(gradient[i], 0);
  double values = 0;
  for (std::size_t i = 3 * 24; i < 7 * 24; ++i) values += std::abs(static_cast<double>(gradient[i]));
  EXPECT_GT(values, 1);
  // the hidden token of the second sequence: no gradient of its key and value
  for (std::size_t i = 8; i < 24; ++i) EXPECT_EQ(gradient[5 * 24 + i], 0);
}

// O and the gradients from the definition, in double: Σ_i c_i · O_i is differentiated.
struct Reference {
  std::vector<double> out, dqkv;
};
Reference by_definition(const std::vector<double>& qkv, const std::vector<double>& c, const Ids& offsets, std::size_t heads, std::size_t hd, bool causal) {
  const std::size_t dim = heads * hd;
  Reference r{std::vector<double>(c.size()), std::vector<double>(qkv.size())};
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s)
    for (std::size_t h = 0; h < heads; ++h) {
      const std::size_t first = static_cast<std::size_t>(offsets[s]), n = static_cast<std::size_t>(offsets[s + 1]) - first;
      const auto at = [&](std::size_t token, std::size_t part, std::size_t k) { return (first + token) * 3 * dim + part * dim + h * hd + k; };
      for (std::size_t i = 0; i < n; ++i) {
        const std::size_t seen = causal ? i + 1 : n;
        std::vector<double> p(seen), dp(seen);
        double total = 0, mean = 0;
        for (std::size_t j = 0; j < seen; ++j) {
          for (std::size_t k = 0; k < hd; ++k) p[j] += qkv[at(i, 0, k)] * qkv[at(j, 1, k)];
          total += p[j] = std::exp(p[j] / std::sqrt(static_cast<double>(hd)));
        }
        const std::size_t o = (first + i) * dim + h * hd;
        for (std::size_t j = 0; j < seen; ++j) {
          p[j] /= total;
          for (std::size_t k = 0; k < hd; ++k) {
            r.out[o + k] += p[j] * qkv[at(j, 2, k)];
            r.dqkv[at(j, 2, k)] += p[j] * c[o + k];
            dp[j] += c[o + k] * qkv[at(j, 2, k)];
          }
          mean += p[j] * dp[j];
        }
        for (std::size_t j = 0; j < seen; ++j) {
          const double ds = p[j] * (dp[j] - mean) / std::sqrt(static_cast<double>(hd));
          for (std::size_t k = 0; k < hd; ++k) {
            r.dqkv[at(i, 0, k)] += ds * qkv[at(j, 1, k)];
            r.dqkv[at(j, 1, k)] += ds * qkv[at(i, 0, k)];
          }
        }
      }
    }
  return r;
}

TEST(Attention, every_head_dimension_and_long_sequences) {
  const Ids offsets{0, 1, 18, 66, 66, 195, 495};  // among them more than one block of queries, and no whole number of vectors
  const std::size_t n = static_cast<std::size_t>(offsets.back()), heads = 2;
  double worst = 0;
  for (const std::size_t hd : {8u, 12u, 16u, 24u, 32u, 48u, 64u})
    for (const bool causal : {false, true}) {
      const std::size_t dim = heads * hd;
      const Rng rng(hd, "attention");
      std::vector<float> qkv(n * 3 * dim), c(n * dim), dqkv(qkv.size());
      for (std::size_t i = 0; i < qkv.size(); ++i) qkv[i] = static_cast<float>(rng.normal(0, i));
      for (std::size_t i = 0; i < c.size(); ++i) c[i] = static_cast<float>(rng.normal(1, i));
      const Reference r = by_definition({qkv.begin(), qkv.end()}, {c.begin(), c.end()}, offsets, heads, hd, causal);
      Arena arena;
      float unused = 0;
      Tape<float> t(arena, qkv.data(), &unused);
      Var<float> x = t.input(qkv.data(), n, 3 * dim);
      x->wants_grad = true;
      Var<float> y = attention<float>(t, x, offsets, heads, causal);
      y->grad = t.scratch(y->size());
      std::ranges::copy(c, y->grad);
      const std::vector<float> out(y->value, y->value + y->size());
      t.backward();
      for (std::size_t i = 0; i < out.size(); ++i) {
        worst = std::max(worst, std::abs(static_cast<double>(out[i]) - r.out[i]));
        ASSERT_NEAR(out[i], r.out[i], 1e-5) << "head dimension " << hd << " causal " << causal << " at " << i;
      }
      for (std::size_t i = 0; i < qkv.size(); ++i) {
        worst = std::max(worst, std::abs(static_cast<double>(x->grad[i]) - r.dqkv[i]));
        ASSERT_NEAR(x->grad[i], r.dqkv[i], 2e-5) << "head dimension " << hd << " causal " << causal << " at " << i;
      }
    }
  printf("worst error of attention in float: %.2g\n", worst);
}

}  // namespace
}  // namespace bl::nn::testing
