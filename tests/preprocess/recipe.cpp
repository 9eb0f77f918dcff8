#include "preprocess/recipe.hpp"

#include "support.hpp"

namespace {

using namespace bl;
using namespace bl::preprocess;
using bl::test::error_of;

std::string mistake(const std::string& text) {
  const Error e = error_of([&] { parse_recipe(text, "recipe 'r.toml'"); });
  EXPECT_EQ(e.code(), Exit::usage) << e.what();
  return e.what();
}

TEST(Recipe, EveryKeyIsRead) {
  const Recipe r = parse_recipe(R"(
doc = "test"
select = ["n_jets >= 4", "ht > 500"]
process = "tt"
sort = "mass"
max_objects = 7
btag_cut = 0.6
derive = ["ht"]
[cut.jet]
pt_min = 30
abs_eta_max = 2.5
[cut.photon]
remove = true
[feature.log_pt]
source = "pt"
transform = ["log", "standardise"]
[feature.phi]
transform = ["sincos"]
[global.ht]
transform = ["log1p"]
[fit]
train_fraction = 0.5
max_values = 1000
)",
                                "recipe");
  EXPECT_EQ(r.select.size(), 2u);
  EXPECT_EQ(r.process, std::vector<std::string>{"tt"});
  EXPECT_EQ(r.sort, "mass");
  EXPECT_EQ(r.max_objects, 7u);
  EXPECT_EQ(r.btag_cut, 0.6);
  EXPECT_EQ(r.derive, std::vector<std::string>{"ht"});
  EXPECT_EQ(r.cuts.at("jet").pt_min, 30);
  EXPECT_EQ(r.cuts.at("jet").abs_eta_max, 2.5);
  EXPECT_TRUE(r.cuts.at("photon").remove);
  ASSERT_EQ(r.features.size(), 3u);
  EXPECT_EQ(r.features[0].columns(), std::vector<std::string>{"feature_log_pt"});
  EXPECT_EQ(r.features[1].columns(), (std::vector<std::string>{"feature_phi_sin", "feature_phi_cos"}));
  EXPECT_EQ(r.features[2].columns(), std::vector<std::string>{"global_ht"});
  EXPECT_TRUE(r.needs_fit());
  EXPECT_EQ(r.train_fraction, 0.5);
  EXPECT_EQ(r.max_values, 1000u);
  const Recipe empty = parse_recipe("", "recipe");
  EXPECT_EQ(empty.derive.size(), 6u);
  EXPECT_FALSE(empty.needs_fit());
  EXPECT_TRUE(parse_recipe("derive = []", "recipe").derive.empty());
}

TEST(Recipe, MistakesNameTheFileAndTheKey) {
  EXPECT_HAS(mistake("sotr = \"pt\""), "recipe 'r.toml', line 1: unknown key 'sotr' (did you mean 'sort'?)");
  EXPECT_HAS(mistake("\n[cut.jet]\npt_mni = 3"), "[cut.jet], line 3: unknown key 'pt_mni' (did you mean 'pt_min'?)");
  EXPECT_HAS(mistake("sort = \"weight\""), "'sort' is 'weight'; known are pt, energy");
  EXPECT_HAS(mistake("max_objects = -1"), "'max_objects' is -1");
  EXPECT_HAS(mistake("max_objects = 1.5"), "must be a whole number");
  EXPECT_HAS(mistake("btag_cut = 2"), "'btag_cut' is 2, outside 0 to 1");
  EXPECT_HAS(mistake("derive = [\"mass\"]"), "'derive' has 'mass'; known are n_jets");
  EXPECT_HAS(mistake("select = 3"), "must be a text or a list of texts");
  EXPECT_HAS(mistake("[cut.quark]\npt_min = 3"), "[cut.quark] is no kind of object");
  EXPECT_HAS(mistake("[feature.pt]"), "[feature.pt] has no 'transform'");
  EXPECT_HAS(mistake("[feature.pt]\ntransform = [\"lgo\"]"), "[feature.pt]: unknown transform 'lgo' (did you mean 'log'?)");
  EXPECT_HAS(mistake("[feature.speed]\ntransform = []"), "'speed' is not a quantity of an object; known are pt");
  EXPECT_HAS(mistake("[global.pt]\ntransform = []"), "'pt' is not a quantity of an event");
  EXPECT_HAS(mistake("[feature.\"a b\"]\nsource = \"pt\"\ntransform = []"), "a feature's name is made of");
  EXPECT_HAS(mistake("[feature]\npt = 3"), "must be a table");
  EXPECT_HAS(mistake("[fit]\ntrain_fraction = 0"), "'train_fraction' is 0");
  EXPECT_HAS(mistake("select = \n"), "line 1");
  const Error e = error_of([] { read_recipe("/no/such/recipe.toml"); });
  EXPECT_EQ(e.code(), Exit::usage);
  EXPECT_HAS(e.what(), "No such file");
}

TEST(Recipe, TheRecipesThatAreShippedAreRead) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(BEAMLINE_SOURCE_DIR) + "/pipelines/recipes")) {
    EXPECT_NO_THROW(read_recipe(entry.path().string())) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 4u);
}

class Stored : public bl::test::Scratch {};

TEST_F(Stored, FittedTransformsComeBackAndMustAgree) {
  Recipe r = parse_recipe("[feature.pt]\ntransform = [\"log\", \"standardise\"]\n[global.ht]\ntransform = [\"quantile_normal\"]", "recipe");
  for (auto& f : r.features) f.chain.fit({1, 2, 3, 5, 8});
  save_transforms(r, file("t.json"), 5, false);
  Recipe again = parse_recipe("[feature.pt]\ntransform = [\"log\", \"standardise\"]", "recipe");
  load_transforms(again, file("t.json"));
  EXPECT_FALSE(again.needs_fit());
  EXPECT_EQ(again.features[0].chain.json(), r.features[0].chain.json());
  Recipe none = parse_recipe("", "recipe");
  load_transforms(none, file("t.json"));
  EXPECT_EQ(transforms_json(none), transforms_json(r));

  const auto refused = [&](const char* text) {
    Recipe other = parse_recipe(text, "recipe");
    const Error e = error_of([&] { load_transforms(other, file("t.json")); });
    EXPECT_EQ(e.code(), Exit::usage);
    return std::string(e.what());
  };
  EXPECT_HAS(refused("[feature.eta]\ntransform = [\"standardise\"]"), "holds no fitted transform for feature 'eta'");
  EXPECT_HAS(refused("[feature.pt]\ntransform = [\"standardise\"]"), "was fitted for other steps");
  EXPECT_HAS(refused("[feature.pt]\nsource = \"mass\"\ntransform = [\"log\", \"standardise\"]"), "was fitted for other steps");

  const auto damaged = [&](const std::string& content) {
    write("bad.json", content);
    Recipe other;
    const Error e = error_of([&] { load_transforms(other, file("bad.json")); });
    EXPECT_EQ(e.code(), Exit::input);
    return std::string(e.what());
  };
  EXPECT_HAS(damaged("{"), "is not a file of fitted transforms");
  EXPECT_HAS(damaged("{\"a\": 1}"), "make one with bl-preprocess --save");
  EXPECT_HAS(damaged(R"({"beamline": "transforms", "version": 2, "transforms": []})"), "newer program");
  EXPECT_HAS(damaged(R"({"beamline": "transforms", "version": 1, "transforms": [{"name": "x"}]})"), "damaged");
}

}  // namespace
