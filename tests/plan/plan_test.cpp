// Checking and cutting of pipelines. broken/NAME.toml are pipelines with one fault each; their first lines say what must
// come out: "#! sentence" is a whole line of the error, "#? text" a part of it, FILE the pipeline's path.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "base/error.hpp"
#include "plan/make.hpp"
#include "tests/plan/fixtures.hpp"

namespace bl::plan {
namespace {

using test::put;
using test::Scratch;

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) text.replace(at, what.size(), with);
  return text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

Plan planned(const std::string& text) { return make_plan(parse_pipeline(text, "p.toml"), test::described); }

std::string complaint(const std::string& text) {
  try {
    planned(text);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    return e.what();
  }
  return "";
}

TEST(Plan, AReportIsAFolderOfItsOwn) {
  const Scratch scratch;
  put("truth.bl", "x");
  const Plan plan = planned("[stage.r]\nrun = \"bl-report\"\nreference = \"truth.bl\"\nout = \"runs/report\"\n");
  ASSERT_EQ(plan.segments.size(), 1u);
  EXPECT_EQ(plan.segments[0].outputs, std::vector<std::string>{"runs/report"});
  EXPECT_NE(complaint("[stage.r]\nrun = \"bl-report\"\nout = \"runs/report\"\n"), "") << "nothing comes in";
}

TEST(Plan, AFileInAFolderWaitsForTheFolder) {
  const Scratch scratch;
  put("truth.bl", "x");
  const Plan plan = planned(
      "[stage.read]\nrun = \"bl-read\"\nin = [\"runs/report/deep/a.csv\", \"runs/report/b.csv\"]\nout = \"read.bl\"\n"
      "[stage.report]\nrun = \"bl-report\"\nreference = \"truth.bl\"\nout = \"runs/report\"\n");
  ASSERT_EQ(plan.segments.size(), 2u);
  EXPECT_EQ(plan.segments[0].name, "report");
  EXPECT_EQ(plan.segments[1].uses, std::vector<std::string>{"runs/report"});
  EXPECT_TRUE(plan.segments[1].inputs.empty());
  const std::string drawn = graph(plan);
  EXPECT_EQ(drawn.find("b.csv"), std::string::npos) << drawn;
  EXPECT_NE(complaint("[stage.read]\nrun = \"bl-read\"\nin = \"runs/reports/a.csv\"\nout = \"read.bl\"\n"
                      "[stage.report]\nrun = \"bl-report\"\nreference = \"truth.bl\"\nout = \"runs/report\"\n"),
            "")
      << "a name that only begins alike";
}

class Broken : public testing::TestWithParam<std::string> {};

TEST_P(Broken, IsRefusedWithTheSentence) {
  const Scratch scratch;
  const std::string path = test::source("broken/" + GetParam() + ".toml");
  std::multiset<std::string> whole;
  std::vector<std::string> parts;
  for (const auto& line : lines_of(read_file(path))) {
    if (line.substr(0, 3) == "#! ") whole.insert(replaced(line.substr(3), "FILE", path));
    if (line.substr(0, 3) == "#? ") parts.push_back(replaced(line.substr(3), "FILE", path));
  }
  ASSERT_FALSE(whole.empty() && parts.empty()) << "the fixture does not say what is expected";
  try {
    make_plan(read_pipeline(path), test::described);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    const auto lines = lines_of(e.what());
    if (!whole.empty()) {
      EXPECT_EQ(std::multiset<std::string>(lines.begin(), lines.end()), whole);
    }
    for (const auto& part : parts) EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    return;
  }
  FAIL() << "was accepted";
}

std::vector<std::string> broken_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(test::source("broken"))) names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Pipelines, Broken, testing::ValuesIn(broken_names()), [](const auto& test) { return test.param; });

TEST(Read, MissingFileIsBadInput) {
  try {
    read_pipeline("nowhere.toml");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_NE(std::string(e.what()).find("nowhere.toml"), std::string::npos);
  }
}

