#include "physics/objects.hpp"

#include <array>
#include <utility>

namespace bl::physics {
namespace {

constexpr std::array<std::string_view, kObjectTypes + 1> kTypeNames{"", "jet", "electron", "muon", "photon", "tau"};
constexpr std::array<std::string_view, kCategories> kCategoryNames{"-", "j", "b", "e-", "e+", "m-", "m+", "g", "tau-", "tau+", "c"};

constexpr std::pair<std::string_view, Spelling> kSpellings[] = {
    {"j", {ObjectType::jet, 0, false}},        {"b", {ObjectType::jet, 0, true}},
    {"e-", {ObjectType::electron, -1, false}}, {"e+", {ObjectType::electron, 1, false}},
    {"m-", {ObjectType::muon, -1, false}},     {"m+", {ObjectType::muon, 1, false}},
    {"mu-", {ObjectType::muon, -1, false}},    {"mu+", {ObjectType::muon, 1, false}},
    {"g", {ObjectType::photon, 0, false}},     {"tau-", {ObjectType::tau, -1, false}},
    {"tau+", {ObjectType::tau, 1, false}},     {"t-", {ObjectType::tau, -1, false}},
    {"t+", {ObjectType::tau, 1, false}},       {"e", {ObjectType::electron, 0, false}},
    {"m", {ObjectType::muon, 0, false}},       {"mu", {ObjectType::muon, 0, false}},
    {"t", {ObjectType::tau, 0, false}},        {"tau", {ObjectType::tau, 0, false}},
    {"jet", {ObjectType::jet, 0, false}},      {"b-jet", {ObjectType::jet, 0, true}},
    {"bjet", {ObjectType::jet, 0, true}},      {"electron", {ObjectType::electron, 0, false}},
    {"muon", {ObjectType::muon, 0, false}},    {"photon", {ObjectType::photon, 0, false}},
    {"gamma", {ObjectType::photon, 0, false}},
};

}  // namespace

std::string_view name_of(ObjectType type) {
  const auto i = static_cast<std::size_t>(type);
  return i < kTypeNames.size() ? kTypeNames[i] : "";
}

std::optional<ObjectType> type_named(std::string_view name) {
  for (std::size_t i = 1; i < kTypeNames.size(); ++i)
    if (kTypeNames[i] == name) return static_cast<ObjectType>(i);
  return std::nullopt;
}

std::uint8_t category(std::uint8_t type, int charge, float btag, float btag_cut) {
  switch (static_cast<ObjectType>(type)) {
    case ObjectType::jet: return btag >= btag_cut ? kBjet : kJet;
    case ObjectType::electron: return charge > 0 ? kElectronPlus : kElectronMinus;
    case ObjectType::muon: return charge > 0 ? kMuonPlus : kMuonMinus;
    case ObjectType::photon: return kPhoton;
    case ObjectType::tau: return charge > 0 ? kTauPlus : kTauMinus;
  }
  return kNone;
}

std::string_view category_name(std::uint8_t category) { return category < kCategories ? kCategoryNames[category] : "?"; }

std::optional<Spelling> spelled(std::string_view name) {
  for (const auto& [spelling, meaning] : kSpellings)
    if (spelling == name) return meaning;
  return std::nullopt;
}

const std::vector<std::string>& known_spellings() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& entry : kSpellings) all.emplace_back(entry.first);
    return all;
  }();
  return names;
}

}  // namespace bl::physics
