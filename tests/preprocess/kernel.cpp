#include "preprocess/kernel.hpp"

#include <cmath>
#include <numeric>

#include "preprocess/events.hpp"
#include "preprocess/recipe.hpp"
#include "schema/schema.hpp"
#include "support.hpp"

namespace {

using namespace bl;
using namespace bl::preprocess;
using bl::test::error_of;

Recipe recipe(const std::string& text) { return parse_recipe(text, "recipe"); }

// Events of up to 11 objects with every kind, unsorted, from counter-based random numbers.
Batch events(std::uint32_t count, std::uint64_t first = 0) {
  const Rng rng(3, "objects");
  Events out(
      {.particles = false, .label = true, .jet = false, .jet_mass = false, .mass = false, .charge = false, .pid = false, .tracking = false, .extra = {"npv"}});
  for (std::uint64_t e = first; e < first + count; ++e) {
    Event event;
    event.id = 1000 + e;
    event.weight = 0.5;
    event.process = e % 3 == 0 ? "signal" : "background";
    event.label = e % 3 == 0;
    event.met = 10 + 200 * rng.uniform(e, 100);
    event.met_phi = 6.28 * rng.uniform(e, 101) - 3.14;
    out.begin(event);
    out.extra(0, static_cast<double>(e % 20));
    const auto n = rng.below(12, e, 102);
    for (std::uint64_t k = 0; k < n; ++k) {
      Object o;
      o.type = static_cast<std::uint8_t>(1 + (k < 6 ? 0 : k % 5));
      o.charge = o.type == 2 || o.type == 3 ? (k % 2 ? 1 : -1) : 0;
      o.pt = 15 - 60 * std::log(1 - rng.uniform(e, k));
      o.eta = 5 * rng.uniform(e, 20 + k) - 2.5;
      o.phi = 6.28 * rng.uniform(e, 40 + k) - 3.14;
      o.mass = o.type == 1 ? 0.1 * o.pt * rng.uniform(e, 60 + k) : 0;
      o.btag = o.type == 1 && rng.uniform(e, 80 + k) < 0.3 ? 1 : 0;
      out.object(o);
    }
    out.end();
  }
  Batch batch = out.take();
  std::vector<std::uint64_t> index(count);
  std::iota(index.begin(), index.end(), first);
  batch.set("event_index", {"event"}, index);
  return batch;
}

Batch apply(const Recipe& r, Batch batch) {
  Kernel kernel(r, false);
  Batch out = kernel.prepare(std::move(batch));
  kernel.add_features(out, "test");
  schema::check(schema::get("objects/1"), out, "test");
  return out;
}

TEST(Kernel, SortsAndLimitsAndKeepsObjectsWhole) {
  const Batch in = events(300);
  const Batch out = apply(recipe("max_objects = 4"), in);
  ASSERT_EQ(out.events, 300u);
  const auto from = in.get<std::uint32_t>("object_offsets"), to = out.get<std::uint32_t>("object_offsets");
  for (std::uint32_t e = 0; e < 300; ++e) {
    std::vector<std::pair<float, std::uint8_t>> want, got;
    for (auto i = from[e]; i < from[e + 1]; ++i) want.emplace_back(-in.get<float>("pt")[i], in.get<std::uint8_t>("type")[i]);
    std::sort(want.begin(), want.end());
    if (want.size() > 4) want.resize(4);
    for (auto i = to[e]; i < to[e + 1]; ++i) got.emplace_back(-out.get<float>("pt")[i], out.get<std::uint8_t>("type")[i]);
    ASSERT_EQ(got, want) << e;
    // Derived before the limit
    std::size_t jets = 0;
    for (auto i = from[e]; i < from[e + 1]; ++i) jets += in.get<std::uint8_t>("type")[i] == 1;
    EXPECT_EQ(out.get<float>("n_jets")[e], static_cast<float>(jets));
  }
}

TEST(Kernel, OtherOrders) {
  const Batch in = events(50);
  const Batch none = apply(recipe("sort = \"none\""), in);
  EXPECT_TRUE(std::equal(in.get<float>("pt").begin(), in.get<float>("pt").end(), none.get<float>("pt").begin()));
  for (const char* key : {"eta", "phi", "mass"}) {
    const Batch out = apply(recipe(fmt::format("sort = \"{}\"", key)), in);
    const auto o = out.get<std::uint32_t>("object_offsets");
    const auto v = out.get<float>(key);
    for (std::uint32_t e = 0; e < out.events; ++e)
      for (auto i = o[e] + 1; i < o[e + 1]; ++i) ASSERT_GE(v[i - 1], v[i]) << key;
  }
  const Batch out = apply(recipe("sort = \"energy\""), in);
  const auto o = out.get<std::uint32_t>("object_offsets");
  const auto energy = [&](std::uint32_t i) { return std::hypot(out.get<float>("pt")[i] * std::cosh(out.get<float>("eta")[i]), out.get<float>("mass")[i]); };
  for (std::uint32_t e = 0; e < out.events; ++e)
    for (auto i = o[e] + 1; i < o[e + 1]; ++i) ASSERT_GE(energy(i - 1), energy(i) * (1 - 1e-6));
}

TEST(Kernel, ObjectCutsComeBeforeDerivedQuantities) {
  const Batch out = apply(recipe("[cut.jet]\npt_min = 50\nabs_eta_max = 1.5\n[cut.photon]\nremove = true"), events(200));
  const auto type = out.get<std::uint8_t>("type");
  const auto pt = out.get<float>("pt"), eta = out.get<float>("eta");
  std::vector<float> ht(out.events, 0);
  const auto o = out.get<std::uint32_t>("object_offsets");
  std::size_t jets = 0, others = 0;
  for (std::uint32_t e = 0; e < out.events; ++e) {
    double sum = 0;
    for (auto i = o[e]; i < o[e + 1]; ++i) {
      EXPECT_NE(type[i], 4);
      if (type[i] != 1) {
        ++others;
        continue;
      }
      ++jets;
      EXPECT_GE(pt[i], 50);
      EXPECT_LE(std::abs(eta[i]), 1.5f);
      sum += pt[i];
    }
    EXPECT_FLOAT_EQ(out.get<float>("ht")[e], static_cast<float>(sum));
  }
  EXPECT_GT(jets, 50u);
  EXPECT_GT(others, 20u);
}

TEST(Kernel, SelectsAndCountsWhatEachCutRemoved) {
  const Recipe r = recipe("select = \"n_jets >= 4 && met > 100\"\nprocess = [\"background\"]");
  Kernel kernel(r, false);
  const Batch in = events(1000);
  const Batch out = kernel.prepare(in);
  std::size_t want = 0, few = 0, low = 0;
  const auto o = in.get<std::uint32_t>("object_offsets");
  for (std::uint32_t e = 0; e < in.events; ++e) {
    std::size_t jets = 0;
    for (auto i = o[e]; i < o[e + 1]; ++i) jets += in.get<std::uint8_t>("type")[i] == 1;
    few += jets < 4;
    low += in.get<float>("met")[e] <= 100;
    want += jets >= 4 && in.get<float>("met")[e] > 100 && e % 3 != 0;
  }
  EXPECT_EQ(out.events, want);
  EXPECT_EQ(kernel.read(), 1000u);
  EXPECT_EQ(kernel.selected(), want);
  EXPECT_HAS(kernel.report(), fmt::format("{} of 1000 events selected", want));
  EXPECT_HAS(kernel.report(), fmt::format("'n_jets >= 4' removed {}", few));
  EXPECT_HAS(kernel.report(), fmt::format("'met > 100' removed {}", low));
  EXPECT_LT(kernel.report().find(few > low ? "n_jets" : "met"), kernel.report().find(few > low ? "met" : "n_jets"));
  // Every event kept its own columns.
  for (std::uint32_t e = 0; e < out.events; ++e) EXPECT_EQ(out.get<std::uint64_t>("event_id")[e], 1000 + out.get<std::uint64_t>("event_index")[e]);
}

TEST(Kernel, VariablesOfASelection) {
  const auto kept = [](const std::string& expression) {
    Kernel kernel(recipe("select = '" + expression + "'"), false);
    return kernel.prepare(events(500)).events;
  };
  EXPECT_EQ(kept("npv == 3"), 25u);  // a column of the file that no schema has
  EXPECT_EQ(kept("label == 1"), 167u);
  EXPECT_EQ(kept("weight == 0.5"), 500u);
  EXPECT_EQ(kept("event_index < 10"), 10u);
  EXPECT_EQ(kept("event_id < 1010"), 10u);
  EXPECT_EQ(kept("jet1_pt >= jet2_pt && jet2_pt >= jet3_pt"), 500u);
  EXPECT_EQ(kept("lead_pt >= jet1_pt && lead_pt >= lepton1_pt"), 500u);
  EXPECT_EQ(kept("n_objects == n_jets + n_leptons + n_photons + n_taus"), 500u);
  EXPECT_EQ(kept("abs(st - pt_sum - met) < 0.01"), 500u);
  EXPECT_EQ(kept("jet6_pt > 0") + kept("n_jets < 6"), 500u);
  const Error e = error_of([&] { kept("npw == 3"); });
  EXPECT_EQ(e.code(), Exit::usage);
  EXPECT_HAS(e.what(), "did you mean 'npv'?");
}

const char* const kFeatures = R"(
[feature.pt]
transform = ["log", "standardise"]
[feature.eta]
transform = [{ step = "scale", factor = 0.4 }]
[feature.phi_met]
transform = ["sincos"]
[feature.mass]
transform = ["log1p", { step = "quantile_normal", knots = 101 }]
[feature.charge]
transform = []
[feature.energy]
transform = ["log"]
[global.met]
transform = [{ step = "quantile_normal", knots = 51 }]
[global.n_objects]
transform = ["standardise"]
[fit]
train_fraction = 0.7
)";

