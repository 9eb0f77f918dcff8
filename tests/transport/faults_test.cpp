// Streams of real processes that are killed, frozen and started again: nothing is lost, doubled or altered.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>

#include "processes.hpp"

namespace bl::test {
namespace {

const std::string kRole = STREAM_ROLE;

// Seconds of fault injection; BEAMLINE_FAULT_SECONDS lengthens it and BEAMLINE_FAULT_SEED varies it, for a soak.
double fault_seconds(double usual) {
  const char* text = std::getenv("BEAMLINE_FAULT_SECONDS");
  return text ? std::atof(text) : usual;
}

struct Chain {
  Folder folder;
  std::map<std::string, Process> all;
  std::string batches;

  std::vector<std::string> role(const std::string& name, std::vector<std::string> args) {
    args.insert(args.begin(), {kRole});
    args.push_back("batches=" + batches);
    (void)name;
    return args;
  }
  void start(const std::string& name, std::vector<std::string> args) { all.emplace(name, Process(role(name, std::move(args)), folder / (name + ".log"))); }
  std::string logs() {
    std::string out;
    for (auto& [name, p] : all) out += "--- " + name + "\n" + p.log();
    return out;
  }
};

std::string kind_of(const std::string& name) { return name[0] == 'w' ? "worker" : name; }
std::string digest_of(const std::string& line) { return line.substr(line.rfind(' ') + 1); }

// The digest of an unbroken run over the same batches.
std::string unbroken(const std::string& batches, const std::string& bytes) {
  Chain c;
  c.batches = batches;
  c.start("source", {"source", "-", "ipc://" + (c.folder / "s"), "bytes=" + bytes});
  c.start("worker", {"worker", "ipc://" + (c.folder / "s"), "ipc://" + (c.folder / "w"), "bytes=" + bytes});
  c.start("sink", {"sink", "ipc://" + (c.folder / "w"), c.folder / "out", "bytes=" + bytes});
  EXPECT_EQ(c.all.at("sink").wait(30s), 0) << c.logs();
  EXPECT_EQ(c.all.at("worker").wait(10s), 0) << c.logs();
  EXPECT_EQ(c.all.at("source").wait(10s), 0) << c.logs();
  return digest_of(content(c.folder / "out"));
}

void faults(int workers, bool tcp, double seconds, unsigned seed, bool stop_sink) {
  const std::string batches = std::to_string(static_cast<int>(seconds * 250)), bytes = "60000";
  Chain c;
  c.batches = batches;
  std::vector<std::string> ends;
  const auto end_of = [&](const std::string& name) { return tcp ? "tcp://127.0.0.1:" + free_port() : "ipc://" + (c.folder / name); };
  const std::string source = end_of("s");
  std::string inputs;
  c.start("source", {"source", "-", source, "bytes=" + bytes, "delay=2000"});
  for (int i = 0; i < workers; ++i) {
    const auto name = "w" + std::to_string(i), end = end_of(name);
    inputs += (i ? "," : "") + end;
    c.start(name, {"worker", source, end, "bytes=" + bytes, "delay=1000"});
  }
  c.start("sink", {"sink", inputs, c.folder / "out", "bytes=" + bytes});

  const char* other_seed = std::getenv("BEAMLINE_FAULT_SEED");
  std::mt19937 random(other_seed ? static_cast<unsigned>(std::atoi(other_seed)) : seed);
  std::map<std::string, int> injected;
  std::string last_killed;
  const auto begin = Clock::now();
  std::map<std::string, Clock::time_point> wake;
  auto next = begin + 200ms;
  const auto limit = begin + std::chrono::milliseconds(static_cast<long>(seconds * 4000 + 60000));
  while (c.all.at("sink").running() && Clock::now() < limit) {
    sleep_for(5ms);
    const auto now = Clock::now();
    for (auto& [name, at] : wake)
      if (at <= now) c.all.at(name).signal(SIGCONT);
    std::erase_if(wake, [&](const auto& w) { return w.second <= now; });
    for (auto& [name, p] : c.all)
      if (name != "sink" && !p.running() && c.all.at("sink").running()) {
        ASSERT_TRUE(p.wait(0s) == 128 + SIGKILL || p.wait(0s) == 0) << name << " ended with " << p.wait(0s) << "\n" << c.logs();
        if (p.wait(0s) != 0) p.start();
      }
    if (now < next || now - begin > std::chrono::duration<double>(seconds)) continue;
    next = now + std::chrono::milliseconds(150 + random() % 300);
    std::vector<std::string> names;
    for (auto& [name, p] : c.all)
      if (p.running() && !wake.contains(name)) names.push_back(name);
    if (names.empty()) continue;  // all are frozen
    const auto name = names[random() % names.size()];
    if (random() % 4 == 0 && (name != "sink" || stop_sink)) {
      c.all.at(name).signal(SIGSTOP);
      wake[name] = now + (random() % 2 ? 100ms : 2300ms);
      ++injected[kind_of(name) + " freeze"];
    } else if (name != "sink") {
      c.all.at(name).signal(SIGKILL);
      last_killed = name;
      ++injected[kind_of(name) + " kill -9"];
    }
  }
  for (auto& [name, at] : wake) c.all.at(name).signal(SIGCONT);
  ASSERT_EQ(c.all.at("sink").wait(1s), 0) << c.logs();
  // A source that is killed while the sink ends has nobody left to confirm its END to it: it stays killed.
  const int source_code = c.all.at("source").wait(40s);
  EXPECT_TRUE(source_code == 0 || (source_code == 128 + SIGKILL && last_killed == "source")) << source_code << "\n" << c.logs();
  const auto line = content(c.folder / "out");
  EXPECT_NE(line.find("lost 0 doubled 0 altered 0 disorder 0"), std::string::npos) << line;
  EXPECT_EQ(digest_of(line), unbroken(batches, bytes));
  int total = 0;
  std::string what;
  for (const auto& [kind, n] : injected) {
    total += n;
    what += " " + kind + " " + std::to_string(n);
  }
  ::testing::Test::RecordProperty("faults", total);
  std::printf("%d faults:%s; %s", total, what.c_str(), line.c_str());
  EXPECT_GE(total, static_cast<int>(seconds)) << "too few faults to mean anything";
}

TEST(Faults, KillAndFreezeEveryRoleIpc) { faults(3, false, fault_seconds(7), 11, true); }
TEST(Faults, KillAndFreezeEveryRoleTcp) { faults(2, true, fault_seconds(6), 12, true); }
TEST(Faults, OneMiddleStageKilledAndStartedAgain) { faults(1, false, fault_seconds(5), 13, false); }

}  // namespace
}  // namespace bl::test
