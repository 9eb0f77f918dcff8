// The schema files that this binary was built with.
#pragma once
#include <string_view>
#include <vector>

namespace bl::schema {
struct Embedded {
  std::string_view name;  // "objects.1"
  std::string_view text;  // the TOML file
};
const std::vector<Embedded>& embedded();
}  // namespace bl::schema
