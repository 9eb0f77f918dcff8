// The built program: files in, streams out, exit codes and sentences, on small files made here and on the real ones.
#include <unistd.h>

#include <cmath>
#include <map>
#include <set>

#include "schema/schema.hpp"
#include "store/h5.hpp"
#include "support.hpp"

namespace {

using namespace bl;
using bl::test::data_folder;
using bl::test::read_stream;

class Cli : public bl::test::Scratch {
 protected:
  // 500 events of a few objects, MeV
  std::string csv(const std::string& name, const std::string& process, int first, int count) const {
    std::string text;
    for (int i = first; i < first + count; ++i) {
      text += fmt::format("{};{};{};{};{};", 100 + i, process, 1.5, 1000 * (20 + i % 200), 0.01 * (i % 300));
      for (int k = 0; k <= i % 7; ++k)
        text += fmt::format("{},{},{},{},{};", k % 3 == 1 ? "b" : "j", 900'000, 1000 * (30 + (i * 7 + k * 13) % 100), 0.1 * k, 0.2 * k - 1);
      if (i % 4 == 0) text += "mu-,90000,40000,0.5,-2;";
      text += "\n";
    }
    return write(name, text);
  }
  void expect_no_output(const std::string& name) const {
    for (const auto& entry : test::fs::directory_iterator(folder_)) EXPECT_FALSE(entry.path().filename().string().starts_with(name)) << entry.path();
  }
};

TEST_F(Cli, ACsvFileBecomesAStreamWithoutARecipe) {
  const auto r = run("--in " + csv("in.csv", "tt", 0, 500) + " --out " + file("out.bl"));
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.err, "");
  const auto s = read_stream(file("out.bl"));
  EXPECT_EQ(s.hello.schema, "objects/1");
  EXPECT_EQ(s.events, 500u);
  EXPECT_EQ(s.hello.history.size(), 1u);
  EXPECT_EQ(s.hello.history[0]["stage"], "bl-preprocess");
  EXPECT_EQ(s.hello.history[0]["inputs"].size(), 1u);
  EXPECT_EQ(s.hello.meta["preprocess"]["inputs"][0]["units"], "MeV converted to GeV");
  const Batch all = s.all();
  schema::check(schema::get("objects/1"), all, "out.bl");
  for (std::uint32_t e = 0; e < 500; ++e) {
    ASSERT_EQ(all.get<std::uint64_t>("event_index")[e], e);
    ASSERT_EQ(all.get<std::uint64_t>("event_id")[e], 100 + e);
    ASSERT_EQ(all.get<double>("weight")[e], 1.5);
    ASSERT_EQ(all.get<float>("n_jets")[e], static_cast<float>(1 + e % 7));
    ASSERT_EQ(all.get<float>("n_leptons")[e], e % 4 == 0 ? 1.0f : 0.0f);
    ASSERT_FLOAT_EQ(all.get<float>("met")[e], static_cast<float>(20 + e % 200));
  }
  const auto o = all.get<std::uint32_t>("object_offsets");
  const auto pt = all.get<float>("pt");
  for (std::uint32_t e = 0; e < 500; ++e)
    for (auto i = o[e] + 1; i < o[e + 1]; ++i) ASSERT_GE(pt[i - 1], pt[i]);
}

TEST_F(Cli, SeveralFilesAreCountedThrough) {
  const auto r =
      run("--in " + csv("a.csv", "tt", 0, 100) + "," + csv("b.csv", "ww", 0, 50) + " --in " + csv("c.csv", "zz", 7, 30) + " --out " + file("out.bl"));
  EXPECT_EQ(r.code, 0) << r.err;
  const Batch all = read_stream(file("out.bl")).all();
  ASSERT_EQ(all.events, 180u);
  EXPECT_EQ(all.text("process", 99), "tt");
  EXPECT_EQ(all.text("process", 100), "ww");
  EXPECT_EQ(all.text("process", 179), "zz");
  for (std::uint32_t e = 0; e < 180; ++e) EXPECT_EQ(all.get<std::uint64_t>("event_index")[e], e);
}

TEST_F(Cli, TheSameDigestByPipeThreadsAndFormatOption) {
  std::string big;
  for (int k = 0; k < 60; ++k) big += read_file(csv("part.csv", "tt", k * 500, 500));
  const std::string in = write("in.csv", big);
  std::set<std::string> digests;
  for (const std::string& command :
       {program() + " --in " + in + " --out " + file("1.bl"), program() + " --in " + in + " --threads 3 --out " + file("2.bl"),
        program() + " --in " + in + " > " + file("3.bl"), "cat " + in + " | " + program() + " --format darkmachines --in - > " + file("4.bl"),
        program() + " --in " + in + " | " + program() + " --out " + file("5.bl")}) {
    const auto r = shell(command);
    EXPECT_EQ(r.code, 0) << command << "\n" << r.err;
  }
  for (const char* name : {"1.bl", "2.bl", "3.bl", "4.bl", "5.bl"}) {
    const auto s = read_stream(file(name));
    EXPECT_EQ(s.events, 30'000u) << name;
    digests.insert(s.digest.text());
  }
  EXPECT_EQ(digests.size(), 1u);
}

TEST_F(Cli, AFileThatIsNoneIsASentence) {
  const auto refused = [&](const std::string& arguments, int code) {
    const auto r = run(arguments + " --out " + file("out.bl"));
    EXPECT_EQ(r.code, code) << arguments << "\n" << r.err;
    EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
    expect_no_output("out.bl");
    return r.err;
  };
  EXPECT_HAS(refused("--in " + file("missing.csv"), 3), "No such file or directory");
  EXPECT_HAS(refused("--in " + folder_.string(), 3), "it is a folder");
  EXPECT_HAS(refused("--in " + write("empty.csv", ""), 3), "is empty");
  EXPECT_HAS(refused("--in " + write("blank.csv", "\n\n"), 3), "holds no events");
  EXPECT_HAS(refused("--in " + write("x.csv", "a,b,c\n1,2,3\n"), 3), "of no known format: its first line is 'a,b,c'");
  EXPECT_HAS(refused("--in " + write("x.root", "root\x01\x02"), 3), "is a ROOT file");
  EXPECT_HAS(refused("--in " + write("x.gz", "\x1f\x8b\x08"), 3), "compressed with gzip: use zcat");
  EXPECT_HAS(refused("--in " + write("x.parquet", "PAR1"), 3), "parquet");
  EXPECT_HAS(refused("--in " + write("x.bin", std::string_view("ab\0cd;;;;;", 10)), 3), "of no known format");
  EXPECT_HAS(refused("--in " + write("x.h5", "\x89HDF\r\n\x1a\nabc"), 3), "x.h5'");
  EXPECT_HAS(refused("--in " + csv("in.csv", "tt", 0, 5) + " --format cms", 3), "begins with '# event");
  EXPECT_HAS(refused("--in " + csv("in.csv", "tt", 0, 5) + " --format excel", 2), "excel");
  EXPECT_HAS(refused("--in " + csv("in.csv", "tt", 0, 5) + " --label one", 2), "--label must be a whole number");
  EXPECT_HAS(refused("--in " + csv("in.csv", "tt", 0, 5) + " --btag-cut x", 2), "--btag-cut must be a number");
  EXPECT_HAS(refused("--in " + csv("in.csv", "tt", 0, 5) + " --recipe " + write("r.toml", "sotr = 1"), 2), "unknown key 'sotr'");
  EXPECT_HAS(refused("--in " + csv("in.csv", "tt", 0, 5) + " --recipe " + file("no.toml"), 2), "No such file");
  EXPECT_HAS(refused("--in " + csv("in.csv", "tt", 0, 5) + " --select 'n_jet > 1'", 2), "did you mean 'n_jets'?");
}

TEST_F(Cli, BadValuesEndTheRunOrAreSkippedAndCounted) {
  const std::string good = read_file(csv("good.csv", "tt", 0, 20));
  const std::string in = write("in.csv", good + "7;tt;1;nan;0;\n" + good + "8;tt;1;5;0;x,1,1,1,1;\n");
  auto r = run("--in " + in + " --out " + file("out.bl"));
  EXPECT_EQ(r.code, 3);
  EXPECT_HAS(r.err, "in.csv', line 21, column 4 (MET): nan is not finite");
  expect_no_output("out.bl");
  r = run("--in " + in + " --skip-bad 1 --out " + file("out.bl"));
  EXPECT_EQ(r.code, 3);
  EXPECT_HAS(r.err, "line 42, object 1: 'x' is not known; known are j, b");
  expect_no_output("out.bl");
  r = run("--in " + in + " --skip-bad 2 --out " + file("out.bl"));
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_HAS(r.err, "skipped 2 bad lines or events");
  EXPECT_EQ(read_stream(file("out.bl")).events, 40u);
}

TEST_F(Cli, NoEventSelectedIsAnError) {
  const std::string in = csv("in.csv", "tt", 0, 200);
  auto r = run("--in " + in + " --select 'n_jets >= 50 && met > 30' --out " + file("out.bl"));
  EXPECT_EQ(r.code, 3);
  EXPECT_HAS(r.err, "no event is left: 0 of 200 events selected: 'n_jets >= 50' removed 200, 'met > 30' removed 11");
  expect_no_output("out.bl");
  // The same of a stream
  ASSERT_EQ(run("--in " + in + " --out " + file("s.bl")).code, 0);
  r = run("--in " + file("s.bl") + " --select 'n_jets >= 50' --out " + file("out.bl"));
  EXPECT_EQ(r.code, 3) << r.err;
  EXPECT_HAS(r.err, "no event is left");
  expect_no_output("out.bl");
}

TEST_F(Cli, ASmallSelectionIsJoinedToFullBatches) {
  std::string big;
  for (int k = 0; k < 40; ++k) big += read_file(csv("part.csv", "tt", k * 500, 500));
  const auto r = run("--in " + write("in.csv", big) + " --select 'n_jets == 7' --out " + file("out.bl"));
  EXPECT_EQ(r.code, 0) << r.err;
  const auto s = read_stream(file("out.bl"));
  EXPECT_EQ(s.events, 2857u);  // i % 7 == 6 for i below 20000
  EXPECT_EQ(s.batches.size(), 1u);
}

const char* const kRecipe = R"(
max_objects = 6
[feature.pt]
transform = ["log", "standardise"]
[feature.phi]
transform = ["sincos"]
[global.met]
transform = [{ step = "quantile_normal", knots = 51 }]
[fit]
train_fraction = 0.5
)";

TEST_F(Cli, FittedTransformsAreStoredReusedAndInverted) {
  const std::string in = csv("in.csv", "tt", 0, 500), other = csv("other.csv", "tt", 3, 300), recipe = write("r.toml", kRecipe);
  auto r = run("--in " + in + " --recipe " + recipe + " --save " + file("t.json") + " --out " + file("a.bl"));
  ASSERT_EQ(r.code, 0) << r.err;
  auto s = read_stream(file("a.bl"));
  EXPECT_EQ(s.hello.meta["transforms"].size(), 3u);
  EXPECT_TRUE(s.batches[0].has("feature_phi_cos"));
  // The same seed, the same fit; another seed, another training split
  ASSERT_EQ(run("--in " + in + " --recipe " + recipe + " --save " + file("again.json") + " --out " + file("b.bl")).code, 0);
  EXPECT_EQ(read_file(file("t.json")), read_file(file("again.json")));
  ASSERT_EQ(run("--in " + in + " --recipe " + recipe + " --seed 2 --save " + file("seed.json") + " --out " + file("c.bl")).code, 0);
  EXPECT_NE(read_file(file("t.json")), read_file(file("seed.json")));
  // Another file with the stored fit, also as a stream from a pipe
  ASSERT_EQ(run("--in " + other + " --recipe " + recipe + " --with " + file("t.json") + " --out " + file("d.bl")).code, 0);
  EXPECT_EQ(read_stream(file("d.bl")).hello.meta["transforms"], s.hello.meta["transforms"]);
  r = shell(program() + " --in " + other + " | " + program() + " --recipe " + recipe + " --with " + file("t.json") + " --out " + file("e.bl"));
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(read_stream(file("e.bl")).digest, read_stream(file("d.bl")).digest);
  // Fitting needs the input twice.
  r = shell(program() + " --in " + other + " | " + program() + " --recipe " + recipe + " --out " + file("f.bl"));
  EXPECT_EQ(r.code, 2);
  EXPECT_HAS(r.err, "fitting reads the input twice");
  // Back to physical values
  r = run("--invert --in " + file("a.bl") + " --out " + file("back.bl"));
  ASSERT_EQ(r.code, 0) << r.err;
  const auto back = read_stream(file("back.bl"));
  EXPECT_TRUE(back.hello.meta["transforms"].empty());
  EXPECT_EQ(back.hello.history.size(), 2u);
  const Batch a = s.all(), b = back.all();
  EXPECT_FALSE(b.has("feature_pt"));
  for (const char* column : {"pt", "phi", "met"}) {
    const auto x = a.get<float>(column), y = b.get<float>(column);
    ASSERT_EQ(x.size(), y.size());
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], 3e-5 * std::max(1.0f, std::abs(x[i]))) << column;
  }
  r = run("--invert --in " + file("back.bl") + " --out " + file("x.bl"));
  EXPECT_EQ(r.code, 3);
  EXPECT_HAS(r.err, "has no transforms to invert");
  r = run("--invert --recipe " + recipe + " --in " + file("a.bl") + " --out " + file("x.bl"));
  EXPECT_EQ(r.code, 2);
}

