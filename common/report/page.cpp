#include "report/page.hpp"

#include <algorithm>
#include <filesystem>

#include "base/error.hpp"
#include "base/files.hpp"

namespace bl::report {
namespace {

constexpr std::string_view kGenerator = "<meta name=\"generator\" content=\"beamline report 1\">";
constexpr std::string_view kBegin = "<!-- section ", kEnd = "<!-- end of section ";

// Pictures with more than this are put on the page as pixels: a cloud of points makes megabytes of SVG.
constexpr std::size_t kLargestSvg = 400'000;

constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --page: #ffffff; --text: #1c1e21; --soft: #5b6068; --line: #d9dce1; --card: #f5f6f8; --link: #2457c5; }
@media (prefers-color-scheme: dark) { :root { --page: #16181c; --text: #e6e7ea; --soft: #a2a7b0; --line: #363a42; --card: #1f2228; --link: #8fb0ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 1.5rem 1.25rem 3rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; line-height: 1.2; }
h2 { font-size: 1.35rem; margin: 2.2rem 0 .3rem; line-height: 1.25; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p { margin: .3rem 0 .8rem; max-width: 52rem; }
a { color: var(--link); }
nav { color: var(--soft); margin-bottom: 1rem; }
nav a { margin-right: 1.2rem; }
.small, figcaption, nav { color: var(--soft); font-size: .875rem; }
.headlines { display: grid; grid-template-columns: repeat(auto-fill, minmax(195px, 1fr)); gap: .75rem; margin: 1rem 0 1.5rem; }
.headline { background: var(--card); border-radius: 8px; padding: .7rem .9rem; }
.headline b { display: block; font-size: 1.0625rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
.headline span { display: block; color: var(--soft); font-size: .8125rem; line-height: 1.35; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 350px), 1fr)); gap: 1.25rem 1.5rem; }
figure { margin: 0; break-inside: avoid; }
figure svg, figure img { width: 100%; height: auto; display: block; }
figure img { background: #fff; border-radius: 4px; }
figcaption { margin-top: .2rem; }
.absent { border: 1px dashed var(--line); padding: 2rem 1rem; text-align: center; color: var(--soft); }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; border-bottom-width: 2px; }
th:first-child, td:first-child { padding-left: 0; }
th.left, td.left { text-align: left; }
.notes { border-left: 3px solid #f89c20; padding: .1rem 0 .1rem .9rem; margin: 1rem 0; }
.notes p { margin: .3rem 0; }
details { margin: 1.5rem 0; }
summary { cursor: pointer; color: var(--soft); }
code { font: .8125rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
ol { margin: .3rem 0 1rem; padding-left: 1.4rem; font-size: .875rem; }
@media print {
  :root { color-scheme: light; --page: #fff; --text: #000; --soft: #444; --line: #bbb; --card: #f2f2f2; --link: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .figures { grid-template-columns: repeat(3, 1fr); gap: .6rem .9rem; }
  .headlines { grid-template-columns: repeat(5, 1fr); gap: .4rem; }
  .headline { padding: .4rem .5rem; }
  .headline b { font-size: 10pt; }
  details::details-content { content-visibility: visible; }
  .table { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .12rem .4rem; }
  .small, figcaption { font-size: 8pt; }
  h2, h3 { break-after: avoid; }
  table { break-inside: avoid; }
  nav { display: none; }
}
)";

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size())) text.replace(at, what.size(), by);
}

std::string base64(std::string_view data) {
  static constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((data.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < data.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k) bits = bits << 8 | (i + k < data.size() ? static_cast<unsigned char>(data[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k) out += i + k <= data.size() ? digits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

// gnuplot's SVG as a part of a page: without its head, in the page's colour and font where it is black, with names of its own.
std::string inlined(std::string svg, const Figure& figure) {
  const std::size_t from = svg.find("<svg");
  if (from == std::string::npos) return "";
  svg.erase(0, from);
  const std::size_t box = svg.find("viewBox=\""), head = svg.find('>');
  if (box == std::string::npos || box > head) return "";
  const std::string view = svg.substr(box + 9, svg.find('"', box + 9) - box - 9);
  std::string body = svg.substr(head + 1);
  for (const std::string_view tag : {"title", "desc"}) {
    const std::size_t a = body.find(fmt::format("<{}>", tag)), b = body.find(fmt::format("</{}>", tag));
    if (a != std::string::npos && b != std::string::npos) body.erase(a, b + tag.size() + 3 - a);
  }
  for (const char* black : {"'black'", "\"black\"", "'rgb(  0,   0,   0)'", "\"rgb(  0,   0,   0)\""}) replace_all(body, black, "\"currentColor\"");
  replace_all(body, "font-family=\"Helvetica\"", "");
  replace_all(body, "id='", "id='" + figure.name + "-");
  replace_all(body, "id=\"", "id=\"" + figure.name + "-");
  replace_all(body, "href='#", "href='#" + figure.name + "-");
  replace_all(body, "url(#", "url(#" + figure.name + "-");
  replace_all(body, "\t", "");
  return fmt::format("<svg viewBox=\"{}\" role=\"img\" aria-label=\"{}\">", view, html_text(figure.caption)) + body;
}

std::string picture(const Figure& figure, const std::string& folder) {
  const auto path = std::filesystem::path(folder) / figure.name;
  std::error_code ignored;
  if (!std::filesystem::exists(path.string() + ".svg", ignored))
    return fmt::format("<div class=\"absent\">No picture: gnuplot did not draw it. The numbers are in figures/{}.dat.</div>", figure.name);
  std::string svg = inlined(read_file(path.string() + ".svg"), figure);
  if (!svg.empty() && svg.size() <= kLargestSvg) return svg;
  return fmt::format("<img alt=\"{}\" src=\"data:image/png;base64,{}\">", html_text(figure.caption), base64(read_file(path.string() + ".png")));
}

std::string word(const nlohmann::json& value) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const bool plain = !text.empty() && text.find_first_of(" \t\n'\"$&;|<>()*?") == std::string::npos;
    return plain ? text : "'" + text + "'";
  }
  if (value.is_array()) {
    std::string out;
    for (const auto& item : value) out += (out.empty() ? "" : ",") + word(item);
    return out;
  }
  return value.dump();
}

// One stage of a history, as a command and what it read.
std::string step_html(const nlohmann::json& step) {
  if (!step.is_object()) return "";
  std::string command = step.value("stage", std::string("?"));
  const auto options = step.value("options", nlohmann::json::object());
  for (const auto& [key, value] : options.items()) {
    const bool none =
        value.is_null() || value == false || (value.is_string() && value.get_ref<const std::string&>().empty()) || (value.is_array() && value.empty());
    if (!none) command += value == true ? " --" + key : " --" + key + " " + word(value);
  }
  if (const auto seed = step.find("seed"); seed != step.end()) command += " --seed " + seed->dump();
  std::string out = "<li><code>" + html_text(command) + "</code><br><span class=\"small\">version " + html_text(step.value("version", std::string("?")));
  if (const auto host = step.find("host"); host != step.end() && host->is_string()) out += ", on " + html_text(host->get<std::string>());
  const auto inputs = step.value("inputs", nlohmann::json::array());
  for (const auto& input : inputs)
    if (input.is_object()) out += ", read " + html_text(input.value("path", std::string("?"))) + " (" + html_text(input.value("hash", std::string("?"))) + ")";
  return out + "</span></li>\n";
}

}  // namespace

std::string section_html(const Section& section, const std::string& folder) {
  std::string out = fmt::format("{0}{1} -->\n<section id=\"{1}\">\n<h2>{2}</h2>\n", kBegin, section.id, html_text(section.title));
  if (!section.summary.empty()) out += "<p>" + html_text(section.summary) + "</p>\n";
  if (!section.headlines.empty()) {
    out += "<div class=\"headlines\">\n";
    for (const auto& h : section.headlines) {
      out += fmt::format("<div class=\"headline\"><span>{}</span><b>{}</b>", html_text(h.name), html_text(h.value));
      out += h.note.empty() ? "</div>\n" : "<span>" + html_text(h.note) + "</span></div>\n";
    }
    out += "</div>\n";
  }
  if (!section.notes.empty()) {
    out += "<div class=\"notes\">\n";
    for (const auto& note : section.notes) out += "<p>" + html_text(note) + "</p>\n";
    out += "</div>\n";
  }
  if (!section.figures.empty()) {
    out += "<div class=\"figures\">\n";
    for (const auto& figure : section.figures)
      out += "<figure>" + picture(figure, folder) + "<figcaption>" + html_text(figure.caption) + "</figcaption></figure>\n";
    out += "</div>\n";
  }
  for (const auto& table : section.tables) out += table.html();
  if (!section.origins.empty()) {
    out += "<details>\n<summary>Where these numbers come from: commands, seeds, inputs</summary>\n";
    for (const auto& origin : section.origins) {
      out += fmt::format("<h3>{} <code>{}</code></h3>\n<ol>\n", html_text(origin.name), html_text(origin.path));
      for (const auto& step : origin.history) out += step_html(step);
      out += "</ol>\n";
    }
    out += "</details>\n";
  }
  return out + fmt::format("</section>\n{}{} -->\n", kEnd, section.id);
}

std::string section_text(const Section& section) {
  std::string out = plain_text(section.title) + "\n";
  if (!section.summary.empty()) out += plain_text(section.summary) + "\n";
  for (const auto& note : section.notes) out += "Note: " + plain_text(note) + "\n";
  for (const auto& table : section.tables) out += "\n" + table.text();
  return out;
}

std::string page_html(std::string_view title, const std::vector<SectionText>& sections) {
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n{}\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n",
      kGenerator, html_text(title), kStyle);
  out += "<h1>" + html_text(title) + "</h1>\n";
  if (sections.size() > 1) {
    out += "<nav>";
    for (const auto& section : sections) out += fmt::format("<a href=\"#{0}\">{0}</a>", section.id);
    out += "</nav>\n";
  }
  for (const auto& section : sections) out += section.html;
  return out + "</body>\n</html>\n";
}

std::vector<SectionText> sections_of(std::string_view page) {
  std::vector<SectionText> out;
  if (page.find(kGenerator) == std::string_view::npos) return out;
  for (std::size_t at = page.find(kBegin); at != std::string_view::npos; at = page.find(kBegin, at + 1)) {
    const std::size_t name = at + kBegin.size(), close = page.find(" -->", name);
    if (close == std::string_view::npos) break;
    const std::string id(page.substr(name, close - name)), last = fmt::format("{}{} -->\n", kEnd, id);
    const std::size_t end = page.find(last, close);
    if (end == std::string_view::npos) break;
    out.push_back({id, std::string(page.substr(at, end + last.size() - at))});
    at = end;
  }
  return out;
}

}  // namespace bl::report
