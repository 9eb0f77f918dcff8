// Figures: the table of numbers reads back as it was, gnuplot draws every style, and does not have to be there.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>

#include "report/table.hpp"
#include "support.hpp"

namespace {

using namespace bl;
using namespace bl::report;
using namespace bl::test;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// As numpy.loadtxt: what begins with # and empty lines are left out.
std::vector<std::vector<double>> numbers(const std::string& table) {
  std::vector<std::vector<double>> out;
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    auto& row = out.emplace_back();
    for (std::string word; words >> word;) row.push_back(std::stod(word));
  }
  return out;
}

TEST(Figure, TableReadsBackAsItWas) {
  Figure f;
  f.name = "lines";
  f.series.push_back({"a", Style::points, {0.1, 1.0 / 3, 1e-300}, {kNan, -2.5, kInfinity}, {-1, -3, 0}, {1, -2, 0.2}, -1});
  f.series.push_back({"b", Style::line, {7}, {8}, {}, {}, -1});
  const std::vector<std::vector<double>> expected{
      {0, 0.1, 0.1, 0.1, kNan, -1, 1}, {0, 1.0 / 3, 1.0 / 3, 1.0 / 3, -2.5, -3, -2}, {0, 1e-300, 1e-300, 1e-300, kInfinity, 0, 0.2}, {1, 7, 7, 7, 8, 8, 8}};
  const auto got = numbers(data_table(f));
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].size(), expected[i].size());
    for (std::size_t k = 0; k < got[i].size(); ++k)
      if (std::isnan(expected[i][k])) EXPECT_TRUE(std::isnan(got[i][k]));
      else EXPECT_EQ(got[i][k], expected[i][k]) << i << " " << k;
  }
  EXPECT_NE(data_table(f).find("# series 1: b\n"), std::string::npos);
}

TEST(Figure, RatioIsToTheFirstSeries) {
  const auto got = numbers(data_table(histograms("h")));
  ASSERT_EQ(got.size(), 6u);
  ASSERT_EQ(got[0].size(), 10u);
  // truth 10 ± 3 of 50 in a bin of width 1, sample 12 ± 3.5 of 40
  EXPECT_DOUBLE_EQ(got[0][4], 0.2);
  EXPECT_DOUBLE_EQ(got[0][7], 1);
  EXPECT_NEAR(got[0][8], 0.7, 1e-12);
  EXPECT_NEAR(got[0][9], 1.3, 1e-12);
  EXPECT_DOUBLE_EQ(got[3][4], 0.3);
  EXPECT_NEAR(got[3][7], 1.5, 1e-12);
  EXPECT_NEAR(got[3][8], 8.5 / 40 / 0.2, 1e-12);
  EXPECT_TRUE(std::isnan(got[4][7]));      // no truth in this bin
  EXPECT_DOUBLE_EQ(got[5][4], 26.0 / 80);  // of width 2
  EXPECT_EQ(got[5][2], 2);
  EXPECT_EQ(got[5][3], 4);
  EXPECT_EQ(got[5][1], 3);
}

TEST(Figure, GnuplotDrawsEveryStyle) {
  const Folder folder;
  std::vector<Figure> figures{histograms("histograms")};
  Figure log = histograms("logarithmic");
  log.x = {"x", Scale::log, 0.5, 4.0};
  log.y.scale = Scale::log;
  log.ratio = false;
  figures.push_back(log);
  Figure lines;
  lines.name = "lines_and-marks";
  lines.x = {"N'", Scale::log, {}, {}};
  lines.y = {"10^{3} events & more ~ {x} @", Scale::log, {}, {}};
  lines.text = {"W_{1} = 0.1 ± 0.2", "it's \\ here"};
  lines.legend = Corner::bottom_left;
  lines.series.push_back({"with band", Style::line, {1, 10, 100}, {3, 2, 1}, {2.5, 1.5, 0.5}, {3.5, 2.5, 1.5}, -1});
  lines.series.push_back({"points", Style::points, {1, 10, 100}, {1, kNan, 0}, {0.5, 0, -1}, {2, 0, 1}, -1});
  lines.series.push_back({"", Style::marks, {5}, {5}, {}, {}, 2});
  lines.series.push_back({"cloud", Style::cloud, {2, 3, 4, 5}, {1, 2, 1, 2}, {}, {}, -1});
  lines.series.push_back({"nothing", Style::line, {}, {}, {}, {}, -1});
  figures.push_back(lines);
  Figure flat;
  flat.name = "flat";
  flat.series.push_back({"all the same", Style::line, {2, 2}, {0, 0}, {}, {}, -1});
  figures.push_back(flat);
  Figure missing;
  missing.name = "missing";
  missing.series.push_back({"not a number", Style::points, {1, 2}, {kNan, kNan}, {}, {}, -1});
  figures.push_back(missing);
  for (const auto& f : figures) {
    const auto warning = write_figure(folder.path(), f);
    EXPECT_FALSE(warning) << f.name << ": " << *warning;
    const std::string svg = read_file(folder / (f.name + ".svg")), png = read_file(folder / (f.name + ".png"));
    EXPECT_NE(svg.find("</svg>"), std::string::npos) << f.name;
    EXPECT_EQ(png.substr(1, 3), "PNG") << f.name;
    EXPECT_GT(png.size(), 5000u) << f.name;
    EXPECT_EQ(read_file(folder / (f.name + ".dat")), data_table(f));
  }
  // What the names say is in the picture.
  EXPECT_NE(read_file(folder / "histograms.svg").find("a_model"), std::string::npos);
  // The same figure makes the same files.
  const std::string before = read_file(folder / "histograms.svg"), pixels = read_file(folder / "histograms.png");
  EXPECT_FALSE(write_figure(folder.path(), figures[0]));
  EXPECT_EQ(read_file(folder / "histograms.svg"), before);
  EXPECT_EQ(read_file(folder / "histograms.png"), pixels);
}