void fit(Recipe& r, std::uint32_t batch_size, std::uint32_t total, std::uint64_t* events_used = nullptr) {
  Kernel kernel(r, false);
  const Rng rng(11, "bl-preprocess");
  Fitter fitter(r, rng);
  for (std::uint32_t e = 0; e < total; e += batch_size) fitter.add(kernel.prepare(events(std::min(batch_size, total - e), e)), kernel);
  fitter.fit(r);
  if (events_used) *events_used = fitter.events();
}

TEST(Kernel, FeaturesInvertToThePhysicalValues) {
  Recipe r = recipe(kFeatures);
  fit(r, 500, 2000);
  const Batch in = events(400, 5000);
  Batch out = apply(r, in);
  ASSERT_TRUE(out.has("feature_phi_met_sin") && out.has("feature_phi_met_cos") && out.has("global_n_objects"));
  // Standardised on the training events: about zero mean and unit spread on others
  double sum = 0, squares = 0;
  for (const float y : out.get<float>("feature_pt")) sum += y, squares += y * y;
  const double n = static_cast<double>(out.get<float>("feature_pt").size());
  EXPECT_NEAR(sum / n, 0, 0.1);
  EXPECT_NEAR(squares / n, 1, 0.15);

  const Batch plain = apply(recipe(""), in);
  // Spoil the physical columns: they must come from the features alone.
  for (const char* name : {"pt", "eta", "phi", "mass", "met"})
    for (auto& v : out.find(name)->edit<float>()) v = 1;
  for (auto& q : out.find("charge")->edit<std::int8_t>()) q = 0;
  Kernel::invert(out, features_of(transforms_json(r), "test"), "test");
  schema::check(schema::get("objects/1"), out, "test");
  for (const auto& column : out.columns) EXPECT_FALSE(column.name.starts_with("feature_") || column.name.starts_with("global_")) << column.name;
  for (const char* name : {"pt", "eta", "phi", "mass", "met"}) {
    const auto a = plain.get<float>(name), b = out.get<float>(name);
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 3e-5 * std::max(1.0f, std::abs(a[i]))) << name << " " << i;
  }
  const auto a = plain.get<std::int8_t>("charge"), b = out.get<std::int8_t>("charge");
  EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
}

