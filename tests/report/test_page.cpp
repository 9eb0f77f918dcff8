// Pages: what is on them, and that sections are found again.
#include "report/page.hpp"

#include <gtest/gtest.h>

#include "support.hpp"

namespace {

using namespace bl;
using namespace bl::report;
using namespace bl::test;

Section section(const std::string& id) {
  Section s;
  s.id = id;
  s.title = "A & B";
  s.summary = "p_{T} < 5";
  s.headlines = {{"AUC", "0.5 ± 0.1", "of 0.5"}};
  s.figures = {histograms(id + "_mass")};
  s.tables = {{"Numbers", {"a", "b"}, {{"1", "2"}}, 1, ""}};
  s.notes = {"mind the gap"};
  s.origins = {{"truth", "jets.bl", nlohmann::json::parse(R"([{"stage": "bl-simulate", "seed": 7, "version": "1", "host": "none",
    "options": {"label": ["top", "qcd"], "force": true, "name": "two words", "empty": ""}, "inputs": [{"path": "in.bl", "hash": "ab"}]}, 5])")}};
  return s;
}

TEST(Page, ShowsEverything) {
  const Folder folder;
  ASSERT_FALSE(write_figure(folder.path(), histograms("tokens_mass")));
  const std::string html = page_html("A report", {{"tokens", section_html(section("tokens"), folder.path())}});
  for (const char* part : {"<h2>A &amp; B</h2>", "p<sub>T</sub> &lt; 5", "0.5 ± 0.1", "<svg viewBox=\"0 0 460 430\"", "mind the gap",
                           "bl-simulate --force --label top,qcd --name &#39;two words&#39; --seed 7", "read in.bl (ab)", "<td class=\"left\">1</td>"})
    EXPECT_NE(html.find(part), std::string::npos) << part;
  // The picture takes the page's colours, and has no names that another picture has.
  EXPECT_EQ(html.find("\"black\""), std::string::npos);
  EXPECT_EQ(html.find("id='gpDot'"), std::string::npos);
  EXPECT_NE(html.find("id='tokens_mass-gpDot'"), std::string::npos);
  EXPECT_EQ(html.find("<nav>"), std::string::npos);
}

TEST(Page, SaysWhereAPictureIsMissing) {
  const Folder folder;
  const std::string html = section_html(section("tokens"), folder.path());
  EXPECT_NE(html.find("figures/tokens_mass.dat"), std::string::npos);
  EXPECT_EQ(html.find("<svg"), std::string::npos);
}

TEST(Page, ManyPointsAreAPicture) {
  const Folder folder;
  Figure f;
  f.name = "tokens_cloud";
  Series s{"cloud", Style::cloud, {}, {}, {}, {}, -1};
  for (int i = 0; i < 20000; ++i) {
    s.x.push_back(i % 141);
    s.y.push_back(i / 141);
  }
  f.series.push_back(s);
  ASSERT_FALSE(write_figure(folder.path(), f));
  Section one = section("tokens");
  one.figures = {f};
  const std::string html = section_html(one, folder.path());
  EXPECT_EQ(html.find("<svg"), std::string::npos);
  EXPECT_NE(html.find("src=\"data:image/png;base64,iVBORw0KGgo"), std::string::npos);
  EXPECT_LT(html.size(), 1'000'000u);
}

TEST(Page, SectionsAreFoundAgain) {
  const Folder folder;
  const std::vector<SectionText> sections{{"tokens", section_html(section("tokens"), folder.path())},
                                          {"learning-curve", section_html(section("learning-curve"), folder.path())}};
  const std::string html = page_html("A report", sections);
  EXPECT_NE(html.find("<a href=\"#learning-curve\">"), std::string::npos);
  const auto found = sections_of(html);
  ASSERT_EQ(found.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(found[i].id, sections[i].id);
    EXPECT_EQ(found[i].html, sections[i].html);
  }
  EXPECT_EQ(page_html("A report", found), html);
  EXPECT_TRUE(sections_of("<html><!-- section tokens -->\n<!-- end of section tokens -->\n</html>").empty());
  // Cut off: what is whole is found.
  EXPECT_EQ(sections_of(html.substr(0, html.find("id=\"learning-curve\""))).size(), 1u);
}

}  // namespace