TEST_F(Cli, AFullDiskIsAWriteError) {
  const auto r = run("--in " + csv("in.csv", "tt", 0, 500) + " --out /dev/full");
  EXPECT_EQ(r.code, 4) << r.err;
}

TEST_F(Cli, JetnetFilesBecomeJetsOfTheirClass) {
  for (const char* name : {"g.hdf5", "t.hdf5"}) {
    store::Output out(file(name), false);
    out.write("particle_features", {2, 2, 4}, std::vector<float>{0.1f, 0.2f, 0.25f, 1, 0, 0, 0.5f, 1, 0, 0, 0.75f, 1, 0, 0, 0, 0});
    out.write("jet_features", {2, 4}, std::vector<float>{1000, 1, 80, 2, 1200, -1, 100, 1});
    out.commit();
  }
  const auto r = run("--in " + file("g.hdf5") + "," + file("t.hdf5") + " --out " + file("out.bl"));
  EXPECT_EQ(r.code, 0) << r.err;
  const auto s = read_stream(file("out.bl"));
  EXPECT_EQ(s.hello.schema, "particles/1");
  const Batch all = s.all();
  schema::check(schema::get("particles/1"), all, "out.bl");
  ASSERT_EQ(all.events, 4u);
  EXPECT_EQ(all.text("process", 1), "g");
  EXPECT_EQ(all.text("process", 2), "t");
  EXPECT_EQ(all.get<std::int32_t>("label")[3], 2);
  EXPECT_EQ(all.get<float>("pt")[0], 500.0f);  // sorted
  EXPECT_EQ(s.hello.meta["preprocess"]["inputs"][0]["format"], "jetnet");
  EXPECT_EQ(s.hello.meta["labels"]["2"], "t");
  const auto again = run("--in " + file("out.bl") + " --names a,b --out " + file("again.bl"));
  EXPECT_EQ(again.code, 2);
  EXPECT_HAS(again.err, "are for files of other formats");
}