TEST(Read, KeepsTheOrderOfTheFile) {
  const auto p =
      parse_pipeline("[stage.z]\nrun='bl-make'\n[stage.a]\nrun='bl-turn'\n[edge.y]\nfrom='z'\nto='a'\n[edge.b]\nfrom='a'\nto='z'\n", "dir/chain.toml");
  EXPECT_EQ(p.name, "chain");
  EXPECT_EQ(p.stages[0].name, "z");
  EXPECT_EQ(p.stages[1].name, "a");
  EXPECT_EQ(p.edges[0].name, "y");
}

TEST(Read, Resources) {
  const auto p = parse_pipeline("[stage.a]\nrun='bl-make'\nmemory='4G'\ntime='90m'\nworkers=3\ncores=2\nhost='node7'\n", "p.toml");
  EXPECT_EQ(p.stages[0].memory, std::uint64_t{4} << 30);
  EXPECT_EQ(p.stages[0].time, 5400u);
  EXPECT_EQ(p.stages[0].workers, 3);
  EXPECT_EQ(p.stages[0].cores, 2);
  EXPECT_EQ(p.stages[0].host, "node7");
}

const char* const kChain = R"(
seed = 7
[stage.make]
run = "bl-make"
events = 10
[stage.fit]
run = "bl-turn"
in = "runs/objects.bl"
save = "runs/tok.h5"
[stage.turn]
run = "bl-turn"
with = "runs/tok.h5"
workers = 2
share = 0.25
extras = ["met", "ht"]
deep = true
[stage.learn]
run = "bl-learn"
save = "runs/model.h5"
seed = 9
stdout = "runs/report.txt"
[stage.again]
run = "bl-pass"
in = "runs/objects.bl"
[edge.file]
from = "make"
to = "fit"
via = "file"
path = "runs/objects.bl"
[edge.in]
from = "again"
to = "turn"
via = "ipc"
credit = 4
[edge.out]
from = "turn"
to = "learn"
via = "tcp"
port = 5555
)";

TEST(Cut, FilesSeparateAndStreamsJoin) {
  const Scratch scratch;
  const auto plan = planned(kChain);
  ASSERT_EQ(plan.segments.size(), 3u);
  EXPECT_EQ(plan.segments[0].stages, (std::vector<std::string>{"make"}));
  EXPECT_EQ(plan.segments[1].stages, (std::vector<std::string>{"fit"}));
  EXPECT_EQ(plan.segments[2].stages, (std::vector<std::string>{"again", "turn", "learn"})) << "sources come first";
  EXPECT_EQ(plan.segments[2].uses, (std::vector<std::string>{"runs/objects.bl", "runs/tok.h5"}));
  EXPECT_EQ(plan.segments[2].outputs, (std::vector<std::string>{"runs/model.h5", "runs/report.txt"}));
  EXPECT_EQ(plan.segments[2].reports, (std::vector<std::string>{"runs/report.txt"}));
  EXPECT_TRUE(plan.segments[2].inputs.empty());
}

TEST(Cut, OptionsBecomeArguments) {
  const Scratch scratch;
  const auto plan = planned(kChain);
  const auto& turn = plan.segments[2].processes[1];
  EXPECT_EQ(turn.args, (std::vector<std::string>{"--with=runs/tok.h5", "--share=0.25", "--extras=met", "--extras=ht", "--deep"}));
  EXPECT_EQ(turn.other_args, (std::vector<std::string>{"--force", "--quiet"})) << "a process that is not alone must not draw";
  EXPECT_EQ(plan.segments[1].processes[0].other_args, (std::vector<std::string>{"--force"}));
  EXPECT_EQ(plan.segments[0].processes[0].args, (std::vector<std::string>{"--events=10", "--seed=7"})) << "the pipeline's seed";
  EXPECT_EQ(plan.segments[2].processes[3].args, (std::vector<std::string>{"--save=runs/model.h5", "--seed=9"})) << "the stage's own seed";
}