TEST(Kernel, GlobalFeaturesAreOfTheWholeEvent) {
  Recipe r = recipe("max_objects = 2\n[global.n_objects]\ntransform = []");
  const Batch in = events(50);
  const Batch out = apply(r, in);
  const auto o = in.get<std::uint32_t>("object_offsets");
  for (std::uint32_t e = 0; e < in.events; ++e) EXPECT_EQ(out.get<float>("global_n_objects")[e], static_cast<float>(o[e + 1] - o[e]));
}

TEST(Kernel, FitsDependOnNeitherBatchesNorOrderOfBatches) {
  Recipe a = recipe(kFeatures), b = recipe(kFeatures);
  std::uint64_t used_a = 0, used_b = 0;
  fit(a, 64, 1000, &used_a);
  fit(b, 333, 1000, &used_b);
  EXPECT_EQ(transforms_json(a), transforms_json(b));
  EXPECT_EQ(used_a, used_b);
  EXPECT_NEAR(static_cast<double>(used_a), 700, 60);
}

TEST(Kernel, FitsKeepABoundedSampleThatDoesNotDependOnBatches) {
  const std::string text = std::string(kFeatures) + "max_values = 500\n";
  Recipe a = recipe(text), b = recipe(text), whole = recipe(kFeatures);
  fit(a, 64, 1000);
  fit(b, 1000, 1000);
  fit(whole, 1000, 1000);
  EXPECT_EQ(transforms_json(a), transforms_json(b));
  EXPECT_NE(transforms_json(a), transforms_json(whole));
  // 500 of some thousand values give the mean to a few of its own deviations.
  for (std::size_t f = 0; f < a.features.size(); ++f)
    if (a.features[f].name == "pt") {
      const auto& sample = a.features[f].chain.steps()[1];
      const auto& full = whole.features[f].chain.steps()[1];
      EXPECT_NEAR(sample.a, full.a, 5 * full.b / std::sqrt(500.0));
    }
}

