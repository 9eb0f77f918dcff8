#include "tokens/jet_variables.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "physics/substructure.hpp"

namespace bl::tokens {

const std::vector<std::string>& jet_variable_names() {
  static const std::vector<std::string> names{"log_pt", "mass", "multiplicity", "tau21", "tau32"};
  return names;
}

std::vector<float> jet_variables(const Batch& tokens, Pool& pool) {
  for (const char* name : {"pt", "eta", "phi"})
    if (!tokens.has(name))
      fail(Exit::input,
           "the tokens lack the column '{}' of their constituents, from which the jet variables are computed: take the stream that bl-tokenize wrote", name);
  const auto offsets = tokens.get<std::uint32_t>("token_offsets");
  const auto category = tokens.get<std::uint8_t>("category");
  Batch constituents;
  constituents.events = tokens.events;
  std::vector<std::uint32_t> kept, counts{0};
  for (std::uint32_t e = 0; e < tokens.events; ++e) {
    for (std::uint32_t i = offsets[e]; i < offsets[e + 1]; ++i)
      if (category[i] != 0) kept.push_back(i);
    counts.push_back(static_cast<std::uint32_t>(kept.size()));
  }
  constituents.set("particle_offsets", {"event+1"}, counts);
  for (const char* name : {"pt", "eta", "phi"}) {
    const auto all = tokens.get<float>(name);
    std::vector<float> values;
    values.reserve(kept.size());
    for (const std::uint32_t i : kept) values.push_back(all[i]);
    constituents.set(name, {"particle"}, values);
  }
  physics::ObservableOptions options;
  options.massless = true;
  const physics::JetTable table = physics::jet_observables(constituents, {"jet_pt", "jet_mass", "multiplicity", "tau21", "tau32"}, options, pool);
  const auto number = [&](const char* name, std::size_t e) {
    const double x = table.at(name)[e];
    return static_cast<float>(std::isfinite(x) ? x : 0);
  };
  std::vector<float> variables;
  variables.reserve(tokens.events * kJetVariables);
  for (std::uint32_t e = 0; e < tokens.events; ++e)
    variables.insert(variables.end(), {std::log(std::max(number("jet_pt", e), 1e-3f)), number("jet_mass", e), number("multiplicity", e), number("tau21", e),
                                       number("tau32", e)});
  return variables;
}

}  // namespace bl::tokens
