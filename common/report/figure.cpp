#include "report/figure.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <limits>

#include "base/error.hpp"
#include "base/files.hpp"

namespace bl::report {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool binned(const Series& s) { return s.style == Style::reference || s.style == Style::histogram; }

void check_figure(const Figure& f) {
  check(!f.name.empty() && f.name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == std::string::npos,
        "a figure's name holds letters, digits, _ and - only");
  check(!f.series.empty(), "a figure has something to show");
  for (const auto& s : f.series) {
    check(s.x.size() == s.y.size() + (binned(s) ? 1 : 0), "a series has as many x as y, a histogram one more");
    check(s.y_low.size() == s.y_high.size() && (s.y_low.empty() || s.y_low.size() == s.y.size()), "a series has two ends for each error");
    if (f.ratio) check(binned(s) && s.x == f.series[0].x, "a ratio needs histograms of the same bins");
  }
}

double low_of(const Series& s, std::size_t i) { return s.y_low.empty() ? s.y[i] : s.y_low[i]; }
double high_of(const Series& s, std::size_t i) { return s.y_high.empty() ? s.y[i] : s.y_high[i]; }
double centre_of(const Series& s, std::size_t i, Scale scale) {
  if (!binned(s)) return s.x[i];
  return scale == Scale::log ? std::sqrt(s.x[i] * s.x[i + 1]) : 0.5 * (s.x[i] + s.x[i + 1]);
}

struct Range {
  double low = kInfinity, high = -kInfinity;
  void add(double v, Scale scale) {
    if (!std::isfinite(v) || (scale == Scale::log && v <= 0)) return;
    low = std::min(low, v);
    high = std::max(high, v);
  }
  bool empty() const { return low > high; }
};

// What an axis shows: all there is and a margin, `above` of it (a fraction of the axis) for the legend.
Range range_of(const Axis& axis, Range data, bool from_zero, double below, double above) {
  if (data.empty()) data = axis.scale == Scale::log ? Range{1, 10} : Range{0, 1};
  Range r;
  if (axis.scale == Scale::log) {
    const double decades = std::max(std::log10(data.high / data.low), 0.3);
    r.low = data.low / std::pow(10, below * decades);
    r.high = data.high * std::pow(10, above * decades);
  } else {
    const double span = data.high > data.low ? data.high - data.low : std::max(std::abs(data.high), 1e-6);
    const bool zero = from_zero && data.low >= 0;
    r.low = zero ? 0 : data.low - below * span;
    r.high = data.high + above * (zero ? data.high : span);
  }
  if (axis.low) r.low = *axis.low;
  if (axis.high) r.high = *axis.high;
  if (!(r.high > r.low)) r.high = axis.scale == Scale::log ? r.low * 10 : r.low + 1;
  return r;
}

// Ratio of entry i to the first series: {value, low, high}; the band of the first series itself is around 1.
std::array<double, 3> ratio_of(const Figure& f, std::size_t k, std::size_t i) {
  const double below = f.series[0].y[i];
  if (!(below > 0)) return {kNan, kNan, kNan};
  const Series& s = f.series[k];
  return {s.y[i] / below, low_of(s, i) / below, high_of(s, i) / below};
}

// Ends of the ratio's axis: 0.5 … 1.5, or wider where much of what is shown would be outside.
Range ratio_range(const Figure& f) {
  std::size_t all = 0, outside = 0;
  for (std::size_t k = 1; k < f.series.size(); ++k)
    for (std::size_t i = 0; i < f.series[k].y.size(); ++i) {
      const double r = ratio_of(f, k, i)[0];
      if (!std::isfinite(r)) continue;
      ++all;
      outside += r < 0.5 || r > 1.5;
    }
  return 5 * outside > all ? Range{0, 2} : Range{0.5, 1.5};
}

std::string pen(std::string_view color, double width, int dash = 1) { return fmt::format("lc rgb '{}' lw {} dt {}", color, width, dash); }

// Parts of a plot command that draw series k; `from`: the column of the value, 5 or 8 for the ratio.
std::vector<std::string> draw(const Figure& f, std::size_t k, const std::string& color, int order, double base, int from) {
  const Series& s = f.series[k];
  const bool errors = !s.y_low.empty();
  const std::string data = fmt::format("'{}.dat' index {} using ", f.name, k);
  const std::string title = s.name.empty() || from != 5 ? "notitle" : fmt::format("title '{}'", gnuplot_text(s.name));
  const int low = from + 1, high = from + 2;
  // An empty bin is at the bottom of a logarithmic axis.
  const bool at_bottom = from == 5 && binned(s) && f.y.scale == Scale::log;
  const std::string value = at_bottom ? fmt::format("($5>0?$5:{:g})", base) : fmt::format("{}", from);
  static constexpr std::array<int, 6> marks{7, 5, 9, 13, 11, 3};
  const int mark = marks[static_cast<std::size_t>(order) % marks.size()];
  // Lines of more than a few series differ by dashes too, for paper without colour.
  const int dash = f.series.size() > 3 ? 1 + order % 5 : 1;
  // `steps` draws no top for the last bin.
  const auto tops = [&](const std::string& of, double width, int dashes) {
    return fmt::format("{}3:{}:($4-$3):(0) with vectors nohead {} notitle", data, value, pen(of, width, dashes));
  };
  std::vector<std::string> out;
  switch (s.style) {
    case Style::reference:
      if (from == 5) {
        // One area, without the seams that boxes side by side have; the last bin, for which it has no end, is a box.
        out.push_back(fmt::format("{}3:{} with fillsteps lc rgb '#9c9ca1' fs transparent solid 0.30 noborder {}", data, value, title));
        out.push_back(
            fmt::format("'{}.dat' index {} every ::{} using 2:({:g}):3:4:({:g}):{} with boxxyerror lc rgb '#9c9ca1' fs transparent solid 0.30 noborder notitle",
                        f.name, k, s.y.size() - 1, base, base, value));
        if (errors)
          out.push_back(fmt::format("{}2:{}:3:4:{}:{} with boxxyerror lc rgb '#717581' fs transparent pattern 5 noborder notitle", data, value, low, high));
        out.push_back(fmt::format("{}3:{} with steps {} notitle", data, value, pen(color, 1.5)));
        out.push_back(tops(color, 1.5, 1));
      } else if (errors) {
        out.push_back(fmt::format("{}2:{}:3:4:{}:{} with boxxyerror lc rgb '#9c9ca1' fs transparent solid 0.30 noborder notitle", data, value, low, high));
      }
      break;
    case Style::histogram:
      out.push_back(fmt::format("{}3:{} with steps {} {}", data, value, pen(color, 2, dash), title));
      out.push_back(tops(color, 2, dash));
      if (errors) out.push_back(fmt::format("{}2:{}:(0):(${}-${}) with vectors nohead {} notitle", data, low, high, low, pen(color, 1.5)));
      break;
    case Style::line:
      if (errors) out.push_back(fmt::format("{}2:{}:{} with filledcurves lc rgb '{}' fs transparent solid 0.25 noborder notitle", data, low, high, color));
      out.push_back(fmt::format("{}2:{} with lines {} {}", data, value, pen(color, 2, dash), title));
      break;
    case Style::points:
      out.push_back(fmt::format("{}2:{} with lines {} notitle", data, value, pen(color, 1, dash)));
      out.push_back(errors ? fmt::format("{}2:{}:{}:{} with yerrorbars pt {} ps 0.8 {} {}", data, value, low, high, mark, pen(color, 1.5), title)
                           : fmt::format("{}2:{} with points pt {} ps 0.8 {} {}", data, value, mark, pen(color, 1.5), title));
      break;
    case Style::marks: out.push_back(fmt::format("{}2:{} with points pt {} ps 0.8 {} {}", data, value, mark, pen(color, 1.5), title)); break;
    case Style::cloud:
      // Dots too small for a legend: it shows a mark of their colour.
      out.push_back(fmt::format("{}2:{} with points pt 7 ps 0.15 lc rgb '{}' notitle", data, value, color));
      if (title != "notitle") out.push_back(fmt::format("1/0 with points pt 7 ps 0.8 lc rgb '{}' {}", color, title));
      break;
  }
  return out;
}

std::string axis_lines(char name, const Axis& axis, Range range) {
  std::string out;
  if (axis.scale == Scale::log) out += fmt::format("  set logscale {}\n", name);
  // Powers of ten where there are decades; plain numbers where there are not.
  const bool decades = axis.scale == Scale::log && range.high / range.low > 200;
  const double largest = std::max(std::abs(range.low), std::abs(range.high));
  const bool powers = decades ? largest >= 1e4 || range.low < 1e-3 : largest >= 1e5 || largest < 2e-3;
  out += fmt::format("  set format {} '{}'\n", name, powers ? (decades ? "10^{%T}" : "%.1t·10^{%T}") : "%g");
  out += fmt::format("  set {}range [{:g}:{:g}]\n", name, range.low, range.high);
  if (axis.scale == Scale::log && range.high / range.low < 50) {
    // Powers of ten alone would leave one label or none.
    std::string tics;
    const int first = static_cast<int>(std::floor(std::log10(range.low))), last = static_cast<int>(std::floor(std::log10(range.high)));
    for (int power = first; power <= last; ++power)
      for (const double digit : {1.0, 2.0, 5.0}) {
        const double place = digit * std::pow(10.0, power);
        if (place >= range.low && place <= range.high) tics += fmt::format("{}{:g}", tics.empty() ? "" : ",", place);
      }
    out += fmt::format("  set {}tics ({})\n", name, tics);
  }
  return out;
}

// At a fixed place: gnuplot would push it out of the picture where the numbers of the axis are long.
std::string y_label(const std::string& title) {
  return fmt::format("  set label 100 '{}' at screen 0.027, graph 0.5 center rotate by 90\n", gnuplot_text(title));
}

std::string plot_command(const std::vector<std::string>& parts) {
  std::string out = "  plot ";
  for (std::size_t i = 0; i < parts.size(); ++i) out += (i == 0 ? "" : ", \\\n       ") + parts[i];
  return out + "\n";
}

// Runs gnuplot on a script of `folder`; returns what went wrong.
std::optional<std::string> run_gnuplot(const std::string& folder, const std::string& script) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return "cannot make a pipe: " + errno_text(errno);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
  std::string program = "gnuplot", plain = "-d", file = script;  // -d: not the reader's own settings
  std::array<char*, 4> words{program.data(), plain.data(), file.data(), nullptr};
  pid_t pid = 0;
  const int failed = ::posix_spawnp(&pid, "gnuplot", &actions, nullptr, words.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string said;
  if (failed == 0) {
    std::array<char, 512> buffer{};
    for (;;) {
      const ssize_t n = ::read(ends[0], buffer.data(), buffer.size());
      if (n > 0) said.append(buffer.data(), static_cast<std::size_t>(n));
      else if (n == 0 || errno != EINTR) break;
    }
  }
  ::close(ends[0]);
  if (failed == ENOENT) return "gnuplot is not installed: install the package gnuplot-nox";
  if (failed != 0) return "cannot start gnuplot: " + errno_text(failed);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return std::nullopt;
  // gnuplot repeats the line and marks the place before it says what is wrong: the last line is the reason.
  while (!said.empty() && (said.back() == '\n' || said.back() == ' ')) said.pop_back();
  const std::string reason = said.substr(said.rfind('\n') + 1);
  return fmt::format("gnuplot failed on {}: {}", script, reason.empty() ? "it says nothing" : reason);
}

// Calls literal(char) for literal characters, open(bool up) and close() around what stands higher or lower.
template <class Literal, class Open, class Close>
void parse(std::string_view text, Literal literal, Open open, Close close) {
  std::size_t depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((text[i] == '_' || text[i] == '^') && i + 1 < text.size() && text[i + 1] == '{' && text.find('}', i) != std::string_view::npos) {
      open(text[i] == '^');
      ++depth;
      ++i;
    } else if (text[i] == '}' && depth > 0) {
      close();
      --depth;
    } else {
      literal(text[i]);
    }
  }
  for (; depth > 0; --depth) close();
}

}  // namespace

