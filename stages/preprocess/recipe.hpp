// A recipe: what is done to events between the file and the stream. TOML; docs/preprocess.md is the reference.
#pragma once
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "physics/transforms.hpp"

namespace bl::preprocess {

struct ObjectCut {
  double pt_min = 0;  // GeV
  double abs_eta_max = 1e9;
  bool remove = false;  // every object of this kind
};

// A feature of objects (column feature_NAME) or of events (column global_NAME).
struct Feature {
  std::string name;
  std::string source;  // the physical quantity that is transformed
  bool global = false;
  physics::Chain chain;

  // feature_pt; or feature_phi_sin and feature_phi_cos
  std::vector<std::string> columns() const;
};

struct Recipe {
  std::string doc;
  std::vector<std::string> select;                                                         // expressions over event variables; all must hold
  std::vector<std::string> process;                                                        // events of these processes only; empty: all
  std::map<std::string, ObjectCut> cuts;                                                   // by kind of object ("jet", …, or "particle")
  std::string sort = "pt";                                                                 // falling: pt, energy, eta, phi, mass; or none
  std::uint32_t max_objects = 0;                                                           // after sorting; 0: all
  double btag_cut = 0.5;                                                                   // from which a jet counts as b-tagged
  std::vector<std::string> derive{"n_jets", "n_bjets", "n_leptons", "ht", "st", "m_vis"};  // event-level columns to write
  double train_fraction = 1;                                                               // of the events, by random number, that fitted steps see
  std::uint64_t max_values = 1'000'000;                                                    // per feature, kept for fitting
  std::vector<Feature> features;

  bool needs_fit() const;
};

// Throws Exit::usage: a missing file, TOML syntax with its line, an unknown key with the nearest known one, a value of the
// wrong type or out of range.
Recipe read_recipe(const std::string& path);
Recipe parse_recipe(std::string_view text, const std::string& where);

// Fitted transforms as a file of JSON, and back into a recipe's features: names, sources and steps must agree.
nlohmann::json transforms_json(const Recipe& recipe);
void save_transforms(const Recipe& recipe, const std::string& path, std::uint64_t events, bool force);
void load_transforms(Recipe& recipe, const std::string& path);
// The features alone, as they stand in the metadata of a stream. `where` names the stream in errors (Exit::input).
std::vector<Feature> features_of(const nlohmann::json& transforms, const std::string& where);

}  // namespace bl::preprocess