// The split of the fit is by event: the others must not be seen.
TEST(Kernel, FitsSeeTrainingEventsOnly) {
  Recipe r = recipe("[global.met]\ntransform = [\"standardise\"]\n[fit]\ntrain_fraction = 0.6");
  const Rng rng(11, "bl-preprocess");
  const Batch in = events(2000);
  double sum = 0;
  std::uint64_t n = 0;
  for (std::uint32_t e = 0; e < in.events; ++e)
    if (rng.uniform(e, 0) < 0.6) sum += in.get<float>("met")[e], ++n;
  std::uint64_t used = 0;
  fit(r, 2000, 2000, &used);
  EXPECT_EQ(used, n);
  EXPECT_NEAR(r.features[0].chain.steps()[0].a, sum / static_cast<double>(n), 1e-9);
}

TEST(Kernel, ValuesOutsideADomainNameTheEvent) {
  Recipe r = recipe("[feature.eta]\ntransform = [\"log\"]");
  Kernel kernel(r, false);
  Batch b = kernel.prepare(events(10, 40));
  const Error e = error_of([&] { kernel.add_features(b, "'x.csv'"); });
  EXPECT_EQ(e.code(), Exit::input);
  EXPECT_HAS(e.what(), "'x.csv', event 4");
  EXPECT_HAS(e.what(), "feature 'eta' from eta: 'log' takes values above 0, not -");
}

TEST(Kernel, ParticlesHaveTheirOwnVariables) {
  Events out({.particles = true, .label = false, .jet = true, .jet_mass = true, .mass = false, .charge = false, .pid = false, .tracking = false, .extra = {}});
  for (int j = 0; j < 10; ++j) {
    Event e;
    e.jet_pt = 500 + j;
    e.jet_eta = 1;
    e.jet_phi = 3;
    e.jet_mass = 80;
    out.begin(e);
    for (int k = 0; k <= j; ++k) out.particle(10 + k, 1.1, -3.1);
    out.end();
  }
  const Batch in = out.take();
  const auto r = recipe(
      "select = \"n_particles > 3 && jet_pt < 508 && pt_sum >= lead_pt && m_vis >= 0 && jet_mass == 80\"\nmax_objects = 3\n"
      "[cut.particle]\npt_min = 11\n[feature.eta_rel]\ntransform = []\n[feature.phi_rel]\ntransform = []\n[feature.pt_frac]\ntransform = [\"log\"]");
  Kernel kernel(r, true);
  Batch b = kernel.prepare(in);
  kernel.add_features(b, "test");
  schema::check(schema::get("particles/1"), b, "test");
  ASSERT_EQ(b.events, 4u);  // jets 4 … 7: one particle of each is below 11 GeV
  EXPECT_EQ(b.get<std::uint32_t>("particle_offsets")[4], 12u);
  EXPECT_NEAR(b.get<float>("feature_eta_rel")[0], 0.1, 1e-6);
  EXPECT_NEAR(b.get<float>("feature_phi_rel")[0], 2 * M_PI - 6.1, 1e-5);
  EXPECT_NEAR(b.get<float>("feature_pt_frac")[0], std::log(14.0 / 504), 1e-6);
  for (const char* name : {"pt", "eta", "phi"})
    for (auto& v : b.find(name)->edit<float>()) v = 0.5f;
  Kernel::invert(b, r.features, "test");
  EXPECT_NEAR(b.get<float>("pt")[0], 14, 1e-4);
  EXPECT_NEAR(b.get<float>("eta")[0], 1.1, 1e-5);
  EXPECT_NEAR(b.get<float>("phi")[0], -3.1, 1e-5);
  const Error e = error_of([&] {
    Kernel wrong(recipe("[global.ht]\ntransform = []"), true);
    wrong.prepare(in);
  });
  EXPECT_EQ(e.code(), Exit::usage);
}

}  // namespace
