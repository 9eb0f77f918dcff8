// A table of text cells, for a terminal and for a page.
#pragma once
#include <string>
#include <vector>

namespace bl::report {

struct Table {
  std::string title;
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
  std::size_t left = 1;      // the first columns are aligned to the left, the others to the right
  std::string note = {};     // below
  std::string text() const;  // title, aligned columns, note
  std::string html() const;
};

// Numbers as text. "-" stands for NaN, "inf" for infinity.
std::string shown(double value, int digits = 4);     // significant digits
std::string fixed(double value, int decimals);       // decimals
std::string with_error(double value, double error);  // both to the second digit of the error; without one where it is NaN
std::string amount(double value);                    // of events: whole numbers in full

}  // namespace bl::report
