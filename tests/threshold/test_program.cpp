// bl-threshold as a program: files, exit codes, messages.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support.hpp"

namespace {

using namespace bl;
using namespace bl::test;

TEST(Program, FitsAppliesAndReports) {
  const Folder f;
  write_stream(f / "cr.bl", sample(1500, 0.2, -2, 1));
  const auto region = sample(2000, 0.1, -2, 2);
  write_stream(f / "sr.bl", region);
  const Outcome fit = run(f, "bl-threshold --fit --in cr.bl --save thr.json --bootstrap 50");
  EXPECT_EQ(fit.code, 0) << fit.err;
  EXPECT_EQ(fit.err, "");
  EXPECT_NE(fit.out.find("Objective   youden"), std::string::npos) << fit.out;
  EXPECT_NE(fit.out.find("n_objects *"), std::string::npos) << fit.out;
  const auto thr = nlohmann::json::parse(read_file(f / "thr.json"));
  EXPECT_EQ(thr["orientation"], "low");
  EXPECT_EQ(thr["origin"]["model"], "aa00");
  EXPECT_EQ(thr["control_region"]["events"], 1500);
  EXPECT_EQ(thr["history"].back()["stage"], "bl-threshold");
  const double cut = thr["threshold"];

  const Outcome apply = run(f, "bl-threshold --with thr.json --in sr.bl --out anomalies.bl --report rep/ --table dm.csv --bootstrap 50 --top 3");
  EXPECT_EQ(apply.code, 0) << apply.err;
  EXPECT_EQ(apply.err, "");
  EXPECT_NE(apply.out.find("The 3 most anomalous"), std::string::npos) << apply.out;
  std::vector<std::uint64_t> expected, found;
  for (std::size_t i = 0; i < region.size(); ++i)
    if (region[i].score <= cut) expected.push_back(1000000 + 7 * i);
  const auto batches = read_stream(f / "anomalies.bl");
  EXPECT_EQ(batches.size(), 20u);  // an empty batch is written, not dropped
  for (const auto& b : batches) {
    for (const auto id : b.get<std::uint64_t>("event_id")) found.push_back(id);
    for (const auto a : b.get<std::uint8_t>("anomaly")) EXPECT_EQ(a, 1);
  }
  EXPECT_EQ(found, expected);
  const auto report = nlohmann::json::parse(read_file(f / "rep/report.json"));
  EXPECT_EQ(report["anomalies"].size(), expected.size());
  EXPECT_EQ(report["all"]["selected_events"], expected.size());
  EXPECT_GT(report["all"]["pull"].get<double>(), 3);
  EXPECT_NEAR(report["comparison"][0]["auc"]["value"].get<double>(), 0.92, 0.03);
  EXPECT_EQ(read_file(f / "dm.csv"), read_file(f / "rep/table.csv"));
  const std::string list = read_file(f / "rep/anomalies.csv");
  EXPECT_EQ(static_cast<std::size_t>(std::count(list.begin(), list.end(), '\n')), expected.size() + 1);
  EXPECT_FALSE(read_file(f / "rep/histogram.csv").empty());
  EXPECT_FALSE(read_file(f / "rep/report.txt").empty());

  // Names that are taken are refused before anything is done.
  const Outcome again = run(f, "bl-threshold --with thr.json --in sr.bl --out again.bl --table dm.csv");
  EXPECT_EQ(again.code, 4);
  EXPECT_NE(again.err.find("'dm.csv' exists"), std::string::npos) << again.err;
  EXPECT_FALSE(std::filesystem::exists(f / "again.bl"));
  EXPECT_EQ(run(f, "bl-threshold --fit --in cr.bl --save thr.json").code, 4);
}

TEST(Program, ReportIsTheSameForAnyThreadsAndBatches) {
  const Folder f;
  const auto region = sample(900, 0.2, -1.5, 3);
  write_stream(f / "a.bl", region);
  write_stream(f / "b.bl", region, {true, 37, "aa00", "bb00"});
  ASSERT_EQ(run(f, "bl-threshold --fit --in a.bl --save a.json --bootstrap 40 --threads 1").code, 0);
  ASSERT_EQ(run(f, "bl-threshold --fit --in b.bl --save b.json --bootstrap 40 --threads 3").code, 0);
  auto a = nlohmann::json::parse(read_file(f / "a.json")), b = nlohmann::json::parse(read_file(f / "b.json"));
  a.erase("history");
  b.erase("history");
  EXPECT_EQ(a, b);
  const Outcome one = run(f, "bl-threshold --with a.json --in a.bl --out x.bl --report x.json --bootstrap 40");
  const Outcome two = run(f, "bl-threshold --with b.json --in b.bl --out y.bl --report y.json --bootstrap 40 --threads 3");
  EXPECT_EQ(one.out, two.out);
  EXPECT_EQ(read_file(f / "x.json"), read_file(f / "y.json"));
  EXPECT_NE(one.err.find("the events that the threshold was fitted on"), std::string::npos) << one.err;
}

TEST(Program, StandardOutputIsTheStreamAlone) {
  const Folder f;
  write_stream(f / "cr.bl", sample(600, 0.3, -2, 4));
  write_stream(f / "sr.bl", sample(600, 0.3, -2, 5));
  ASSERT_EQ(run(f, "bl-threshold --fit --in cr.bl --save thr.json --bootstrap 20").code, 0);
  ASSERT_EQ(run(f, "bl-threshold --with thr.json --in sr.bl --out file.bl --bootstrap 20").code, 0);
  ASSERT_EQ(run(f, "bl-threshold --with thr.json < sr.bl > piped.bl").code, 0);
  Digest file, piped;
  for (const auto& b : read_stream(f / "file.bl")) file.add(b);
  for (const auto& b : read_stream(f / "piped.bl")) piped.add(b);
  EXPECT_EQ(file, piped);
  EXPECT_GT(file.events, 0u);
}

TEST(Program, BlindWithoutAThreshold) {
  const Folder f;
  write_stream(f / "sr.bl", sample(300, 0.3, -2, 5));
  const Outcome o = run(f, "bl-threshold --in sr.bl --out x.bl --report r.json --table t.csv");
  EXPECT_EQ(o.code, 2);
  EXPECT_NE(o.err.find("--fit"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(f / "r.json"));
  EXPECT_FALSE(std::filesystem::exists(f / "t.csv"));
  EXPECT_FALSE(std::filesystem::exists(f / "x.bl"));
  EXPECT_EQ(run(f, "bl-threshold --with none.json --in sr.bl --out x.bl").code, 3);
  EXPECT_EQ(run(f, "bl-threshold --fit --with none.json --in sr.bl --save t.json").code, 2);
  EXPECT_EQ(run(f, "bl-threshold --fit --in sr.bl").code, 2);
  EXPECT_EQ(run(f, "bl-threshold --fit --in sr.bl --save t.json --out x.bl").code, 2);
  EXPECT_EQ(run(f, "bl-threshold --fit --in sr.bl --save t.json --objective best").code, 2);
}

TEST(Program, RefusesBadRegions) {
  const Folder f;
  const auto good = sample(300, 0.3, -2, 6);
  write_stream(f / "cr.bl", good);
  ASSERT_EQ(run(f, "bl-threshold --fit --in cr.bl --save thr.json --bootstrap 20").code, 0);

  struct Case {
    std::string what, command, expected;
    int code;
  };
  write_stream(f / "bare.bl", good, {false, 100, "aa00", "bb00"});
  auto one = good;
  for (auto& e : one) e.label = 0;
  write_stream(f / "one.bl", one);
  auto nan = good;
  nan[217].score = std::numeric_limits<float>::quiet_NaN();
  write_stream(f / "nan.bl", nan);
  write_stream(f / "empty.bl", {});
  write_stream(f / "other.bl", good, {true, 100, "cc11", "bb00"});
  write_stream(f / "codes.bl", good, {true, 100, "aa00", "dd22"});
  write_file(f / "text.json", "not a threshold", false);
  const std::string fit = "bl-threshold --fit --save new.json --in ", apply = "bl-threshold --out new.bl --with ";
  const Case cases[] = {
      {"labels missing", fit + "bare.bl", "has no labels: name its signal with --signal (it holds: ", 3},
      {"one class", fit + "one.bl", "none with label 1", 3},
      {"NaN at the fit", fit + "nan.bl", "batch 2: column 'score_mean_logp', entry 17", 3},
      {"NaN when applied", apply + "thr.json --in nan.bl", "batch 2: column 'score_mean_logp', entry 17", 3},
      {"empty at the fit", fit + "empty.bl", "holds no events", 3},
      {"unknown score", fit + "cr.bl --score mean_lop", "did you mean 'mean_logp'?; it holds: mean_logp, unigram_mean_logp, n_objects", 3},
      {"unknown signal", fit + "cr.bl --signal fourtop", "has no process 'fourtop'", 3},
      {"nothing selected", fit + "cr.bl --objective sic --min-background 5000", "no event is selected", 3},
      {"too small", fit + "cr.bl --objective background-efficiency --background-efficiency 1e-4", "10000 events or more", 3},
      {"another model", apply + "thr.json --in other.bl", "model aa00, this stream has model cc11", 3},
      {"another codebook", apply + "thr.json --in codes.bl", "codebook bb00, this stream has codebook dd22", 3},
      {"not a threshold", apply + "text.json --in cr.bl", "'text.json' is not JSON", 3},
      {"missing folder", "bl-threshold --fit --in cr.bl --save none/thr.json", "cannot create", 4},
  };
  for (const Case& c : cases) {
    const Outcome o = run(f, c.command);
    EXPECT_EQ(o.code, c.code) << c.what << ": " << o.err;
    EXPECT_NE(o.err.find(c.expected), std::string::npos) << c.what << ": " << o.err;
    EXPECT_EQ(std::count(o.err.begin(), o.err.end(), '\n'), 1) << c.what << ": " << o.err;
    EXPECT_FALSE(std::filesystem::exists(f / "new.json")) << c.what;
    EXPECT_FALSE(std::filesystem::exists(f / "new.bl")) << c.what;
    EXPECT_FALSE(std::filesystem::exists(f / "new.bl.part")) << c.what;
  }
  // A region without events is a result, not an error.
  const Outcome empty = run(f, apply + "thr.json --in empty.bl --report empty.json");
  EXPECT_EQ(empty.code, 0) << empty.err;
  EXPECT_EQ(nlohmann::json::parse(read_file(f / "empty.json"))["all"]["events"], 0);
}

TEST(Program, UnlabelledDataGiveCountsAndTheListAlone) {
  const Folder f;
  write_stream(f / "cr.bl", sample(800, 0.3, -2, 7));
  auto data = sample(500, 0.1, -2, 8);
  for (auto& e : data) e.process = "";
  write_stream(f / "data.bl", data, {false, 100, "aa00", "bb00"});
  ASSERT_EQ(run(f, "bl-threshold --fit --in cr.bl --save thr.json --bootstrap 20 --signal sig").code, 0);
  const Outcome o = run(f, "bl-threshold --with thr.json --in data.bl --out a.bl --report r.json");
  ASSERT_EQ(o.code, 0) << o.err;
  const auto report = nlohmann::json::parse(read_file(f / "r.json"));
  EXPECT_TRUE(report["comparison"].empty());
  EXPECT_TRUE(report["processes"].empty());
  EXPECT_GT(report["anomalies"].size(), 0u);
  EXPECT_GT(report["all"]["expected"].get<double>(), 0);
}

TEST(Program, ATrivialScoreCanBeCutOnToo) {
  const Folder f;
  write_stream(f / "cr.bl", sample(800, 0.3, -2, 7));
  write_stream(f / "sr.bl", sample(800, 0.3, -2, 9), {true, 100, "another model", "bb00"});
  ASSERT_EQ(run(f, "bl-threshold --fit --in cr.bl --save thr.json --bootstrap 20 --score n_objects").code, 0);
  EXPECT_EQ(nlohmann::json::parse(read_file(f / "thr.json"))["orientation"], "high");
  // It does not depend on a model, so that of the stream does not matter.
  const Outcome o = run(f, "bl-threshold --with thr.json --in sr.bl --out a.bl --bootstrap 20");
  EXPECT_EQ(o.code, 0) << o.err;
}

}  // namespace