std::string_view palette(std::size_t i, std::size_t colors) {
  static constexpr std::array<std::string_view, 6> six{"#5790fc", "#f89c20", "#e42536", "#964a8b", "#9c9ca1", "#7a21dd"};
  static constexpr std::array<std::string_view, 10> ten{"#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
                                                        "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"};
  return colors <= six.size() ? six[i % six.size()] : ten[i % ten.size()];
}

std::string data_table(const Figure& figure) {
  check_figure(figure);
  std::string out = fmt::format("# {}\n# x: {}\n# y: {}\n", plain_text(figure.caption), plain_text(figure.x.title), plain_text(figure.y.title));
  for (std::size_t k = 0; k < figure.series.size(); ++k) out += fmt::format("# series {}: {}\n", k, plain_text(figure.series[k].name));
  out += "# series x x_low x_high y y_low y_high";
  out += figure.ratio ? " ratio ratio_low ratio_high\n" : "\n";
  for (std::size_t k = 0; k < figure.series.size(); ++k) {
    const Series& s = figure.series[k];
    if (k > 0) out += "\n\n";  // gnuplot's mark of the next series
    for (std::size_t i = 0; i < s.y.size(); ++i) {
      const double x = centre_of(s, i, figure.x.scale);
      out += fmt::format("{} {} {} {} {} {} {}", k, x, binned(s) ? s.x[i] : x, binned(s) ? s.x[i + 1] : x, s.y[i], low_of(s, i), high_of(s, i));
      if (figure.ratio) {
        const auto r = ratio_of(figure, k, i);
        out += fmt::format(" {} {} {}", r[0], r[1], r[2]);
      }
      out += "\n";
    }
    if (s.y.empty()) out += fmt::format("{} nan nan nan nan nan nan{}\n", k, figure.ratio ? " nan nan nan" : "");
  }
  return out;
}