TEST_F(Cli, JetsAndEventsDoNotMix) {
  {
    store::Output out(file("jets.h5"), false);
    out.write("offsets", std::vector<std::int64_t>{0, 1});
    for (const char* name : {"pt", "eta", "phi"}) out.write(name, std::vector<float>{1});
    out.commit();
  }
  const auto r = run("--in " + csv("in.csv", "tt", 0, 5) + "," + file("jets.h5") + " --out " + file("out.bl"));
  EXPECT_EQ(r.code, 2);
  EXPECT_HAS(r.err, "preprocess them apart");
}

// ---- real files ----

struct Read {
  std::uint64_t events = 0;
  std::map<std::string, std::uint64_t> by_process;
  std::map<std::int32_t, std::uint64_t> by_label;
  std::uint64_t entries = 0;
  Batch first;
};

class RealFiles : public Cli {
 protected:
  Read read(const std::string& arguments) {
    const auto r = run(arguments + " --out " + file("out.bl"));
    EXPECT_EQ(r.code, 0) << r.err;
    Read read;
    for (const auto& b : read_stream(file("out.bl")).batches) {
      read.events += b.events;
      for (std::uint32_t e = 0; e < b.events; ++e) {
        ++read.by_process[b.text("process", e)];
        if (b.has("label")) ++read.by_label[b.get<std::int32_t>("label")[e]];
      }
      read.entries += b.get<float>("pt").size();
      if (read.first.events == 0) read.first = b;
    }
    return read;
  }
};

