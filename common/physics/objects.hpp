// Kinds of reconstructed objects, and how files spell them.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bl::physics {

// Column "type" of objects/1.
enum class ObjectType : std::uint8_t { jet = 1, electron = 2, muon = 3, photon = 4, tau = 5 };
inline constexpr std::uint8_t kObjectTypes = 5;  // types are 1 … 5
std::string_view name_of(ObjectType type);       // "jet"
std::optional<ObjectType> type_named(std::string_view name);

// What a tokenizer calls the kind of an object: type, sign of the charge and b-tag in one number. Column "category" of
// tokens/1. The numbers 1 … 7 are those of the four-top and Dark Machines event tokenisations.
enum Category : std::uint8_t {
  kNone = 0,  // no object: an event-level token
  kJet = 1,
  kBjet = 2,
  kElectronMinus = 3,
  kElectronPlus = 4,
  kMuonMinus = 5,
  kMuonPlus = 6,
  kPhoton = 7,
  kTauMinus = 8,
  kTauPlus = 9,
  kConstituent = 10,  // of a jet
};
inline constexpr std::uint8_t kCategories = 11;  // categories are 0 … 10

// type: 1 … 5 (anything else gives kNone). charge: > 0 is plus, else minus. A jet is a b-jet from btag >= btag_cut on.
std::uint8_t category(std::uint8_t type, int charge, float btag, float btag_cut = 0.5f);
std::string_view category_name(std::uint8_t category);  // "j", "b", "e-", "e+", "m-", "m+", "g", "tau-", "tau+", "c"; "-" for none

// An object as a text file spells it.
struct Spelling {
  ObjectType type;
  std::int8_t charge;  // 0 where the name does not tell
  bool btag;
};
// j b g, e- e+, m- m+ mu- mu+, tau- tau+ t- t+; without sign (e, m, mu, t, tau) the charge is 0; also jet, b-jet, bjet, photon, …
std::optional<Spelling> spelled(std::string_view name);
const std::vector<std::string>& known_spellings();

}  // namespace bl::physics
