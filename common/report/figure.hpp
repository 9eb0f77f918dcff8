// Figures declared as data. A figure is written as four files of one name:
//   NAME.dat   a table of numbers that numpy.loadtxt and gnuplot read, for people who draw with matplotlib or mplhep
//   NAME.gp    the gnuplot script that draws it, to be run in the figure's folder
//   NAME.svg, NAME.png   what the script draws
// The table's columns: series x x_low x_high y y_low y_high, and with a ratio panel ratio ratio_low ratio_high; "# series k:
// name" says what each is. x_low, x_high are the edges of a histogram's bin (else x), y_low, y_high the ends of the error bar
// or band (else y). Numbers are written so that they read back as they were; what is missing is nan.
//
// Titles and names are UTF-8 text in which _{…} and ^{…} set lower and higher, as in "p_{T} [GeV]"; all else is literal.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bl::report {

enum class Scale { linear, log };

struct Axis {
  std::string title;
  Scale scale = Scale::linear;
  std::optional<double> low, high;  // else from the data
};

enum class Style {
  reference,  // histogram, filled grey, its errors a hatched band; in a ratio panel the band around 1
  histogram,  // steps, with error bars
  line,       // with a band where there are errors
  points,     // markers with error bars, joined by a thin line
  marks,      // markers alone
  cloud       // dots
};

struct Series {
  std::string name;  // in the legend; empty: not there
  Style style = Style::line;
  std::vector<double> x;                        // for the two histograms the edges of the bins, one more than y, rising; else one for each y
  std::vector<double> y;                        // a value that is not finite, or not above 0 on a logarithmic axis, is not drawn
  std::vector<double> y_low = {}, y_high = {};  // empty: no errors
  int color = -1;                               // number in the palette; -1: the next one, black for the reference
};

enum class Corner { top_right, top_left, bottom_right, bottom_left };

struct Figure {
  std::string name;     // of the files: letters, digits, "_" and "-"
  std::string caption;  // under it on a page
  Axis x, y;
  std::vector<Series> series;
  // A panel below with every other histogram divided by the first series; all have its edges.
  bool ratio = false;
  std::string ratio_title = "ratio";
  std::vector<std::string> text = {};  // lines in the upper left corner
  Corner legend = Corner::top_right;
};

// Colours that people who see red and green alike tell apart, also on a dark page (Petroff, arXiv:2107.02270).
std::string_view palette(std::size_t i, std::size_t colors);

std::string data_table(const Figure& figure);
std::string script(const Figure& figure);

// Writes the four files into `folder`, which exists. Returns a warning, one sentence, where there are no pictures because
// gnuplot is missing or failed; table and script are there all the same. Throws Exit::write.
std::optional<std::string> write_figure(const std::string& folder, const Figure& figure);

// A histogram of counts as a density: (1 / sum) dn/dx with its errors, so that samples of different sizes compare. Counts may
// be sums of weights; `error` is of each, e.g. stats::Histogram::error. `sum` holds what lies outside the axis too.
Series density(std::string name, Style style, std::vector<double> edges, const std::vector<double>& count, const std::vector<double>& error, double sum);

// Text with _{…} and ^{…} in other notations.
std::string gnuplot_text(std::string_view text);  // for 'single quotes' in enhanced mode
std::string html_text(std::string_view text);     // escaped, <sub> and <sup>
std::string plain_text(std::string_view text);    // without markup: "p_{T}" is "pT", "10^{3}" is "10^3"

}  // namespace bl::report
