#include "tokenize/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/hash.hpp"

namespace bl::tokenize {
namespace {

using models::TokenizerKind;

nlohmann::json errors(const models::ErrorTally& e) { return {{"mean", e.mean()}, {"std", e.std()}, {"quantile68", e.quantile68()}, {"entries", e.entries()}}; }

nlohmann::json sides(const std::array<std::uint64_t, 2>& counts) { return {{"below", counts[0]}, {"above", counts[1]}}; }

nlohmann::json edges_of(const models::Binning& bins) {
  auto out = nlohmann::json::array();
  for (const double e : bins.edges) {
    if (std::isfinite(e)) out.push_back(e);
    else out.push_back(nullptr);  // JSON has no infinity: the last bin of a count is open
  }
  return out;
}

std::string list(const nlohmann::json& values) {
  std::string out;
  for (const auto& v : values) out += (out.empty() ? "" : " ") + (v.is_null() ? "…" : fmt::format("{:.4g}", v.get<double>()));
  return out;
}

std::string share(const nlohmann::json& part, const nlohmann::json& whole) {
  const double n = whole.get<double>();
  return fmt::format("{} ({:.2f} %)", part.get<std::uint64_t>(), n > 0 ? 100 * part.get<double>() / n : 0.0);
}

}  // namespace

nlohmann::json report(const models::Tokenizer& t, const models::Tally& tally, const std::vector<std::string>& notes) {
  const models::Usage u = usage(t, tally.used);
  nlohmann::json edges = {{"eta", edges_of(t.eta)}, {"phi", edges_of(t.phi)}}, extras = nlohmann::json::object(), pt = nlohmann::json::object();
  for (std::size_t i = 0; i < t.categories.size(); ++i) pt[std::string(models::category_name(t.categories[i]))] = edges_of(t.pt[i]);
  edges["pt"] = pt;
  for (const auto& e : t.extras)
    extras[std::string(name_of(e.what))] = {{"edges", edges_of(e.bins)}, {"outside", sides(tally.extra_outside[static_cast<std::size_t>(e.what)])}};
  auto codes = nlohmann::json::array();
  for (std::size_t id = 0; id < tally.used.size(); ++id)
    if (tally.used[id] > 0) codes.push_back({id, tally.used[id]});
  return {{"tokenizer",
           {{"hash", hex(t.hash())},
            {"kind", name_of(t.kind)},
            {"input", t.input},
            {"frame", name_of(t.frame)},
            {"vocabulary", t.vocabulary()},
            {"max_particles", t.max_particles},
            {"edges", edges},
            {"extras", extras}}},
          {"events", tally.events},
          {"particles", tally.particles},
          {"truncated", {{"events", tally.truncated_events}, {"particles", tally.truncated_particles}}},
          {"unknown", tally.unknown},
          {"dropped", tally.dropped},
          {"outside", {{"pt", sides(tally.pt_outside)}, {"eta", sides(tally.eta_outside)}, {"phi", sides(tally.phi_outside)}}},
          {"codes", {{"all", u.codes}, {"used", u.used}, {"dead", u.dead}, {"perplexity", u.perplexity}}},
          {"entropy", {{"unigram", u.entropy}, {"particles", u.particle_entropy}, {"unit", "nat"}}},
          {"error", {{"pt_relative", errors(tally.pt_error)}, {"eta", errors(tally.eta_error)}, {"phi", errors(tally.phi_error)}}},
          {"counts", codes},
          {"notes", notes}};
}

std::string table(const nlohmann::json& r) {
  const auto& t = r["tokenizer"];
  std::string out = fmt::format("tokenizer        {} {} of {}, phi {}, vocabulary {}\n", t["kind"].get<std::string>(), t["hash"].get<std::string>(),
                                t["input"].get<std::string>(), t["frame"].get<std::string>(), t["vocabulary"].get<std::size_t>());
  out += fmt::format("events           {}\nparticles        {}\n", r["events"].get<std::uint64_t>(), r["particles"].get<std::uint64_t>());
  out += fmt::format("beyond {:<9} {} particles in {} events\n", t["max_particles"].get<std::uint32_t>(), share(r["truncated"]["particles"], r["particles"]),
                     share(r["truncated"]["events"], r["events"]));
  if (r["unknown"].get<std::uint64_t>() > 0) out += fmt::format("without category {}\n", share(r["unknown"], r["particles"]));
  if (r["dropped"].get<std::uint64_t>() > 0) out += fmt::format("too far out     {}, left out\n", share(r["dropped"], r["particles"]));
  const auto& c = r["codes"];
  out += fmt::format("codes            {}: {} used, {} dead, perplexity {:.1f}\n", c["all"].get<std::size_t>(), c["used"].get<std::size_t>(),
                     c["dead"].get<std::size_t>(), c["perplexity"].get<double>());
  out += fmt::format("unigram entropy  {:.4f} nat a token ({:.4f} particles alone)\n", r["entropy"]["unigram"].get<double>(),
                     r["entropy"]["particles"].get<double>());
  out += "after decoding          mean       std   68 % within   below   above range\n";
  for (const auto& [key, name, side] : {std::tuple("pt_relative", "pt, relative", "pt"), std::tuple("eta", "eta", "eta"), std::tuple("phi", "phi", "phi")}) {
    const auto& e = r["error"][key];
    const auto& o = r["outside"][side];
    out += fmt::format("  {:<14} {:>11.4f} {:>9.4f} {:>13.4f} {:>7} {:>7}\n", name, e["mean"].get<double>(), e["std"].get<double>(),
                       e["quantile68"].get<double>(), o["below"].get<std::uint64_t>(), o["above"].get<std::uint64_t>());
  }
  const auto kind = t["kind"].get<std::string>();
  if (kind != name_of(TokenizerKind::kmeans) && kind != name_of(TokenizerKind::vqvae) && kind != name_of(TokenizerKind::vqvae_conditional)) {
    // the same pt edges for many categories are one line
    std::vector<std::pair<std::string, std::string>> lines;
    for (const auto& [category, edges] : t["edges"]["pt"].items()) {
      const std::string text = list(edges);
      if (auto same = std::find_if(lines.begin(), lines.end(), [&](const auto& l) { return l.second == text; }); same != lines.end())
        same->first += " " + category;
      else lines.emplace_back(category, text);
    }
    for (const auto& [categories, text] : lines) out += fmt::format("edges of pt      {}  ({})\n", text, categories);
    out += fmt::format("edges of eta     {}\nedges of phi     {}\n", list(t["edges"]["eta"]), list(t["edges"]["phi"]));
  }
  for (const auto& [name, e] : t["extras"].items())
    out += fmt::format("token of {:<9} {}  ({} below, {} above)\n", name, list(e["edges"]), e["outside"]["below"].get<std::uint64_t>(),
                       e["outside"]["above"].get<std::uint64_t>());
  for (const auto& note : r["notes"]) out += "note             " + note.get<std::string>() + "\n";
  return out;
}

}  // namespace bl::tokenize
