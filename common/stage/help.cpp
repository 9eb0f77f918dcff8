// --help and --describe, both made from the declarations.
#include <algorithm>

#include "stage/impl.hpp"

namespace bl::stage {
namespace {

std::string join(const std::vector<std::string>& words, std::string_view between) {
  std::string out;
  for (const auto& w : words) out += (out.empty() ? "" : std::string(between)) + w;
  return out;
}

// Breaks `text` at spaces so that no line passes column 100, continuing at column `indent`.
std::string wrap(const std::string& text, std::size_t indent) {
  std::string out, line, word;
  const auto flush_word = [&] {
    if (word.empty()) return;
    if (!line.empty() && indent + line.size() + 1 + word.size() > 100) {
      out += line + "\n" + std::string(indent, ' ');
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    word.clear();
  };
  for (const char c : text) {
    if (c == '\n') {
      flush_word();
      out += line + "\n" + std::string(indent, ' ');
      line.clear();
    } else if (c == ' ') {
      flush_word();
    } else {
      word += c;
    }
  }
  flush_word();
  return out + line;
}

std::string quote(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') out += "\\n";
    else out += c;
  }
  return out + "\"";
}

std::string list(const std::vector<std::string>& items) {
  std::vector<std::string> quoted;
  quoted.reserve(items.size());
  for (const auto& i : items) quoted.push_back(quote(i));
  return "[" + join(quoted, ", ") + "]";
}

std::string toml_value(const nlohmann::json& v) {
  if (v.is_string()) return quote(v.get<std::string>());
  if (v.is_number_float()) {
    std::string s = fmt::format("{}", v.get<double>());
    if (s.find_first_of(".en") == std::string::npos) s += ".0";
    return s;
  }
  if (v.is_array()) return list(v.get<std::vector<std::string>>());
  return v.dump();
}

std::string default_text(const Option::Impl& o) {
  const auto& d = o.initial;
  if (d.is_boolean() || (d.is_string() && d.get<std::string>().empty()) || (d.is_array() && d.empty())) return "";
  if (d.is_string()) return d.get<std::string>();
  if (d.is_array()) return join(d.get<std::vector<std::string>>(), ",");
  if (d.is_number_float()) return fmt::format("{}", d.get<double>());
  return d.dump();
}

std::string option_lines(const Option::Impl& o) {
  std::string left = "  " + o.flag;
  if (o.type() != "bool") {
    std::string what = o.choices.empty() ? (o.role == Role::value ? o.type() : "file") : join(o.choices, "|");
    std::transform(what.begin(), what.end(), what.begin(),
                   [&](unsigned char c) { return o.choices.empty() ? static_cast<char>(std::toupper(c)) : static_cast<char>(c); });
    left += " " + what;
  }
  std::string right = o.doc;
  if (o.bounded) right += fmt::format(" ({} to {})", o.low, o.high);
  if (o.required) right += " [required]";
  else if (const auto d = default_text(o); !d.empty()) right += " [" + d + "]";
  constexpr std::size_t column = 28;
  if (left.size() + 2 > column) return left + "\n" + std::string(column, ' ') + wrap(right, column) + "\n";
  return left + std::string(column - left.size(), ' ') + wrap(right, column) + "\n";
}

}  // namespace

std::string Program::Impl::help() const {
  std::string text = name + " - " + summary + "\n\nUsage: " + name;
  for (const auto& o : options)
    if (o.first) text += " " + join(o.choices, "|");
  text += positional ? " [options] [input]\n" : " [options]\n";
  if (!reads.empty() || !writes.empty() || takes_files) {
    text += "\nStream:\n";
    if (takes_files) text += "  reads   " + wrap(files_doc, 10) + "\n";
    if (!reads.empty()) text += "  reads   " + join(reads, " or ") + "\n";
    if (!writes.empty()) text += "  writes  " + join(writes, " or ") + "\n";
    text += "  An endpoint is - (standard input or output), a path, tcp://host:port or ipc://path.\n";
  }
  for (const bool common : {false, true}) {
    std::string lines;
    for (const auto& o : options)
      if (o.common == common) lines += option_lines(o);
    if (common)
      lines +=
          "  --describe                Print streams and options as TOML and exit\n  --version                 Print the version and exit\n  --help, -h                Print this text and exit\n";
    if (!lines.empty()) text += std::string("\n") + (common ? "Common options:\n" : "Options:\n") + lines;
  }
  for (const auto& [title, body] : notes) text += "\n" + title + ":\n  " + wrap(body, 2) + "\n";
  if (!examples.empty()) {
    text += "\nExamples:\n";
    for (const auto& e : examples) text += "  # " + e.what + "\n  " + e.command + "\n";
  }
  text += "\nExit codes:\n  0 done   1 failed   2 usage   3 bad input   4 cannot write   5 reader lost   6 writer lost   128+n signal\n";
  return text;
}

std::string Program::Impl::describe() const {
  std::string text = "name = " + quote(name) + "\nversion = " + quote(BEAMLINE_VERSION) + "\nsummary = " + quote(summary) + "\nreads = " + list(reads) +
                     "\nreads_files = " + (takes_files ? "true" : "false") + "\nwrites = " + list(writes) + "\nparallel = " + (parallel ? "true" : "false") +
                     "\n";
  for (const auto& o : options) {
    text += "\n[[option]]\nname = " + quote(o.key()) + "\ntype = " + quote(o.type()) + "\n";
    text += "role = " + quote(o.role == Role::input_file ? "input-file" : o.role == Role::output_file ? "output-file" : "value") + "\n";
    text += "default = " + toml_value(o.initial) + "\n";
    if (o.required) text += "required = true\n";
    if (o.common) text += "common = true\n";
    if (!o.effect) text += "effect = false\n";
    if (o.bounded) text += "min = " + toml_value(o.low) + "\nmax = " + toml_value(o.high) + "\n";
    if (!o.choices.empty()) text += "choices = " + list(o.choices) + "\n";
    text += "doc = " + quote(o.doc) + "\n";
  }
  return text;
}

}  // namespace bl::stage
