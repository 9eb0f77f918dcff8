// Selections of events: an arithmetic expression over named per-event numbers, e.g. "n_jets >= 5 && ht > 400".
// Operators + - * / ^, comparisons < <= > >= == !=, && || !, ? :, and the functions of muParser (abs, sqrt, log, min,
// max, …). Nothing else is evaluated: no assignments, no files, no commands.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bl::physics {

class Selection {
 public:
  // `variables`: the known names. Throws Exit::usage, with the expression and what is wrong: a syntax error with its
  // position, an unknown variable with the known ones, an assignment.
  Selection(std::string_view expression, std::vector<std::string> variables);
  ~Selection();
  Selection(Selection&&) noexcept;
  Selection& operator=(Selection&&) noexcept;

  const std::string& expression() const;
  const std::vector<std::string>& used() const;  // the variables that occur, sorted
  // One number a variable, in the order of `variables`. Not zero is true. Throws Exit::input when the result is not a
  // number (a division by zero, the logarithm of a negative number). Not for two threads at once.
  bool passes(std::span<const double> values);

  // "a && b && c" as {"a", "b", "c"}, so that each cut can be counted; an expression with || or ?: at the top is one cut.
  static std::vector<std::string> cuts_of(std::string_view expression);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bl::physics
