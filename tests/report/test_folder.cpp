// The folder of a report: shared by kinds, never half-written, nothing of others is lost.
#include "report/folder.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <functional>
#include <limits>

#include "base/error.hpp"
#include "support.hpp"

namespace {

using namespace bl;
using namespace bl::report;
using namespace bl::test;
namespace fs = std::filesystem;

Section section(const std::string& id, const std::string& figure) {
  Section s;
  s.id = id;
  s.title = id;
  s.figures = {histograms(id + "_" + figure)};
  return s;
}

std::string refusal(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::write);
    return e.what();
  }
  return "";
}

TEST(ReportFolder, KindsShareIt) {
  const Folder top;
  const std::string folder = top / "report";
  EXPECT_TRUE(write_report(folder + "/", section("generation", "mass"), {{"value", 1.5}}, false).empty());
  EXPECT_TRUE(write_report(folder, section("tokens", "codes"), {{"codes", 8}}, false).empty());
  const auto json = nlohmann::json::parse(read_file(folder + "/report.json"));
  EXPECT_EQ(json["format"], "beamline.report/1");
  EXPECT_EQ(json["generation"]["value"], 1.5);
  EXPECT_EQ(json["tokens"]["codes"], 8);
  const auto sections = sections_of(read_file(folder + "/report.html"));
  ASSERT_EQ(sections.size(), 2u);
  EXPECT_EQ(sections[0].id, "tokens");  // in the order of the chain
  for (const char* name : {"generation_mass", "tokens_codes"})
    for (const char* ending : {".svg", ".png", ".dat", ".gp"}) EXPECT_TRUE(fs::exists(folder + "/figures/" + name + ending)) << name << ending;
  EXPECT_FALSE(fs::exists(folder + ".part"));
}

TEST(ReportFolder, OneKindIsReplacedByForceAlone) {
  const Folder top;
  const std::string folder = top / "report";
  write_report(folder, section("generation", "mass"), {{"value", 1}}, false);
  write_report(folder, section("tokens", "codes"), {{"codes", 8}}, false);
  write_file(folder + "/notes.txt", "precious", false);
  const std::string before = read_file(folder + "/report.html");
  const std::string said = refusal([&] { write_report(folder, section("generation", "pt"), {{"value", 2}}, false); });
  EXPECT_NE(said.find("--force"), std::string::npos) << said;
  EXPECT_NE(said.find("generation"), std::string::npos) << said;
  EXPECT_EQ(read_file(folder + "/report.html"), before);
  write_report(folder, section("generation", "pt"), {{"value", 2}}, true);
  EXPECT_FALSE(fs::exists(folder + "/figures/generation_mass.svg"));
  EXPECT_TRUE(fs::exists(folder + "/figures/generation_pt.svg"));
  EXPECT_TRUE(fs::exists(folder + "/figures/tokens_codes.svg"));
  EXPECT_EQ(read_file(folder + "/notes.txt"), "precious");
  EXPECT_EQ(nlohmann::json::parse(read_file(folder + "/report.json"))["generation"]["value"], 2);
  EXPECT_EQ(sections_of(read_file(folder + "/report.html")).size(), 2u);
}

TEST(ReportFolder, RefusesWhatIsNotOurs) {
  const Folder top;
  write_file(top / "file", "precious", false);
  EXPECT_NE(refusal([&] { require_writable(top / "file", "tokens", true); }).find("no folder"), std::string::npos);
  EXPECT_NE(refusal([&] { require_writable(top / "none" + "/report", "tokens", true); }).find("none"), std::string::npos);
  fs::create_directory(top / "other");
  EXPECT_EQ(refusal([&] { require_writable(top / "other", "tokens", false); }), "");  // empty
  write_file(top / "other" + "/report.html", "<html></html>", false);
  EXPECT_NE(refusal([&] { require_writable(top / "other", "tokens", false); }).find("--force"), std::string::npos);
  write_report(top / "other", section("tokens", "codes"), nlohmann::json::object(), true);
  EXPECT_EQ(sections_of(read_file(top / "other" + "/report.html")).size(), 1u);
  // A damaged JSON file beside our page is not silently lost either.
  write_file(top / "other" + "/report.json", "{\"format\": ", true);
  EXPECT_NE(refusal([&] { require_writable(top / "other", "loss", false); }).find("--force"), std::string::npos);
}

TEST(ReportFolder, NothingIsLeftAfterAnError) {
  // No file may grow beyond a kilobyte, as on a disk that is full.
  struct rlimit before {};
  ::getrlimit(RLIMIT_FSIZE, &before);
  struct rlimit small = before;
  small.rlim_cur = 1000;
  ::signal(SIGXFSZ, SIG_IGN);
  const Folder top;
  write_report(top / "old", section("tokens", "codes"), {{"codes", 8}}, false);
  const std::string page = read_file(top / "old" + "/report.html");
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string fresh = refusal([&] { write_report(top / "report", section("tokens", "codes"), {}, false); });
  const std::string replaced = refusal([&] { write_report(top / "old", section("tokens", "other"), {}, true); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_NE(fresh, "");
  EXPECT_NE(replaced, "");
  EXPECT_FALSE(fs::exists(top / "report"));
  EXPECT_FALSE(fs::exists(top / "report.part"));
  EXPECT_FALSE(fs::exists(top / "old.part"));
  EXPECT_EQ(read_file(top / "old" + "/report.html"), page);
  EXPECT_TRUE(fs::exists(top / "old" + "/figures/tokens_codes.svg"));
}

TEST(ReportFolder, WarnsOnceWithoutGnuplot) {
  const Folder top, empty;
  const Path path(empty.path());
  Section s = section("tokens", "codes");
  s.figures.push_back(histograms("tokens_more"));
  const auto warnings = write_report(top / "report", s, nlohmann::json::object(), false);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("gnuplot-nox"), std::string::npos);
  EXPECT_TRUE(fs::exists(top / "report/figures/tokens_codes.dat"));
  EXPECT_NE(read_file(top / "report/report.html").find("No picture"), std::string::npos);
}

TEST(ReportFolder, NumbersThatJsonHasNot) {
  EXPECT_TRUE(number(std::nan("")).is_null());
  EXPECT_EQ(number(std::numeric_limits<double>::infinity()), "inf");
  EXPECT_EQ(number(-std::numeric_limits<double>::infinity()), "-inf");
  EXPECT_EQ(number(0.25), 0.25);
}

}  // namespace