std::string script(const Figure& figure) {
  check_figure(figure);
  Range x_data, y_data;
  bool histograms = true;
  for (const auto& s : figure.series) {
    histograms = histograms && binned(s);
    for (const double x : s.x) x_data.add(x, figure.x.scale);
    for (std::size_t i = 0; i < s.y.size(); ++i) {
      y_data.add(s.y[i], figure.y.scale);
      // An error bar may reach far below on a logarithmic axis, which is about the values.
      if (figure.y.scale == Scale::linear) y_data.add(low_of(s, i), figure.y.scale);
      y_data.add(high_of(s, i), figure.y.scale);
    }
  }
  const double margin = histograms ? 0 : 0.04;
  const Range x = range_of(figure.x, x_data, false, margin, margin);
  // Room for legend and text: above histograms, and where the legend of many curves stands.
  const double lines = static_cast<double>(std::max(figure.series.size(), figure.text.size()));
  const bool bottom = figure.legend == Corner::bottom_left || figure.legend == Corner::bottom_right;
  const double room = 0.08 + 0.09 * std::min(lines, 6.0), many = figure.series.size() > 3 ? room : 0.08;
  const Range y = range_of(figure.y, y_data, histograms, bottom && !histograms ? many : 0.06,
                           histograms ? 0.12 + 0.07 * std::min(lines, 6.0)
                           : bottom   ? 0.08
                                      : many);

  std::size_t colored = 0;
  for (const auto& s : figure.series) colored += s.style != Style::reference && s.color < 0;
  std::vector<std::string> parts, ratios;
  int order = 0;
  for (std::size_t k = 0; k < figure.series.size(); ++k) {
    const Series& s = figure.series[k];
    const bool reference = s.style == Style::reference;
    const std::string color(s.color >= 0 ? palette(static_cast<std::size_t>(s.color), colored)
                            : reference  ? "black"
                                         : palette(static_cast<std::size_t>(order), colored));
    for (auto& part : draw(figure, k, color, s.color >= 0 ? s.color : order, y.low, 5)) parts.push_back(std::move(part));
    if (figure.ratio)
      for (auto& part : draw(figure, k, color, s.color >= 0 ? s.color : order, 0, 8)) ratios.push_back(std::move(part));
    if (!reference && s.color < 0) ++order;
  }

  const bool right = figure.legend == Corner::top_right || figure.legend == Corner::bottom_right;
  const bool top = figure.legend == Corner::top_right || figure.legend == Corner::top_left;
  std::string out = fmt::format("# Draws {0}.svg and {0}.png from {0}.dat: gnuplot {0}.gp\n", figure.name);
  out += "set encoding utf8\nset style fill transparent solid 0.3 noborder\nset errorbars 0\n";
  out += "do for [format in 'svg png'] {\n  reset\n";
  const int width = 460, height = figure.ratio ? 430 : 345;
  out += fmt::format("  if (format eq 'svg') {{ set terminal svg size {},{} dynamic enhanced font 'Helvetica,14' }} else {{ \\\n", width, height);
  out += fmt::format("    set terminal pngcairo size {},{} enhanced font 'Helvetica,14' fontscale 2 linewidth 2 pointscale 2 background '#ffffff' }}\n",
                     2 * width, 2 * height);
  out += fmt::format("  set output '{}.' . format\n", figure.name);
  out += "  set border 31 lw 1\n  set tics in scale 1,0.5\n  set mxtics\n  set mytics\n  set errorbars 0\n  unset title\n";
  // Clouds may be anywhere, under a legend too: it stands beside them.
  const bool outside = std::ranges::all_of(figure.series, [](const Series& s) { return s.style == Style::cloud; });
  if (outside) out += "  set key outside right top Left reverse samplen 0.5 spacing 1.1 width 1\n";
  else
    out += fmt::format("  set key {} {} {} samplen 2 spacing 1.1 height 0.3 maxrows 6\n", right ? "right" : "left", top ? "top" : "bottom",
                       right ? "Right noreverse" : "Left reverse");
  if (right && !outside) out += "  set key Left reverse\n";
  for (std::size_t i = 0; i < figure.text.size(); ++i)
    out += fmt::format("  set label {} '{}' at graph 0.04, graph {:.3f} left\n", i + 1, gnuplot_text(figure.text[i]),
                       0.93 - (figure.ratio ? 0.075 : 0.062) * static_cast<double>(i));
  out += axis_lines('x', figure.x, x) + axis_lines('y', figure.y, y);
  out += fmt::format("  set lmargin at screen 0.19\n  set rmargin at screen {}\n", outside ? 0.8 : 0.945);
  const std::string x_title = fmt::format("  set xlabel '{}' offset 0,0.2\n", gnuplot_text(figure.x.title));
  const std::string y_title = y_label(figure.y.title);
  if (!figure.ratio) {
    out += "  set tmargin at screen 0.965\n  set bmargin at screen 0.175\n" + x_title + y_title + plot_command(parts);
  } else {
    const Range r = ratio_range(figure);
    out += "  set multiplot\n  set tmargin at screen 0.97\n  set bmargin at screen 0.36\n" + y_title;
    out += "  set xtics format ''\n" + plot_command(parts);
    out += "  set tmargin at screen 0.335\n  set bmargin at screen 0.14\n  unset label\n  unset key\n  unset logscale y\n";
    out += fmt::format("  set yrange [{:g}:{:g}]\n  set ytics {}\n  set format y '%g'\n  set mytics 2\n", r.low, r.high,
                       r.high > 1.6 ? "0,0.5,1.5" : "0.5,0.25,1.25");
    Axis axis = figure.x;
    out += axis_lines('x', axis, x) + x_title + y_label(figure.ratio_title);
    out += fmt::format("  set arrow 1 from {:g},1 to {:g},1 nohead lc rgb 'black' lw 1\n", x.low, x.high) + plot_command(ratios) + "  unset multiplot\n";
  }
  return out + "  unset output\n}\n";
}

