// Running segments: shell scripts stand in for stages.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/signals.hpp"
#include "plan/make.hpp"
#include "plan/process.hpp"
#include "plan/run.hpp"
#include "tests/plan/fixtures.hpp"

namespace bl::plan {
namespace {

using test::put;
using test::Scratch;

Process script(const std::string& stage, const std::string& body) {
  const std::string path = "./" + stage + ".sh";
  put(path, "#!/bin/bash\n" + body + "\n");
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  Process p;
  p.stage = stage;
  p.program = "script 1";
  p.path = path;
  p.hash = hex(hash_file(path));
  p.host = "localhost";
  return p;
}

Segment joined(std::vector<Process> processes) {
  Segment s;
  s.pipeline = "test";
  s.name = processes[0].stage;
  for (std::size_t i = 0; i + 1 < processes.size(); ++i) {
    processes[i].out = "pipe:e" + std::to_string(i);
    processes[i + 1].in = {"pipe:e" + std::to_string(i)};
  }
  for (const auto& p : processes) s.stages.push_back(p.stage);
  s.processes = std::move(processes);
  return s;
}

const Outcome& of(const Report& report, const std::string& stage) {
  for (const auto& o : report.outcomes)
    if (o.stage == stage) return o;
  throw std::logic_error("no outcome of " + stage);
}

// The value of --out in the script's arguments
const std::string kOut = "for a; do case $a in --out=*) out=${a#--out=};; --metrics=*) metrics=${a#--metrics=};; esac; done\n";

TEST(Run, ProcessesAreJoinedByPipes) {
  const Scratch scratch;
  auto s = joined({script("one", "seq 100000"), script("two", "sed 's/^/x/'"), script("three", kOut + "tail -1 > $out")});
  s.processes[2].out = "last.txt";
  s.outputs = {"last.txt"};
  const auto report = run_segment(s, "state/one.done");
  EXPECT_EQ(report.root, -1) << verdict(report, s) << table(report);
  EXPECT_EQ(read_file("last.txt"), "x100000\n");
}

TEST(Run, NothingRunsWhenNothingChanged) {
  const Scratch scratch;
  put("in.txt", "a");
  auto p = script("copy", kOut + "cat in.txt > $out; echo run >> log.txt");
  p.out = "out.txt";
  auto s = joined({p});
  s.processes[0].out = "out.txt";
  s.inputs = {{"in.txt", ""}};
  s.outputs = {"out.txt"};
  const auto runs = [] { return std::filesystem::exists("log.txt") ? read_file("log.txt").size() / 4 : 0; };

  EXPECT_FALSE(run_segment(s, "copy.done").unchanged);
  EXPECT_TRUE(run_segment(s, "copy.done").unchanged);
  EXPECT_EQ(runs(), 1u);

  std::filesystem::last_write_time("in.txt", std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_TRUE(run_segment(s, "copy.done").unchanged) << "a time stamp is not a change";

  put("in.txt", "b");
  EXPECT_FALSE(run_segment(s, "copy.done").unchanged) << "the input's content is";
  EXPECT_EQ(read_file("out.txt"), "b");

  s.processes[0].other_args = {"--threads=3"};
  EXPECT_TRUE(run_segment(s, "copy.done").unchanged) << "threads do not decide the result";
  s.processes[0].args = {"--mode=other"};
  EXPECT_FALSE(run_segment(s, "copy.done").unchanged) << "an option does";
  s.processes[0].hash = "another program";
  EXPECT_FALSE(run_segment(s, "copy.done").unchanged) << "the program does";

  put("out.txt", "tampered");
  EXPECT_FALSE(run_segment(s, "copy.done").unchanged) << "an output that was changed is made again";
  std::filesystem::remove("out.txt");
  EXPECT_FALSE(run_segment(s, "copy.done").unchanged);
  EXPECT_EQ(read_file("out.txt"), "b");
  EXPECT_EQ(runs(), 6u);
}

TEST(Run, AFolderIsAnOutputToo) {
  const Scratch scratch;
  auto p = script("report", kOut + "mkdir -p $out/figures; echo page > $out/page.html; cp in.txt $out/figures/a.txt; echo run >> log.txt");
  p.out = "out";
  auto s = joined({p});
  s.processes[0].out = "out";
  put("in.txt", "a");
  s.inputs = {{"in.txt", ""}};
  s.outputs = {"out"};
  EXPECT_FALSE(run_segment(s, "report.done").unchanged);
  EXPECT_TRUE(run_segment(s, "report.done").unchanged);
  put("out/figures/a.txt", "tampered");
  EXPECT_FALSE(run_segment(s, "report.done").unchanged) << "a file in it was changed";
  std::filesystem::remove("out/page.html");
  EXPECT_FALSE(run_segment(s, "report.done").unchanged) << "a file in it is gone";
  EXPECT_TRUE(run_segment(s, "report.done").unchanged);
  // make compares times of the folder: behind those of its inputs it would run for ever
  EXPECT_GE(std::filesystem::last_write_time("out"), std::filesystem::last_write_time("out/figures/a.txt"));
}

TEST(Run, AFolderIsAnInputToo) {
  const Scratch scratch;
  auto p = script("join", kOut + "cat parts/a.txt parts/b.txt > $out");
  p.out = "out.txt";
  auto s = joined({p});
  s.processes[0].out = "out.txt";
  s.uses = {"parts"};
  s.outputs = {"out.txt"};
  put("parts/a.txt", "a");
  put("parts/b.txt", "b");
  EXPECT_FALSE(run_segment(s, "join.done").unchanged);
  EXPECT_TRUE(run_segment(s, "join.done").unchanged);
  put("parts/b.txt", "c");
  EXPECT_FALSE(run_segment(s, "join.done").unchanged) << "a file in it was changed";
  EXPECT_EQ(read_file("out.txt"), "ac");
}

TEST(Run, TheRootCauseIsTheFirstCodeThatIsNoConsequence) {
  const Scratch scratch;
  auto s =
      joined({script("source", "while echo x; do :; done 2>/dev/null; exit 5"), script("middle", "read; exit 3"), script("sink", "cat >/dev/null; exit 6")});
  const auto report = run_segment(s, "s.done");
  ASSERT_GE(report.root, 0);
  EXPECT_EQ(report.outcomes[static_cast<std::size_t>(report.root)].stage, "middle");
  EXPECT_EQ(verdict(report, s), "segment 'source': root cause: stage 'middle' (script 1) ended with exit code 3 (bad input)");
  EXPECT_EQ(of(report, "sink").code, 6);
  EXPECT_FALSE(std::filesystem::exists("s.done"));
}

TEST(Run, DeathBySigpipeIsAConsequence) {
  const Scratch scratch;  // the first is reaped long before the second, which has closed its input and goes on
  auto s = joined({script("source", "kill -PIPE $$"), script("sink", "sleep 0.3; exit 4")});
  const auto report = run_segment(s, "s.done");
  ASSERT_EQ(report.root, 1) << table(report);
  EXPECT_EQ(report.outcomes[0].code, 141);
}

TEST(Run, AProcessThatWasKilledIsARootCause) {
  const Scratch scratch;
  auto s = joined({script("source", "kill -9 $$"), script("sink", "cat >/dev/null; exit 6")});
  const auto report = run_segment(s, "s.done");
  ASSERT_EQ(report.root, 0);
  EXPECT_EQ(report.outcomes[0].code, 137);
  EXPECT_NE(table(report).find("137 SIGKILL"), std::string::npos) << table(report);
}

TEST(Run, TheOthersAreStoppedAfterAFailure) {
  const Scratch scratch;
  auto s = joined({script("source", "sleep 60"), script("sink", "exit 4")});
  RunOptions options;
  options.settle = 0.2;
  const auto start = std::chrono::steady_clock::now();
  const auto report = run_segment(s, "s.done", options);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  ASSERT_EQ(report.root, 1);
  EXPECT_EQ(of(report, "source").code, 128 + SIGTERM);
  EXPECT_TRUE(of(report, "source").stopped);
}

TEST(Run, WhatIgnoresSigtermIsKilled) {
  const Scratch scratch;
  auto s = joined({script("stubborn", "trap '' TERM; while :; do sleep 0.05; done"), script("sink", "exit 1")});
  RunOptions options;
  options.settle = 0.1;
  options.grace = 0.3;
  const auto report = run_segment(s, "s.done", options);
  EXPECT_EQ(of(report, "stubborn").code, 137);
  EXPECT_EQ(report.root, 1);
}

TEST(Run, TimeIsALimit) {
  const Scratch scratch;
  auto s = joined({script("slow", "sleep 60")});
  s.processes[0].time = 1;
  const auto report = run_segment(s, "s.done");
  EXPECT_EQ(report.late, "slow");
  EXPECT_EQ(verdict(report, s), "segment 'slow': stage 'slow' ran longer than its time of 1 s and was stopped: raise `time`, or give it less to do");
}

TEST(Run, MemoryIsALimit) {
  const Scratch scratch;
  auto s = joined({script("greedy", "ulimit -v > limit.txt")});
  s.processes[0].memory = std::uint64_t{512} << 20;
  EXPECT_EQ(run_segment(s, "s.done").root, -1);
  EXPECT_EQ(read_file("limit.txt"), "524288\n");
}

TEST(Run, PrintedTextIsAFileThatIsWholeOrAbsent) {
  const Scratch scratch;
  auto good = joined({script("good", "echo report")});
  good.processes[0].stdout_file = "runs/report.txt";
  good.outputs = {"runs/report.txt"};
  EXPECT_EQ(run_segment(good, "g.done").root, -1);
  EXPECT_EQ(read_file("runs/report.txt"), "report\n");

  auto bad = joined({script("bad", "echo half; exit 1")});
  bad.processes[0].stdout_file = "runs/other.txt";
  bad.outputs = {"runs/other.txt"};
  EXPECT_EQ(run_segment(bad, "b.done").root, 0);
  EXPECT_FALSE(std::filesystem::exists("runs/other.txt"));
  EXPECT_FALSE(std::filesystem::exists("runs/other.txt.part"));
}

TEST(Run, AnOutputThatWasNotWrittenIsNoticed) {
  const Scratch scratch;
  auto s = joined({script("lazy", "exit 0")});
  s.outputs = {"never.bl"};
  try {
    run_segment(s, "s.done");
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "segment 'lazy' ended well but did not write 'never.bl': an option of its stages that turns this output on may be missing");
  }
}

TEST(Run, EventsAndBytesComeFromTheMetrics) {
  const Scratch scratch;
  auto s = joined({script("counted", kOut + R"(printf '{"events":7,"bytes":1,"t":0}\n{"done":true,"events":1000,"bytes":2000000,"seconds":1}\n' > $metrics)"),
                   script("plain", "cat > /dev/null")});
  s.processes[0].metrics = "run:";
  const auto report = run_segment(s, "s.done");
  EXPECT_TRUE(of(report, "counted").measured);
  EXPECT_EQ(of(report, "counted").events, 1000u);
  EXPECT_EQ(of(report, "counted").bytes, 2000000u);
  EXPECT_FALSE(of(report, "plain").measured);
}

TEST(Run, SocketsLiveInAFolderThatIsRemoved) {
  const Scratch scratch;
  auto s = joined({script("bound", kOut + "echo $out > where.txt; test -d $(dirname ${out#ipc://})")});
  s.processes[0].out = "ipc:edge.0?credit=4";
  EXPECT_EQ(run_segment(s, "s.done").root, -1);
  const auto where = read_file("where.txt");
  EXPECT_EQ(where.substr(0, 7), "ipc:///");
  EXPECT_NE(where.find("/edge.0?credit=4"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(std::filesystem::path(where.substr(6)).parent_path()));
}

TEST(Run, AnotherHostIsRefused) {
  const Scratch scratch;
  auto s = joined({script("far", "exit 0")});
  s.processes[0].host = "gpu1";
  try {
    run_segment(s, "s.done");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    EXPECT_NE(std::string(e.what()).find("stage 'far' has host = \"gpu1\""), std::string::npos);
  }
}

TEST(Run, AProgramThatCannotBeStartedIsNamed) {
  const Scratch scratch;
  auto s = joined({script("first", "sleep 60"), script("gone", "exit 0")});
  std::filesystem::remove("gone.sh");
  try {
    run_segment(s, "s.done");
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "cannot start './gone.sh': No such file or directory");
  }
}

// In a process of its own, because a signal that has arrived stays pending.
TEST(Run, ASignalReachesEveryProcess) {
  const Scratch scratch;
  const pid_t child = ::fork();
  if (child == 0) {
    signals::install();
    auto s = joined({script("source", "trap 'echo s >> got.txt; exit 143' TERM; while :; do sleep 0.02; done"),
                     script("sink", "trap 'echo t >> got.txt; exit 143' TERM; while :; do sleep 0.02; done")});
    const auto report = run_segment(s, "s.done");
    ::_exit(report.signal == SIGTERM && of(report, "source").code == 143 && of(report, "sink").code == 143 ? 0 : 1);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  ::kill(child, SIGTERM);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file("got.txt").size(), 4u);
}

TEST(Capture, ReturnsTheOutputOrSaysWhyNot) {
  const Scratch scratch;
  script("good", "echo \"$1\"");
  EXPECT_EQ(capture({"./good.sh", "--describe"}, 10), "--describe\n");
  script("bad", "exit 2");
  script("slow", "sleep 60");
  EXPECT_THROW(capture({"./bad.sh"}, 10), Error);
  try {
    capture({"./slow.sh", "--describe"}, 0.2);
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "'./slow.sh --describe' did not end within 0.2 s");
  }
}

}  // namespace
}  // namespace bl::plan