TEST_F(RealFiles, DarkMachinesChannelOne) {
  const std::string folder = data_folder() + "/darkmachines/";
  NEED_DATA(folder);
  std::string all;
  for (const auto& entry : test::fs::directory_iterator(folder))
    if (entry.path().extension() == ".csv") all += (all.empty() ? "" : ",") + entry.path().string();
  const auto plain = read("--in " + all);
  test::fs::remove(file("out.bl"));
  // The cuts that define the channel hold for every event of it.
  const auto selected = read("--in " + all + " --recipe " + BEAMLINE_SOURCE_DIR "/pipelines/recipes/darkmachines_channel1.toml");
  EXPECT_EQ(selected.events, plain.events);
  EXPECT_EQ(selected.entries, plain.entries);
  test::fs::remove(file("out.bl"));
  if (const std::string sample = folder + "background_chan1_7.79_reduced.csv"; test::fs::exists(sample)) {
    const auto background = read("--in " + sample);
    EXPECT_EQ(background.events, 1000u);
    EXPECT_EQ(background.by_process.size(), 12u);
    EXPECT_FLOAT_EQ(background.first.get<float>("met")[0], 351.709f);
    EXPECT_FLOAT_EQ(background.first.get<float>("pt")[0], 506.951f);
  }
}

TEST_F(RealFiles, LhcOlympics) {
  const std::string folder = data_folder() + "/lhco/";
  NEED_DATA(folder + "lhco_rd_tiny_events.h5");
  const auto events = read("--in " + folder + "lhco_rd_tiny_events.h5");
  EXPECT_EQ(events.events, 1000u);
  EXPECT_EQ(events.by_label.at(0), 907u);
  EXPECT_EQ(events.by_label.at(1), 93u);
  EXPECT_EQ(events.by_process.at("signal"), 93u);
  EXPECT_EQ(events.entries, 169'742u);
  test::fs::remove(file("out.bl"));
  if (test::fs::exists(folder + "lhco_rd_tiny_jets_antikt10.h5")) {
    const auto jets = read("--in " + folder + "lhco_rd_tiny_jets_antikt10.h5");
    EXPECT_EQ(jets.events, 2000u);
    EXPECT_EQ(jets.entries, 112'118u);
    EXPECT_FLOAT_EQ(jets.first.get<float>("jet_mass")[2], 614.269f);
    EXPECT_EQ(jets.first.get<std::uint64_t>("event_id")[3], 1u);
  }
  test::fs::remove(file("out.bl"));
  if (test::fs::exists(folder + "lhco_rd_tiny_jets_antikt10.h5")) {
    // two jets an event; the file does not name its labels
    const auto jets = read("--in " + folder + "lhco_rd_tiny_jets_antikt10.h5 --names qcd,signal --select 'jet_pt > 0'");
    EXPECT_EQ(jets.by_process.at("qcd"), 1814u);
    EXPECT_EQ(jets.by_process.at("signal"), 186u);
  }
  test::fs::remove(file("out.bl"));
  const std::string official = folder + "events_anomalydetection_tiny.h5";
  if (!test::fs::exists(official)) return;
  if (!store::Input(official).info("df/block0_values").needs_filter.empty()) {
    const auto r = run("--in " + official + " --out " + file("blosc.bl"));
    EXPECT_EQ(r.code, 3);
    EXPECT_HAS(r.err, "compressed with the filter blosc (32001)");
    return;
  }
  // the converted copy holds the same events
  const auto same = read("--in " + official);
  EXPECT_EQ(same.events, 1000u);
  EXPECT_EQ(same.entries, 169'742u);
  EXPECT_EQ(same.by_label.at(1), 93u);
  EXPECT_EQ(same.first.get<float>("pt")[0], events.first.get<float>("pt")[0]);
}

TEST_F(RealFiles, SpanetTopPairs) {
  const std::string path = data_folder() + "/spanet/full_hadronic_ttbar_example.h5";
  NEED_DATA(path);
  const auto events = read("--in " + path + " --process ttbar");
  EXPECT_EQ(events.events, 10'000u);
  EXPECT_EQ(events.entries, 71'958u);
  EXPECT_EQ(events.by_process.at("ttbar"), 10'000u);
  EXPECT_FLOAT_EQ(events.first.get<float>("pt")[0], 86.79656f);
}

TEST_F(RealFiles, PythiaEventsAndTheAnomalySelection) {
  const std::string path = data_folder() + "/pythia/events.h5";
  NEED_DATA(path);
  const auto events = read("--in " + path + " --recipe " + BEAMLINE_SOURCE_DIR "/pipelines/recipes/anomaly.toml");
  EXPECT_EQ(events.events, 34'000u);
  EXPECT_EQ(events.entries, 258'861u);
  const std::map<std::string, std::uint64_t> want{{"tt", 3000}, {"ttH", 8000}, {"ttZlike", 6000}, {"ttWWlike", 8000}, {"ttA500", 5000}, {"T1tttt", 4000}};
  EXPECT_EQ(events.by_process, want);
}

TEST_F(RealFiles, PythiaJetsOfOneSplit) {
  const std::string path = data_folder() + "/pythia/jets.h5";
  NEED_DATA(path);
  const auto jets = read("--in " + path + " --select 'split == 2'");
  EXPECT_EQ(jets.events, 20'000u);
  const std::map<std::string, std::uint64_t> want{{"q", 5000}, {"g", 5000}, {"t->bqq", 5000}, {"H->bb", 5000}};
  EXPECT_EQ(jets.by_process, want);
  EXPECT_NEAR(jets.first.get<float>("jet_pt")[0], 521.668f, 1e-2);
}

TEST_F(RealFiles, CmsEventsAndJetClass) {
  const std::string cms = data_folder() + "/cms_hep_tutorial/zz.csv", jets = data_folder() + "/jetclass2/JetClassII_example_100jets.h5";
  NEED_DATA(cms);
  const auto events = read("--in " + cms + " --btag-cut 2 --select 'triggerIsoMu24 == 1'");
  EXPECT_GT(events.events, 1000u);
  EXPECT_LE(events.events, 2421u);
  test::fs::remove(file("out.bl"));
  EXPECT_EQ(read("--in " + cms + " --btag-cut 2").events, 2421u);
  test::fs::remove(file("out.bl"));
  NEED_DATA(jets);
  const auto j = read("--in " + jets);
  EXPECT_EQ(j.events, 100u);
  EXPECT_EQ(j.entries, 4529u);
  EXPECT_TRUE(j.first.has("d0_error"));
}

}  // namespace