std::optional<std::string> write_figure(const std::string& folder, const Figure& figure) {
  const std::string path = (std::filesystem::path(folder) / figure.name).string();
  write_file(path + ".dat", data_table(figure), true);
  write_file(path + ".gp", script(figure), true);
  auto wrong = run_gnuplot(folder, figure.name + ".gp");
  std::error_code ignored;
  if (!wrong && !(std::filesystem::exists(path + ".svg", ignored) && std::filesystem::exists(path + ".png", ignored)))
    wrong = fmt::format("gnuplot made no picture from {}.gp", figure.name);
  if (wrong) {
    // Half a picture is worse than none.
    std::filesystem::remove(path + ".svg", ignored);
    std::filesystem::remove(path + ".png", ignored);
  }
  return wrong;
}

Series density(std::string name, Style style, std::vector<double> edges, const std::vector<double>& count, const std::vector<double>& error, double sum) {
  check(edges.size() == count.size() + 1 && error.size() == count.size(), "a density needs edges, counts and errors of the same bins");
  Series s;
  s.name = std::move(name);
  s.style = style;
  s.x = std::move(edges);
  for (std::size_t i = 0; i < count.size(); ++i) {
    const double scale = sum > 0 ? 1 / (sum * (s.x[i + 1] - s.x[i])) : 0;
    s.y.push_back(count[i] * scale);
    s.y_low.push_back((count[i] - error[i]) * scale);
    s.y_high.push_back((count[i] + error[i]) * scale);
  }
  return s;
}

