#include "report/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/figure.hpp"

namespace bl::report {
namespace {

// Characters, not bytes, so that "±" and "φ" do not shift a column.
std::size_t length(const std::string& s) {
  return static_cast<std::size_t>(std::count_if(s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

std::string Table::text() const {
  std::vector<std::vector<std::string>> all;
  const auto add = [&](const std::vector<std::string>& row) {
    auto& plain = all.emplace_back();
    for (const auto& cell : row) plain.push_back(plain_text(cell));
    plain.resize(head.size());
  };
  add(head);
  for (const auto& row : rows) add(row);
  std::vector<std::size_t> width(head.size());
  for (const auto& row : all)
    for (std::size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], length(row[c]));
  std::string out = title.empty() ? "" : plain_text(title) + "\n";
  for (const auto& row : all) {
    std::string line = " ";
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string gap(width[c] - length(row[c]), ' ');
      line += " " + (c < left ? row[c] + gap : gap + row[c]) + " ";
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  if (!note.empty()) out += "  " + plain_text(note) + "\n";
  return out;
}

std::string Table::html() const {
  std::string out = "<div class=\"table\">";
  if (!title.empty()) out += "<h3>" + html_text(title) + "</h3>";
  out += "\n<table>\n<thead><tr>";
  const auto cell = [&](std::string_view tag, std::size_t c, const std::string& text) {
    return fmt::format("<{}{}>{}</{}>", tag, c < left ? " class=\"left\"" : "", html_text(text), tag);
  };
  for (std::size_t c = 0; c < head.size(); ++c) out += cell("th", c, head[c]);
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (std::size_t c = 0; c < head.size(); ++c) out += cell("td", c, c < row.size() ? row[c] : "");
    out += "</tr>\n";
  }
  out += "</tbody>\n</table>\n";
  if (!note.empty()) out += "<p class=\"small\">" + html_text(note) + "</p>\n";
  return out + "</div>\n";
}

std::string shown(double value, int digits) {
  if (std::isnan(value)) return "-";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  const double size = std::abs(value);
  if (size >= 1e3 && size < 1e7) {
    const double unit = std::pow(10.0, std::max(0.0, std::floor(std::log10(size)) + 1 - digits));
    return amount(std::round(value / unit) * unit);
  }
  return fmt::format("{:.{}g}", value, digits);
}

std::string fixed(double value, int decimals) {
  if (!std::isfinite(value)) return shown(value);
  const std::string text = fmt::format("{:.{}f}", value, decimals);
  return text[0] == '-' && text.find_first_not_of("-0.") == std::string::npos ? text.substr(1) : text;  // no "-0.0"
}

std::string with_error(double value, double error) {
  if (!std::isfinite(value) || !(error > 0) || std::isinf(error)) return shown(value);
  const int digits = 1 - static_cast<int>(std::floor(std::log10(error)));
  // Where plain decimals would be mostly zeros, one power of ten for both.
  const double largest = std::max(std::abs(value), error);
  if (largest < 1e-3 || largest >= 1e6) {
    const int power = static_cast<int>(std::floor(std::log10(largest)));
    const double unit = std::pow(10.0, power);
    const int decimals = std::clamp(digits + power, 0, 9);
    return fmt::format("({:.{}f} ± {:.{}f})·10^{{{}}}", value / unit, decimals, error / unit, decimals, power);
  }
  const int decimals = std::clamp(digits, 0, 12);
  return fmt::format("{:.{}f} ± {:.{}f}", value, decimals, error, decimals);
}

std::string amount(double value) {
  if (!std::isfinite(value)) return shown(value);
  if (value != std::floor(value) || std::abs(value) >= 1e15) return fmt::format("{:.6g}", value);
  std::string digits = fmt::format("{:.0f}", std::abs(value)), out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return (value < 0 ? "-" : "") + out;
}

}  // namespace bl::report