TEST(Cut, WorkersGetSocketsOfTheirOwn) {
  const Scratch scratch;
  const auto segment = planned(kChain).segments[2];
  ASSERT_EQ(segment.processes.size(), 4u);
  EXPECT_EQ(segment.processes[0].out, "ipc:in.0?peers=2&credit=4");
  EXPECT_EQ(segment.processes[1].in, (std::vector<std::string>{"ipc:in.0?credit=4"}));
  EXPECT_EQ(segment.processes[2].in, (std::vector<std::string>{"ipc:in.0?credit=4"}));
  EXPECT_EQ(segment.processes[1].out, "tcp://127.0.0.1:5555");
  EXPECT_EQ(segment.processes[2].out, "tcp://127.0.0.1:5556");
  EXPECT_EQ(segment.processes[3].in, (std::vector<std::string>{"tcp://127.0.0.1:5555", "tcp://127.0.0.1:5556"}));
}

TEST(Cut, AnOutputFileThatIsAnInputFileIsADependency) {
  const Scratch scratch;
  const auto plan = planned("[stage.use]\nrun='bl-turn'\nin='here.bl'\nwith='t.h5'\nout='u.bl'\n[stage.fit]\nrun='bl-turn'\nin='here.bl'\nsave='./t.h5'\n");
  ASSERT_EQ(plan.segments.size(), 2u);
  EXPECT_EQ(plan.segments[0].name, "fit") << "it is declared second, but has to run first";
  EXPECT_EQ(plan.segments[1].uses, (std::vector<std::string>{"t.h5"}));
  EXPECT_EQ(plan.segments[1].inputs.count("here.bl"), 1u);
}

TEST(Cut, APartIsTheFileBeforeItsFraction) {
  const Scratch scratch;
  const auto plan =
      planned("[stage.s]\nrun='bl-parts'\nin='here.bl'\nparts=['runs/a.bl=0.6','runs/b.bl=0.4']\n[stage.t]\nrun='bl-turn'\nin='runs/b.bl'\nout='t.bl'\n");
  ASSERT_EQ(plan.segments.size(), 2u);
  EXPECT_EQ(plan.segments[0].outputs, (std::vector<std::string>{"runs/a.bl", "runs/b.bl"}));
  EXPECT_EQ(plan.segments[0].processes[0].args, (std::vector<std::string>{"--parts=runs/a.bl=0.6", "--parts=runs/b.bl=0.4"}));
  EXPECT_EQ(plan.segments[1].uses, (std::vector<std::string>{"runs/b.bl"}));
}

TEST(Cut, PatternsStandForFilesThatExistAndFilesThatAreMade) {
  const Scratch scratch;
  put("data/b.csv", "");
  put("data/a.csv", "");
  const auto plan = planned("[stage.m]\nrun='bl-make'\nevents=1\nout='data/c.csv'\n[stage.r]\nrun='bl-read'\nin='data/*.csv'\nout='r.bl'\n");
  EXPECT_EQ(plan.segments[1].processes[0].in, (std::vector<std::string>{"data/a.csv", "data/b.csv", "data/c.csv"}));
}

TEST(Cut, CoresAreThreadsAndDoNotDecideTheResult) {
  const Scratch scratch;
  const auto plan = planned("[stage.r]\nrun='bl-read'\nin='here.csv'\nout='r.bl'\ncores=2\n");
  EXPECT_TRUE(plan.segments[0].processes[0].args.empty());
  EXPECT_EQ(plan.segments[0].processes[0].other_args, (std::vector<std::string>{"--threads=2", "--force"}));
}

TEST(Cut, AllFaultsAreReportedAtOnce) {
  const Scratch scratch;
  const auto text =
      complaint("[stage.a]\nrun='bl-make'\nevnts=1\nout='a.bl'\n[stage.b]\nrun='bl-nothing'\n[stage.c]\nrun='bl-turn'\nin='gone.bl'\nout='c.bl'\n");
  EXPECT_EQ(lines_of(text).size(), 4u) << text;
}

