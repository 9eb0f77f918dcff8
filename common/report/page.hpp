// One HTML page of one or several evaluations: whole in itself (styles and pictures are inside, nothing is loaded), light and
// dark as the reader's system is, and made to be printed.
#pragma once
#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "report/figure.hpp"
#include "report/table.hpp"

namespace bl::report {

// A number that a reader wants first.
struct Headline {
  std::string name, value;
  std::string note = {};  // in small letters, e.g. what it compares with
};

// Where numbers come from: the history of a stream or file (wire/hello.hpp), the evaluation's own entry last.
struct Origin {
  std::string name;  // "reference", "in"
  std::string path;
  nlohmann::json history = nlohmann::json::array();
};

// One evaluation, in the order in which it is shown.
struct Section {
  std::string id;  // of the kind of evaluation, [a-z-]: a page holds one section of a kind
  std::string title, summary;
  std::vector<Headline> headlines = {};
  std::vector<Figure> figures = {};
  std::vector<Table> tables = {};
  std::vector<std::string> notes = {};  // what a reader must know to trust the numbers
  std::vector<Origin> origins = {};
};

// The section's HTML, between two comments by which sections_of() finds it again. `folder` holds the figures' pictures;
// where there is none, the figure's place says so.
std::string section_html(const Section& section, const std::string& folder);

// Title, summary, notes and tables for a terminal.
std::string section_text(const Section& section);

struct SectionText {
  std::string id, html;
};
// A page of sections, in the order given; with more than one, a list of them at the top.
std::string page_html(std::string_view title, const std::vector<SectionText>& sections);
// The sections of a page that page_html() made, unchanged; none where it is no such page.
std::vector<SectionText> sections_of(std::string_view page);

}  // namespace bl::report
