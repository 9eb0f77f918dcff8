// The five numbers of a jet that a dense network tells jets apart by, and that a tagger may read beside its tokens.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "base/pool.hpp"
#include "data/batch.hpp"

namespace bl::tokens {

// In the order of the columns below: "log_pt" (GeV), "mass" (GeV), "multiplicity", "tau21", "tau32", of the massless
// constituents that became tokens, before tokenisation (physics/substructure.hpp). A jet of fewer than three constituents
// has tau21 = tau32 = 0, one without pt log_pt = log 0.001.
inline constexpr std::size_t kJetVariables = 5;
const std::vector<std::string>& jet_variable_names();

// tokens/1 or /2 -> (events, kJetVariables), all finite. Throws Exit::input, naming the column, where the batch lacks pt, eta
// or phi of its constituents.
std::vector<float> jet_variables(const Batch& tokens, Pool& pool);

}  // namespace bl::tokens