TEST(Segment, JsonRoundTrip) {
  const Scratch scratch;
  for (const auto& segment : planned(kChain).segments) EXPECT_EQ(to_json(segment_from_json(to_json(segment), "x.json")), to_json(segment));
}

TEST(Segment, AnythingElseIsRefused) {
  try {
    segment_from_json(nlohmann::json{{"segment", "a"}}, "x.json");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_NE(std::string(e.what()).find("x.json: is not a segment written by bl-plan"), std::string::npos);
  }
}

std::filesystem::file_time_type time_of(const std::string& path) { return std::filesystem::last_write_time(path); }

TEST(Make, ASegmentFileChangesOnlyWithItsContent) {
  const Scratch scratch;
  const std::string text = "[stage.a]\nrun='bl-read'\nin='here.csv'\nout='a.bl'\n[stage.b]\nrun='bl-turn'\nin='a.bl'\nout='b.bl'\nmode='one'\n";
  auto plan = planned(text);
  write_segments(plan, "state");
  const auto a = time_of("state/a.json"), b = time_of("state/b.json");

  plan = planned(text);
  write_segments(plan, "state");
  EXPECT_EQ(time_of("state/a.json"), a);
  EXPECT_EQ(time_of("state/b.json"), b);

  plan = planned(replaced(text, "mode='one'", "mode='each'"));
  write_segments(plan, "state");
  EXPECT_EQ(time_of("state/a.json"), a) << "it does not depend on b's option";
  EXPECT_NE(read_file("state/b.json").find("--mode=each"), std::string::npos);

  const auto hash = plan.segments[0].inputs.at("here.csv");
  put("here.csv", "others");  // as long as before
  plan = planned(text);
  write_segments(plan, "state");
  EXPECT_NE(plan.segments[0].inputs.at("here.csv"), hash) << "the content counts";

  put("state/gone.json", "{}");
  write_segments(plan, "state");
  EXPECT_FALSE(std::filesystem::exists("state/gone.json")) << "a stage that was removed leaves nothing behind";
}

TEST(Make, OneRuleASegment) {
  const Scratch scratch;
  const auto rules = make_rules(planned(kChain), "build/plan/p", "bin/bl-run");
  EXPECT_NE(rules.find("build/plan/p/make.done runs/objects.bl &: build/plan/p/make.json\n\t@$(RUN) bin/bl-run --in build/plan/p/make.json\n"),
            std::string::npos)
      << rules;
  EXPECT_NE(rules.find("build/plan/p/again.done runs/model.h5 runs/report.txt &: build/plan/p/again.json runs/objects.bl runs/tok.h5\n"), std::string::npos)
      << rules;
  EXPECT_NE(rules.find("plan.reports := \\\n  runs/report.txt\n"), std::string::npos) << rules;
}

TEST(Graph, ShowsStagesFilesAndStreams) {
  const Scratch scratch;
  const auto text = graph(planned(kChain));
  EXPECT_EQ(text.substr(0, 13), "flowchart LR\n");
  EXPECT_NE(text.find("stage_turn[\"turn<br/>bl-turn x 2\"]"), std::string::npos) << text;
  EXPECT_NE(text.find("stage_turn -- \"tcp\" --> stage_learn"), std::string::npos) << text;
  EXPECT_NE(text.find("[(\"runs/tok.h5\")]"), std::string::npos) << text;
}

TEST(Describe, RefusesWhatIsNotADescription) {
  for (const char* text : {"name = ", "name = \"x\"", "name = \"x\"\nversion = \"1\"\n[[option]]\ntype = \"int\"\n"}) {
    try {
      parse_description(text, "bl-x");
      ADD_FAILURE() << "accepted: " << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::failed);
      EXPECT_EQ(std::string(e.what()).find("bl-x --describe"), 0u) << e.what();
    }
  }
}

}  // namespace
}  // namespace bl::plan