std::string gnuplot_text(std::string_view text) {
  std::string out;
  parse(
      text,
      [&](char c) {
        if (c == '\'') out += "''";
        else if (c == '\n') out += ' ';
        else if (std::string_view("_^{}@&~\\").find(c) != std::string_view::npos) out += std::string("\\") + c;
        else out += c;
      },
      [&](bool up) { out += up ? "^{" : "_{"; }, [&] { out += "}"; });
  return out;
}

std::string html_text(std::string_view text) {
  std::string out;
  std::vector<bool> open;
  parse(
      text,
      [&](char c) {
        if (c == '<') out += "&lt;";
        else if (c == '>') out += "&gt;";
        else if (c == '&') out += "&amp;";
        else if (c == '"') out += "&quot;";
        else if (c == '\'') out += "&#39;";
        else out += c;
      },
      [&](bool up) {
        out += up ? "<sup>" : "<sub>";
        open.push_back(up);
      },
      [&] {
        out += open.back() ? "</sup>" : "</sub>";
        open.pop_back();
      });
  return out;
}

std::string plain_text(std::string_view text) {
  std::string out;
  parse(
      text, [&](char c) { out += c == '\n' ? ' ' : c; }, [&](bool up) { out += up ? "^" : ""; }, [] {});
  return out;
}

}  // namespace bl::report