TEST(Figure, WithoutGnuplotTableAndScriptAreThere) {
  const Folder folder, empty;
  const Path path(empty.path());
  const auto warning = write_figure(folder.path(), histograms("h"));
  ASSERT_TRUE(warning);
  EXPECT_NE(warning->find("gnuplot-nox"), std::string::npos) << *warning;
  EXPECT_TRUE(std::filesystem::exists(folder / "h.dat"));
  EXPECT_TRUE(std::filesystem::exists(folder / "h.gp"));
  EXPECT_FALSE(std::filesystem::exists(folder / "h.svg"));
}

TEST(Figure, GnuplotThatFailsLeavesNoHalfPicture) {
  const Folder folder, programs;
  write_file(programs / "gnuplot", "#!/bin/sh\necho '<svg' > h.svg\necho 'line 3: no such terminal' >&2\nexit 1\n", true);
  std::filesystem::permissions(programs / "gnuplot", std::filesystem::perms::owner_all);
  const Path path(programs.path() + ":/bin:/usr/bin");
  const auto warning = write_figure(folder.path(), histograms("h"));
  ASSERT_TRUE(warning);
  EXPECT_NE(warning->find("no such terminal"), std::string::npos) << *warning;
  EXPECT_FALSE(std::filesystem::exists(folder / "h.svg"));
  EXPECT_TRUE(std::filesystem::exists(folder / "h.dat"));
}

TEST(Text, InOtherNotations) {
  EXPECT_EQ(gnuplot_text("p_{T} of a_b, it's {x} 10^{-3}"), "p_{T} of a\\_b, it''s \\{x\\} 10^{-3}");
  EXPECT_EQ(html_text("p_{T} < 3 & \"x\" 10^{2}"), "p<sub>T</sub> &lt; 3 &amp; &quot;x&quot; 10<sup>2</sup>");
  EXPECT_EQ(plain_text("p_{T} 10^{-3} a_b"), "pT 10^-3 a_b");
  EXPECT_EQ(html_text("left open _{a"), "left open _{a");
  EXPECT_EQ(html_text("<script>"), "&lt;script&gt;");
}

TEST(Text, Numbers) {
  EXPECT_EQ(with_error(0.12345, 0.0067), "0.1235 ± 0.0067");
  EXPECT_EQ(with_error(1234.4, 56), "1234 ± 56");
  EXPECT_EQ(with_error(4.53e-4, 1.1e-5), "(4.53 ± 0.11)·10^{-4}");
  EXPECT_EQ(with_error(0.5, kNan), "0.5");
  EXPECT_EQ(with_error(kInfinity, kNan), "inf");
  EXPECT_EQ(with_error(kNan, 1), "-");
  EXPECT_EQ(shown(26812.3, 3), "26,800");
  EXPECT_EQ(shown(0.00012345, 3), "0.000123");
  EXPECT_EQ(fixed(-0.04, 1), "0.0");
  EXPECT_EQ(fixed(-0.06, 1), "-0.1");
  EXPECT_EQ(amount(1234567), "1,234,567");
  EXPECT_EQ(amount(-1234), "-1,234");
  EXPECT_EQ(amount(12.5), "12.5");
}

TEST(Table, ColumnsOfATerminalAndOfAPage) {
  const Table t{"Title", {"name", "W_{1}"}, {{"τ_{21}", "0.1"}, {"mass", "12.25"}, {"short"}}, 1, "a note"};
  EXPECT_EQ(t.text(), "Title\n  name      W1\n  τ21      0.1\n  mass   12.25\n  short\n  a note\n");
  const std::string html = t.html();
  EXPECT_NE(html.find("<td class=\"left\">τ<sub>21</sub></td><td>0.1</td>"), std::string::npos) << html;
  EXPECT_NE(html.find("<td class=\"left\">short</td><td></td>"), std::string::npos) << html;
}

}  // namespace
