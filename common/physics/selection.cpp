#include "physics/selection.hpp"

#include <muParser.h>

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace bl::physics {
namespace {

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1));
}

// muParser would let "n_jets = 5" change the variable and be true ever after.
bool assigns(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '=') continue;
    if (i + 1 < text.size() && text[i + 1] == '=') {
      ++i;
      continue;
    }
    if (i == 0 || (text[i - 1] != '<' && text[i - 1] != '>' && text[i - 1] != '!')) return true;
  }
  return false;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

struct Selection::State {
  std::string expression;
  std::vector<std::string> used;
  std::vector<double> values;  // muParser keeps pointers into it
  mu::Parser parser;
};

Selection::Selection(std::string_view expression, std::vector<std::string> variables) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.expression = trimmed(expression);
  if (s.expression.empty()) fail(Exit::usage, "a selection is empty: give an expression such as \"n_jets >= 4\", or leave it out");
  if (assigns(s.expression)) fail(Exit::usage, "selection \"{}\" has a single '=': compare with '=='", s.expression);
  s.values.resize(variables.size());
  try {
    s.parser.SetExpr(s.expression);
    for (const auto& [name, where] : s.parser.GetUsedVar()) {
      if (std::find(variables.begin(), variables.end(), name) != variables.end()) {
        s.used.push_back(name);
        continue;
      }
      const std::string near = nearest(name, variables);
      fail(Exit::usage, "selection \"{}\" uses '{}', which is not known{}; known are {}", s.expression, name,
           near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near), joined(variables));
    }
    for (std::size_t i = 0; i < variables.size(); ++i) s.parser.DefineVar(variables[i], &s.values[i]);
    int results = 0;
    s.parser.Eval(results);
    if (results != 1) fail(Exit::usage, "selection \"{}\" has {} results: join cuts with '&&', not with ','", s.expression, results);
  } catch (const mu::Parser::exception_type& e) {
    fail(Exit::usage, "selection \"{}\" cannot be read at character {}: {}", s.expression, e.GetPos() + 1, e.GetMsg());
  }
}

Selection::~Selection() = default;
Selection::Selection(Selection&&) noexcept = default;
Selection& Selection::operator=(Selection&&) noexcept = default;

const std::string& Selection::expression() const { return state_->expression; }
const std::vector<std::string>& Selection::used() const { return state_->used; }

bool Selection::passes(std::span<const double> values) {
  State& s = *state_;
  check(values.size() == s.values.size(), "a selection is given another number of values than variables");
  std::copy(values.begin(), values.end(), s.values.begin());
  double result = 0;
  try {
    result = s.parser.Eval();
  } catch (const mu::Parser::exception_type& e) {
    fail(Exit::input, "selection \"{}\": {}", s.expression, e.GetMsg());
  }
  if (std::isnan(result)) fail(Exit::input, "selection \"{}\" is not a number for an event: guard what it divides by or takes the logarithm of", s.expression);
  return result != 0;
}

std::vector<std::string> Selection::cuts_of(std::string_view expression) {
  std::vector<std::string> cuts;
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '(') ++depth;
    if (c == ')') --depth;
    if (depth != 0) continue;
    const bool pair = i + 1 < expression.size() && expression[i + 1] == c;
    if (c == '?' || (c == '|' && pair)) return {trimmed(expression)};
    if (c == '&' && pair) {
      cuts.push_back(trimmed(expression.substr(begin, i - begin)));
      begin = i + 2;
      ++i;
    }
  }
  cuts.push_back(trimmed(expression.substr(begin)));
  return cuts;
}

}  // namespace bl::physics
