// Labelled jets: classes, draws by event, jet variables; the settings that are chosen; figures of merit and curves.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <set>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/rng.hpp"
#include "finetune/curve.hpp"
#include "finetune/jets.hpp"
#include "finetune/training.hpp"

namespace bl::finetune {
namespace {

models::GptConfig small_model() {
  models::GptConfig c;
  c.vocabulary = 12;
  c.positions = 8;
  c.dim = 8;
  c.heads = 1;
  c.layers = 1;
  return c;
}

// Jet i of `process[i mod size]`, event i / 2: two jets share an event.
Batch jets_of(std::size_t n, const std::vector<std::string>& processes, std::uint64_t first_id = 0) {
  const Rng rng(3, "jets");
  Batch b;
  b.events = static_cast<std::uint32_t>(n);
  std::vector<std::uint64_t> index, id;
  std::vector<std::string> process;
  std::vector<std::uint32_t> offsets{0};
  std::vector<std::int32_t> token;
  std::vector<std::uint8_t> category;
  std::vector<float> pt, eta, phi;
  for (std::size_t i = 0; i < n; ++i) {
    index.push_back(i);
    id.push_back(first_id + i / 2);
    process.push_back(processes[i % processes.size()]);
    for (std::size_t k = 0; k < i % 8; ++k) {
      token.push_back(static_cast<std::int32_t>(rng.below(10, i, k)));
      category.push_back(10);
      pt.push_back(100.0f / static_cast<float>(k + 1));
      eta.push_back(static_cast<float>(0.2 * rng.normal(i, 20 + k)));
      phi.push_back(static_cast<float>(0.2 * rng.normal(i, 40 + k)));
    }
    offsets.push_back(static_cast<std::uint32_t>(token.size()));
  }
  b.set("event_index", {"event"}, index);
  b.set("event_id", {"event"}, id);
  b.set_text("process", process);
  b.set("token_offsets", {"event+1"}, offsets);
  b.set("token", {"token"}, token);
  b.set("category", {"token"}, category);
  b.set("pt", {"token"}, pt);
  b.set("eta", {"token"}, eta);
  b.set("phi", {"token"}, phi);
  return b;
}

Exit code_of(const std::function<void()>& f, std::string* what = nullptr) {
  try {
    f();
  } catch (const Error& e) {
    if (what != nullptr) *what = e.what();
    return e.code();
  }
  return Exit::done;
}

TEST(Jets, classes_come_from_the_stream_in_the_order_of_its_labels) {
  Jets jets("x", small_model());
  jets.add(jets_of(30, {"q", "Tbqq", "g"}));
  EXPECT_EQ(models::names_of(jets.classes({})), (std::vector<std::string>{"Tbqq", "g", "q"}));
  EXPECT_EQ(models::names_of(jets.classes({{"labels", {{"10", "q"}, {"2", "g"}, {"3", "Hbb"}}}})), (std::vector<std::string>{"g", "q", "Tbqq"}));
  EXPECT_EQ(models::names_of(jets.classes({{"labels", {"q", "Tbqq"}}})), (std::vector<std::string>{"q", "Tbqq", "g"}));
  Jets one("x", small_model()), none("x", small_model()), empty("x", small_model());
  one.add(jets_of(30, {"q"}));
  none.add(jets_of(30, {""}));
  std::string what;
  EXPECT_EQ(code_of([&] { one.classes({}); }, &what), Exit::input);
  EXPECT_NE(what.find("all jets are of the process 'q'"), std::string::npos);
  EXPECT_EQ(code_of([&] { none.classes({}); }, &what), Exit::input);
  EXPECT_NE(what.find("no event names its process"), std::string::npos);
  EXPECT_EQ(code_of([&] { empty.classes({}); }), Exit::input);
}

TEST(Jets, of_no_class_are_left_out) {
  Jets jets("x", small_model());
  jets.add(jets_of(20, {"q", "Tbqq", "g", "Hbb"}));
  jets.add(jets_of(20, {"q", "Tbqq", "g", "Hbb"}, 100));
  const auto classes = models::parse_classes(std::vector<std::string>{"top=Tbqq", "qcd=q+g"});
  jets.label(classes);
  EXPECT_EQ(jets.size(), 30u);
  EXPECT_EQ(jets.dropped(), 10u);
  EXPECT_EQ(jets.examples().labels, (std::vector<std::int32_t>{1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1}));
  EXPECT_EQ(jets.examples().length(3), 4u);  // the jet of index 4: that of index 3 is none of them
  EXPECT_EQ(jets.event_ids()[3], 2u);
  const Batch two = jets_of(9, {"a", "b"});
  Jets other("x", small_model());
  other.add(two);
  std::string what;
  EXPECT_EQ(code_of([&] { other.label(classes); }, &what), Exit::input);
  EXPECT_NE(what.find("no jet is of the class 'top' (process Tbqq); the processes there are a, b"), std::string::npos) << what;
}

TEST(Jets, what_the_model_does_not_read_is_refused) {
  models::GptConfig model = small_model();
  model.positions = 7;
  std::string what;
  EXPECT_EQ(code_of([&] { Jets("x", model).add(jets_of(9, {"q"})); }, &what), Exit::input);
  EXPECT_NE(what.find("event 7 has 7 tokens, the model reads at most 6"), std::string::npos);
  model = small_model();
  model.vocabulary = 11;
  EXPECT_EQ(code_of([&] { Jets("x", model).add(jets_of(40, {"q"})); }, &what), Exit::input);
  EXPECT_NE(what.find("token 9 is out of the vocabulary of 0 to 8"), std::string::npos);
}

TEST(Jets, draws_are_balanced_nested_and_share_no_event) {
  Jets jets("x", small_model());
  jets.add(jets_of(3000, {"q", "Tbqq", "g", "q", "g"}));
  const auto classes = models::parse_classes(std::vector<std::string>{"top=Tbqq", "q", "g"});
  jets.label(classes);
  std::set<std::uint32_t> before;
  for (const std::size_t n : {100, 301, 900}) {
    const Split split = draw(jets, classes, n, stopping_jets(n), 4);
    EXPECT_EQ(split.training.size(), n);
    EXPECT_EQ(split.stopping.size(), stopping_jets(n));
    std::vector<std::size_t> counts(3);
    std::set<std::uint64_t> ids;
    for (const std::uint32_t i : split.training) {
      ++counts[static_cast<std::size_t>(jets.examples().labels[i])];
      ids.insert(jets.event_ids()[i]);
    }
    EXPECT_LE(std::ranges::max(counts) - std::ranges::min(counts), 1u);
    for (const std::uint32_t i : split.stopping) EXPECT_FALSE(ids.contains(jets.event_ids()[i]));
    const std::set<std::uint32_t> now(split.training.begin(), split.training.end());
    EXPECT_EQ(now.size(), n);
    EXPECT_TRUE(std::ranges::includes(now, before));
    before = now;
  }
  EXPECT_NE(draw(jets, classes, 100, 100, 5).training, draw(jets, classes, 100, 100, 4).training);
  std::string what;
  EXPECT_EQ(code_of([&] { draw(jets, classes, 2400, 100, 4); }, &what), Exit::input);
  EXPECT_NE(what.find("800 of them of the class 'top', which has 600"), std::string::npos);
  EXPECT_EQ(code_of([&] { draw(jets, classes, 1797, 1000, 4); }), Exit::input);
}

TEST(Jets, a_fraction_of_the_events_stops_the_training) {
  Jets jets("x", small_model());
  jets.add(jets_of(4000, {"q", "Tbqq"}));
  jets.label(models::parse_classes(std::vector<std::string>{"q", "Tbqq"}));
  const Split split = split_by_event(jets, 2, 0.25, 0, 7);
  EXPECT_EQ(split.training.size() + split.stopping.size(), 4000u);
  EXPECT_NEAR(static_cast<double>(split.stopping.size()), 1000, 80);
  std::set<std::uint64_t> ids;
  for (const std::uint32_t i : split.training) ids.insert(jets.event_ids()[i]);
  for (const std::uint32_t i : split.stopping) EXPECT_FALSE(ids.contains(jets.event_ids()[i]));
  const Split few = split_by_event(jets, 2, 0.2, 101, 7);
  EXPECT_EQ(few.training.size() + few.stopping.size(), 101u);
  Jets other("y", small_model());
  other.add(jets_of(10, {"q"}, 1995));
  std::string what;
  EXPECT_EQ(code_of([&] { refuse_common_events(jets, other); }, &what), Exit::input);
  EXPECT_NE(what.find("the event 1995 is in x and in y"), std::string::npos);
}

TEST(Jets, variables_of_the_constituents) {
  Pool pool(2);
  Jets jets("x", small_model());
  Batch batch = jets_of(16, {"q", "Tbqq"});
  jets.add_with_variables(batch, pool);
  ASSERT_EQ(jets.examples().variables.size(), 16u * 5);
  const auto offsets = batch.get<std::uint32_t>("token_offsets");
  const auto pt = batch.get<float>("pt"), eta = batch.get<float>("eta"), phi = batch.get<float>("phi");
  for (std::size_t e = 0; e < 16; ++e) {
    double px = 0, py = 0, pz = 0, energy = 0;
    for (std::size_t i = offsets[e]; i < offsets[e + 1]; ++i) {
      px += pt[i] * std::cos(phi[i]), py += pt[i] * std::sin(phi[i]), pz += pt[i] * std::sinh(eta[i]), energy += pt[i] * std::cosh(eta[i]);
    }
    const auto v = jets.examples().variables_of(e);
    EXPECT_NEAR(v[0], std::log(std::max(std::hypot(px, py), 1e-3)), 1e-4);
    EXPECT_NEAR(v[1], std::sqrt(std::max(0.0, energy * energy - px * px - py * py - pz * pz)), 1e-2);
    EXPECT_EQ(v[2], static_cast<float>(e % 8));
    for (const float tau : {v[3], v[4]}) EXPECT_EQ(tau > 0, e % 8 > (tau == v[3] ? 2u : 3u)) << e;
  }
  // They stay with their jets when some are left out, and when others are put behind.
  const models::Examples before = jets.examples();
  Jets other("y", small_model());
  other.add_with_variables(jets_of(8, {"q", "Tbqq"}, 500), pool);
  const auto top = models::parse_classes(std::vector<std::string>{"top=Tbqq"}), both = models::parse_classes(std::vector<std::string>{"q", "Tbqq"});
  other.label(both);
  jets.label(top);
  ASSERT_EQ(jets.examples().variables.size(), 8u * 5);
  for (std::size_t e = 0; e < 8; ++e) EXPECT_TRUE(std::ranges::equal(jets.examples().variables_of(e), before.variables_of(2 * e + 1)));
  const auto added = jets.append(other);
  for (std::size_t e = 0; e < 8; ++e) EXPECT_TRUE(std::ranges::equal(jets.examples().variables_of(added[e]), other.examples().variables_of(e)));
  batch.erase("eta");
  std::string what;
  EXPECT_EQ(code_of([&] { Jets("x", small_model()).add_with_variables(batch, pool); }, &what), Exit::input);
  EXPECT_NE(what.find("lack the column 'eta'"), std::string::npos);
}

TEST(Training, settings_that_are_not_said_follow_the_number_of_jets) {
  Settings s;
  const auto small = trainer_config(s, Mode::full, 100, 1), middle = trainer_config(s, Mode::full, 1200, 1), large = trainer_config(s, Mode::full, 100'000, 1);
  EXPECT_EQ(small.batch, 16u);
  EXPECT_EQ(middle.batch, 100u);
  EXPECT_EQ(large.batch, 256u);
  EXPECT_EQ(small.epochs, 50u);
  EXPECT_EQ(large.epochs, 8u);
  EXPECT_EQ(large.patience, 3u);
  EXPECT_EQ(small.groups.at(0).rate, 0.3);
  EXPECT_EQ(trainer_config(s, Mode::scratch, 100, 1).groups.at(0).rate, 1);
  EXPECT_EQ(trainer_config(s, Mode::frozen, 100, 1).groups.at(0).freeze, 1);
  const auto gradual = trainer_config(s, Mode::gradual, 100, 1);
  EXPECT_EQ(gradual.groups.at(1).thaw, 60u);  // ten epochs of six steps
  s.batch = 7, s.epochs = 3, s.patience = 0, s.trunk_rate = 0.5;
  s.groups = {"tagger/*:rate=2"};
  const auto said = trainer_config(s, Mode::full, 100, 1);
  EXPECT_EQ(said.batch, 7u);
  EXPECT_EQ(said.epochs, 3u);
  EXPECT_EQ(said.patience, 0u);
  EXPECT_EQ(said.groups.at(0).rate, 0.5);
  EXPECT_EQ(said.groups.at(1).pattern, "tagger/*");
  models::GptConfig gpt = small_model();
  gpt.classes = 3;
  gpt.dropout = 0.3;
  EXPECT_EQ(classifier_config(s, Mode::full, gpt, 2, nullptr).trunk.classes, 0u);
  EXPECT_EQ(classifier_config(s, Mode::full, gpt, 2, nullptr).trunk.dropout, 0.1);
  EXPECT_EQ(classifier_config(s, Mode::frozen, gpt, 2, nullptr).trunk.dropout, 0);
}

TEST(Training, modes_with_variables_are_trained_as_those_without) {
  for (std::size_t m = 0; m < mode_names().size(); ++m) EXPECT_EQ(mode_named(mode_names()[m]), static_cast<Mode>(m));
  const Settings s;
  EXPECT_EQ(trainer_config(s, Mode::full_variables, 100, 1).groups.at(0).text(), trainer_config(s, Mode::full, 100, 1).groups.at(0).text());
  EXPECT_EQ(trainer_config(s, Mode::scratch_variables, 100, 1).groups.at(0).text(), trainer_config(s, Mode::scratch, 100, 1).groups.at(0).text());
  for (const Mode mode : {Mode::jet_variables, Mode::full_variables, Mode::scratch_variables}) EXPECT_TRUE(reads_variables(mode));
  for (const Mode mode : {Mode::full, Mode::frozen, Mode::scratch}) EXPECT_FALSE(reads_variables(mode));

  // What a resumed training expects of its file is what the network was trained on.
  Pool pool(1);
  Jets jets("x", small_model());
  jets.add_with_variables(jets_of(400, {"q", "Tbqq"}), pool);
  jets.label(models::parse_classes(std::vector<std::string>{"q", "Tbqq"}));
  const Split split = split_by_event(jets, 2, 0.25, 0, 7);
  const auto trained = train_on_variables(jets, split, 2, 1, pool);
  const auto untrained = untrained_on_variables(jets, split, 2);
  EXPECT_EQ(classifier_config(s, Mode::full, small_model(), 2, &trained.model()), classifier_config(s, Mode::full, small_model(), 2, untrained.get()));
  const auto config = classifier_config(s, Mode::full, small_model(), 2, &trained.model());
  ASSERT_EQ(config.variables.size(), 5u);
  double sum = 0;
  for (const std::uint32_t i : split.training) sum += static_cast<double>(jets.examples().variables_of(i)[1]);
  EXPECT_EQ(config.variables[1].name, "mass");
  EXPECT_NEAR(config.variables[1].mean, sum / static_cast<double>(split.training.size()), 1e-6);
}

TEST(Judge, two_classes_and_more) {
  Pool pool(1);
  // Class 0 against class 1, by hand: of 4 x 5 pairs class 0 is above in 17 and level in 1.
  const std::vector<double> first{0.9, 0.8, 0.6, 0.3, 0.7, 0.3, 0.2, 0.1, 0.05};
  const std::vector<std::int32_t> label{0, 0, 0, 0, 1, 1, 1, 1, 1};
  std::vector<double> p;
  for (const double x : first) p.insert(p.end(), {x, 1 - x});
  Point point;
  judge(p, label, 2, pool, point);
  EXPECT_NEAR(point.accuracy, 7.0 / 9, 1e-12);
  EXPECT_NEAR(point.auc, 17.5 / 20, 1e-12);
  EXPECT_EQ(point.rejection_30, std::numeric_limits<double>::infinity());  // the two highest are of class 0
  EXPECT_EQ(point.rejection_50, std::numeric_limits<double>::infinity());
  const std::vector<double> third{0.9, 0.2, 0.6, 0.8, 0.7, 0.3, 0.2, 0.1, 0.05};
  p.clear();
  for (const double x : third) p.insert(p.end(), {x, 1 - x});
  judge(p, std::vector<std::int32_t>{0, 0, 1, 1, 0, 1, 1, 1, 1}, 2, pool, point);
  EXPECT_EQ(point.rejection_50, 6);  // 0.9 and 0.7 are of class 0, and one of six others is as high as 0.7

  // three classes told apart without a mistake but one
  p = {0.8, 0.1, 0.1, 0.6, 0.3, 0.1, 0.1, 0.8, 0.1, 0.5, 0.4, 0.1, 0.1, 0.1, 0.8, 0.2, 0.2, 0.6};
  judge(p, std::vector<std::int32_t>{0, 0, 1, 1, 2, 2}, 3, pool, point);
  EXPECT_NEAR(point.accuracy, 5.0 / 6, 1e-12);
  EXPECT_NEAR(point.auc, 1, 1e-12);
  EXPECT_EQ(point.rejection_50, std::numeric_limits<double>::infinity());
}

TEST(Curve, is_written_after_each_point_and_gone_on_with) {
  const auto folder = std::filesystem::temp_directory_path() / "beamline_test_curve";
  std::filesystem::create_directories(folder);
  const std::string path = (folder / "curve.json").string();
  std::filesystem::remove(path);
  Point p{Mode::scratch_codebook, 100, 100, 3, 0.8125, 0.9, std::numeric_limits<double>::infinity(), 12.5, 7, 1.5};
  {
    Curve curve(path, {{"classes", {"top", "qcd"}}, {"test_jets", 10}}, {{"rate", 0.001}});
    curve.add(p);
    p.mode = Mode::full;
    curve.add(p);
  }
  const auto json = nlohmann::json::parse(read_file(path));
  EXPECT_EQ(json["format"], "beamline.learning_curve/1");
  EXPECT_EQ(json["points"][0]["mode"], "full");
  EXPECT_EQ(json["points"][1]["mode"], "scratch-codebook");
  EXPECT_TRUE(json["points"][1]["rejection_30"].is_null());
  Curve again(path, {}, {{"rate", 0.001}});
  again.go_on(false);
  ASSERT_EQ(again.points().size(), 2u);
  EXPECT_EQ(again.points()[1].rejection_30, std::numeric_limits<double>::infinity());
  EXPECT_EQ(again.points()[1].auc, 0.9);
  EXPECT_TRUE(again.has(Mode::full, 100, 3));
  EXPECT_FALSE(again.has(Mode::full, 100, 4));
  std::string what;
  EXPECT_EQ(code_of([&] { Curve(path, {}, {{"rate", 0.002}}).go_on(false); }, &what), Exit::usage);
  EXPECT_NE(what.find("begun with rate 0.001, now it is 0.002"), std::string::npos);
  write_file(path, R"({"format": "beamline.learning_curve/1", "settings": {"rate": 0.001}, "points": [{"mode": "full"}]})", true);
  EXPECT_EQ(code_of([&] { Curve(path, {}, {{"rate", 0.001}}).go_on(false); }), Exit::input);
  write_file(path, "{", true);
  EXPECT_EQ(code_of([&] { Curve(path, {}, {{"rate", 0.001}}).go_on(false); }), Exit::usage);
  std::filesystem::remove_all(folder);
}

TEST(Curve, the_table_tells_how_many_times_more_jets_others_need) {
  Curve curve("/dev/null", {}, {});
  const auto path = std::filesystem::temp_directory_path() / "beamline_test_table.json";
  curve = Curve(path.string(), {}, {});
  // scratch reaches what `full` has with a fourth of its jets
  for (const std::size_t n : {100, 400, 1600})
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      const double up = std::log2(static_cast<double>(n) / 100) / 100, noise = seed == 1 ? 1e-4 : -1e-4;
      curve.add({Mode::full, n, 100, seed, 0.82 + up + noise, 0.92 + up + noise, 10, 5, 3, 1});
      curve.add({Mode::scratch, n, 100, seed, 0.80 + up + noise, 0.90 + up + noise, 10, 5, 3, 1});
    }
  const std::string table = curve.table(1);
  EXPECT_NE(table.find("0.8200 ± 0.0001"), std::string::npos) << table;
  EXPECT_NE(table.find("4.0 ("), std::string::npos) << table;
  EXPECT_NE(table.find("> 1.0"), std::string::npos) << table;
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace bl::finetune
