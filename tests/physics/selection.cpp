#include "physics/selection.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"

namespace {

using namespace bl;
using physics::Selection;

const std::vector<std::string> kNames{"n_jets", "ht", "met"};

std::string error_of(const std::string& expression) {
  try {
    Selection(expression, kNames);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::usage);
    return error.what();
  }
  return "no error";
}

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << text

TEST(Selection, ComparesAndCombines) {
  Selection s("n_jets >= 4 && (ht > 500 || met > 200)", kNames);
  const auto passes = [&](double n, double ht, double met) {
    const double values[] = {n, ht, met};
    return s.passes(values);
  };
  EXPECT_TRUE(passes(4, 501, 0));
  EXPECT_TRUE(passes(4, 0, 201));
  EXPECT_FALSE(passes(3, 501, 201));
  EXPECT_FALSE(passes(4, 500, 200));
  EXPECT_EQ(s.used(), (std::vector<std::string>{"ht", "met", "n_jets"}));
  Selection f("sqrt(ht) > 2 ? met > 1 : met > 10", kNames);
  const double a[] = {0, 9, 2}, b[] = {0, 1, 2};
  EXPECT_TRUE(f.passes(a));
  EXPECT_FALSE(f.passes(b));
}

TEST(Selection, UnknownVariablesListTheKnown) {
  EXPECT_HAS(error_of("n_jet > 3"), "uses 'n_jet', which is not known (did you mean 'n_jets'?); known are n_jets, ht, met");
}

TEST(Selection, NothingButExpressions) {
  EXPECT_HAS(error_of("n_jets = 5"), "compare with '=='");
  EXPECT_HAS(error_of("n_jets += 5"), "compare with '=='");
  EXPECT_HAS(error_of("n_jets > 4, ht > 3"), "join cuts with '&&'");
  EXPECT_HAS(error_of("system(\"id\")"), "cannot be read");
  EXPECT_HAS(error_of("n_jets >"), "cannot be read at character");
  EXPECT_HAS(error_of("  "), "is empty");
  EXPECT_EQ(error_of("n_jets == 5 && ht != 3 && met <= 4"), "no error");
}

TEST(Selection, ANumberThatIsNoneIsAnError) {
  Selection s("met / ht > 0.2", kNames);
  const double zero[] = {0, 0, 0}, one[] = {0, 0, 1};
  try {
    Selection n("ln(met - 1) + 0 * (met / ht)", kNames);
    n.passes(zero);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::input);
  }
  EXPECT_TRUE(s.passes(one));  // infinite
}

TEST(Selection, CutsAreTheConjunction) {
  EXPECT_EQ(Selection::cuts_of("a > 1 && b > 2&&c"), (std::vector<std::string>{"a > 1", "b > 2", "c"}));
  EXPECT_EQ(Selection::cuts_of("(a && b) && c"), (std::vector<std::string>{"(a && b)", "c"}));
  EXPECT_EQ(Selection::cuts_of("a && b || c"), (std::vector<std::string>{"a && b || c"}));
  EXPECT_EQ(Selection::cuts_of("a ? b && c : d"), (std::vector<std::string>{"a ? b && c : d"}));
}

}  // namespace
