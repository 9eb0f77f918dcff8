#include "tokens/convert.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "base/error.hpp"
#include "physics/vectors.hpp"

namespace bl::tokens {
namespace {

using models::Extra;

// Columns that every event keeps from end to end.
void carry(const Batch& from, Batch& to, std::initializer_list<std::string_view> names) {
  for (const auto name : names)
    if (const Column* c = from.find(name)) to.put(*c);
}

bool falling(std::span<const float> pt) { return std::is_sorted(pt.begin(), pt.end(), std::greater<>()); }

// One event's particles, put in falling pt where they are not.
struct Ordered {
  std::vector<std::uint8_t> category;
  std::vector<float> pt, eta, phi;
  std::vector<std::size_t> order;

  void sort() {
    if (falling(pt)) return;
    order.resize(pt.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return pt[a] > pt[b]; });
    permute(category);
    permute(eta);
    permute(phi);
    permute(pt);
  }

 private:
  template <class T>
  void permute(std::vector<T>& values) const {
    std::vector<T> sorted(values.size());
    for (std::size_t i = 0; i < order.size(); ++i) sorted[i] = values[order[i]];
    values.swap(sorted);
  }
};

struct Sums {
  float jets = 0, bjets = 0, leptons = 0;
  double ht = 0;
};

Sums sums_of(std::span<const std::uint8_t> type, std::span<const float> pt, std::span<const float> btag, double cut) {
  Sums s;
  for (std::size_t i = 0; i < type.size(); ++i) {
    if (type[i] == 1) {
      ++s.jets;
      s.ht += static_cast<double>(pt[i]);
      if (static_cast<double>(btag[i]) >= cut) ++s.bjets;
    }
    if (type[i] == 2 || type[i] == 3) ++s.leptons;
  }
  return s;
}

void for_each_whole_event(const Batch& batch, double btag_cut, models::Unknown unknown, const std::function<void(const models::Event&)>& use) {
  const auto index = batch.get<std::uint64_t>("event_index");
  const auto offsets = batch.get<std::uint32_t>("object_offsets");
  const auto type = batch.get<std::uint8_t>("type");
  const auto charge = batch.get<std::int8_t>("charge");
  const auto pt = batch.get<float>("pt"), eta = batch.get<float>("eta"), phi = batch.get<float>("phi"), btag = batch.get<float>("btag");
  const auto met = batch.get<float>("met"), met_phi = batch.get<float>("met_phi");
  const auto optional = [&](std::string_view name) { return batch.has(name) ? batch.get<float>(name) : std::span<const float>(); };
  const auto n_jets = optional("n_jets"), n_bjets = optional("n_bjets"), n_leptons = optional("n_leptons"), ht = optional("ht");

  Ordered o;
  for (std::uint32_t e = 0; e < batch.events; ++e) {
    const std::size_t first = offsets[e], n = offsets[e + 1] - first;
    o.category.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
      o.category[i] = category_of(type[first + i], charge[first + i], btag[first + i], btag_cut);
      if (o.category[i] == 0 && unknown != models::Unknown::drop)
        fail(Exit::input, "event {}, object {}: {} of charge {} has no category; choose --unknown drop to leave such objects out", index[e], i,
             type[first + i] == 2   ? "an electron"
             : type[first + i] == 3 ? "a muon"
                                    : "a tau",
             charge[first + i]);
    }
    o.pt.assign(pt.begin() + static_cast<std::ptrdiff_t>(first), pt.begin() + static_cast<std::ptrdiff_t>(first + n));
    o.eta.assign(eta.begin() + static_cast<std::ptrdiff_t>(first), eta.begin() + static_cast<std::ptrdiff_t>(first + n));
    o.phi.assign(phi.begin() + static_cast<std::ptrdiff_t>(first), phi.begin() + static_cast<std::ptrdiff_t>(first + n));
    o.sort();
    const Sums sums = sums_of(type.subspan(first, n), pt.subspan(first, n), btag.subspan(first, n), btag_cut);
    models::Event event;
    event.index = index[e];
    event.category = o.category;
    event.pt = o.pt;
    event.eta = o.eta;
    event.phi = o.phi;
    const auto set = [&](Extra what, float value) { event.extras[static_cast<std::size_t>(what)] = value; };
    set(Extra::met, met[e]);
    set(Extra::met_phi, met_phi[e]);
    set(Extra::n_jets, n_jets.empty() ? sums.jets : n_jets[e]);
    set(Extra::n_bjets, n_bjets.empty() ? sums.bjets : n_bjets[e]);
    set(Extra::n_leptons, n_leptons.empty() ? sums.leptons : n_leptons[e]);
    set(Extra::ht, ht.empty() ? static_cast<float>(sums.ht) : ht[e]);
    use(event);
  }
}

void for_each_jet(const Batch& batch, const std::function<void(const models::Event&)>& use) {
  const auto index = batch.get<std::uint64_t>("event_index");
  const auto offsets = batch.get<std::uint32_t>("particle_offsets");
  const auto pt = batch.get<float>("pt"), eta = batch.get<float>("eta"), phi = batch.get<float>("phi");
  const bool has_axis = batch.has("jet_eta") && batch.has("jet_phi");
  const auto jet_eta = has_axis ? batch.get<float>("jet_eta") : std::span<const float>();
  const auto jet_phi = has_axis ? batch.get<float>("jet_phi") : std::span<const float>();
  Ordered o;
  for (std::uint32_t e = 0; e < batch.events; ++e) {
    const auto first = static_cast<std::ptrdiff_t>(offsets[e]), last = static_cast<std::ptrdiff_t>(offsets[e + 1]);
    o.category.assign(static_cast<std::size_t>(last - first), models::kCategories);
    o.pt.assign(pt.begin() + first, pt.begin() + last);
    o.eta.assign(eta.begin() + first, eta.begin() + last);
    o.phi.assign(phi.begin() + first, phi.begin() + last);
    o.sort();
    models::Event event;
    event.index = index[e];
    event.category = o.category;
    event.pt = o.pt;
    event.eta = o.eta;
    event.phi = o.phi;
    if (has_axis) {
      event.axis_eta = static_cast<double>(jet_eta[e]);
      event.axis_phi = static_cast<double>(jet_phi[e]);
    } else {
      double px = 0, py = 0, pz = 0;
      for (std::size_t i = 0; i < o.pt.size(); ++i) {
        const auto p = static_cast<double>(o.pt[i]), f = static_cast<double>(o.phi[i]);
        px += p * std::cos(f);
        py += p * std::sin(f);
        pz += p * std::sinh(static_cast<double>(o.eta[i]));
      }
      const double transverse = std::hypot(px, py);
      if (transverse > 0) {
        event.axis_eta = std::asinh(pz / transverse);
        event.axis_phi = std::atan2(py, px);
      }
    }
    use(event);
  }
}

struct Kind {
  std::uint8_t type;
  std::int8_t charge;
  float btag;
};

// of an object of a category, as the tokenizer's inverse of category_of
Kind kind_of(std::uint8_t category) {
  switch (category) {
    case 2: return {1, 0, 1};
    case 3: return {2, -1, 0};
    case 4: return {2, 1, 0};
    case 5: return {3, -1, 0};
    case 6: return {3, 1, 0};
    case 7: return {4, 0, 0};
    case 8: return {5, -1, 0};
    case 9: return {5, 1, 0};
    default: return {1, 0, 0};
  }
}

}  // namespace

std::uint8_t category_of(std::uint8_t type, std::int8_t charge, float btag, double cut) {
  const auto signed_one = [&](std::uint8_t negative) { return charge == 0 ? std::uint8_t{0} : static_cast<std::uint8_t>(negative + (charge > 0)); };
  switch (type) {
    case 1: return static_cast<double>(btag) >= cut ? 2 : 1;
    case 2: return signed_one(3);
    case 3: return signed_one(5);
    case 4: return 7;
    case 5: return signed_one(8);
    default: return 0;
  }
}

void for_each_event(const Batch& batch, double btag, models::Unknown unknown, const std::function<void(const models::Event&)>& use) {
  if (batch.has("object_offsets")) for_each_whole_event(batch, btag, unknown, use);
  else for_each_jet(batch, use);
}

Batch encode(const Batch& batch, const models::Encoder& encoder, models::Unknown unknown, bool errors, models::Tally& total, std::mutex& lock) {
  models::Tally tally(encoder, errors);
  models::Tokens tokens;
  std::vector<std::uint32_t> offsets{0};
  std::vector<float> n_objects, ht, axis_eta, axis_phi;
  const bool whole = batch.has("object_offsets");
  std::optional<models::JetEncoder> network;
  if (learned(encoder.tokenizer().kind)) network.emplace(encoder);
  for_each_event(batch, encoder.tokenizer().btag, unknown, [&](const models::Event& event) {
    if (network) network->add(event, tokens, tally);
    else encoder.encode(event, tokens, tally);
    offsets.push_back(static_cast<std::uint32_t>(tokens.token.size()));
    n_objects.push_back(static_cast<float>(event.category.size()));
    ht.push_back(event.extras[static_cast<std::size_t>(Extra::ht)]);
    axis_eta.push_back(static_cast<float>(event.axis_eta));
    axis_phi.push_back(physics::wrap_phi(static_cast<float>(event.axis_phi)));
  });
  if (network) network->finish(tokens, tally);
  Batch out;
  out.seq = batch.seq;
  out.events = batch.events;
  carry(batch, out, {"event_index", "event_id", "weight", "process_char_offsets", "process", "label"});
  out.set("n_objects", {"event"}, n_objects);
  if (whole) {
    out.set("ht", {"event"}, ht);
    carry(batch, out, {"met", "met_phi"});
  } else {
    out.set("jet_eta", {"event"}, axis_eta);
    out.set("jet_phi", {"event"}, axis_phi);
    carry(batch, out, {"jet_pt", "jet_mass"});
  }
  out.set("token_offsets", {"event+1"}, offsets);
  out.set("token", {"token"}, tokens.token);
  out.set("position", {"token"}, tokens.position);
  out.set("category", {"token"}, tokens.category);
  out.set("pt", {"token"}, tokens.pt);
  out.set("eta", {"token"}, tokens.eta);
  out.set("phi", {"token"}, tokens.phi);
  const std::lock_guard guard(lock);
  total.merge(tally);
  return out;
}

Batch decode(const Batch& batch, const models::Encoder& encoder, std::uint64_t& lost, std::mutex& lock) {
  const models::Tokenizer& t = encoder.tokenizer();
  const bool whole = t.input == "objects/1";
  const auto index = batch.get<std::uint64_t>("event_index");
  const auto offsets = batch.get<std::uint32_t>("token_offsets");
  const auto token = batch.get<std::int32_t>("token");
  const auto vocabulary = static_cast<std::int32_t>(t.vocabulary());

  // An event-level quantity: the stream's own value where it was carried, else what its token says.
  const auto event_level = [&](Extra what) {
    const std::string name(name_of(what));
    if (batch.has(name)) {
      const auto values = batch.get<float>(name);
      return std::optional(std::vector<float>(values.begin(), values.end()));
    }
    for (std::size_t k = 0; k < t.extras.size(); ++k) {
      if (t.extras[k].what != what) continue;
      std::vector<float> values(batch.events);
      for (std::uint32_t e = 0; e < batch.events; ++e) {
        bool found = false;
        double value = 0;
        for (std::uint32_t i = offsets[e]; i < offsets[e + 1] && !found; ++i) found = encoder.decode_extra(token[i], k, value);
        if (!found) fail(Exit::input, "event {} has neither a column nor a token for {}", index[e], name);
        values[e] = static_cast<float>(value);
      }
      return std::optional(values);
    }
    return std::optional<std::vector<float>>();
  };
  std::vector<float> met, met_phi;
  if (whole) {
    const auto size = event_level(Extra::met), angle = event_level(Extra::met_phi);
    if (!size || !angle) fail(Exit::input, "the tokens carry no {} (neither column nor event-level token), and objects/1 needs it", size ? "met_phi" : "met");
    met = *size;
    met_phi = *angle;
  }

  // A jet's axis, where the tokens carry it.
  const bool has_axis = !whole && batch.has("jet_eta") && batch.has("jet_phi");
  const auto axis_eta = has_axis ? batch.get<float>("jet_eta") : std::span<const float>();
  const auto axis_phi = has_axis ? batch.get<float>("jet_phi") : std::span<const float>();

  // Tokens of particles, and what they stand for.
  std::vector<std::uint64_t> firsts{0};
  std::vector<std::int32_t> of_particles;
  std::vector<models::Decoded> values;
  std::uint64_t not_particles = 0;
  for (std::uint32_t e = 0; e < batch.events; ++e) {
    for (std::uint32_t i = offsets[e]; i < offsets[e + 1]; ++i) {
      if (token[i] < 0 || token[i] >= vocabulary)
        fail(Exit::input, "event {}, token {}: {} is not in the tokenizer's vocabulary of {}", index[e], i - offsets[e], token[i], vocabulary);
      const models::Decoded& d = encoder.decode(token[i]);
      if (d.category == 0) {
        const bool special = token[i] == 0 || token[i] >= t.start_id();
        not_particles += special;
        continue;
      }
      of_particles.push_back(token[i]);
      values.push_back(d);
    }
    firsts.push_back(values.size());
  }
  if (encoder.conditional()) {
    values.clear();
    encoder.decode_jets(of_particles, firsts, values);
  }

  std::vector<std::uint32_t> ends{0};
  std::vector<float> jet_pt, jet_mass;
  Ordered event;
  std::vector<std::uint8_t> type;
  std::vector<std::int8_t> charge;
  std::vector<float> pt, eta, phi, btag;
  for (std::uint32_t e = 0; e < batch.events; ++e) {
    event = {};
    const double reference_eta = has_axis ? static_cast<double>(axis_eta[e]) : 0;
    const double reference_phi = whole ? static_cast<double>(met_phi[e]) : has_axis ? static_cast<double>(axis_phi[e]) : 0;
    for (std::size_t i = firsts[e]; i < firsts[e + 1]; ++i) {
      const models::Decoded& d = values[i];
      const auto direction = models::from_frame(t.frame, reference_eta, reference_phi, static_cast<double>(d.eta), static_cast<double>(d.phi));
      event.category.push_back(d.category);
      event.pt.push_back(d.pt);
      event.eta.push_back(direction.eta);
      event.phi.push_back(direction.phi);
    }
    event.sort();
    if (!whole) {
      const std::vector<float> massless(event.pt.size());
      const physics::Momentum jet = physics::sum(event.pt, event.eta, event.phi, massless);
      jet_pt.push_back(static_cast<float>(jet.pt()));
      jet_mass.push_back(static_cast<float>(jet.mass()));
    }
    for (const auto c : event.category) {
      const Kind k = kind_of(c);
      type.push_back(k.type);
      charge.push_back(k.charge);
      btag.push_back(k.btag);
    }
    pt.insert(pt.end(), event.pt.begin(), event.pt.end());
    eta.insert(eta.end(), event.eta.begin(), event.eta.end());
    phi.insert(phi.end(), event.phi.begin(), event.phi.end());
    ends.push_back(static_cast<std::uint32_t>(pt.size()));
  }

  Batch out;
  out.seq = batch.seq;
  out.events = batch.events;
  carry(batch, out, {"event_index", "event_id", "weight", "process_char_offsets", "process", "label"});
  const std::string dim = whole ? "object" : "particle";
  out.set(dim + "_offsets", {"event+1"}, ends);
  out.set("pt", {dim}, pt);
  out.set("eta", {dim}, eta);
  out.set("phi", {dim}, phi);
  out.set("mass", {dim}, std::vector<float>(pt.size()));
  if (whole) {
    out.set("type", {dim}, type);
    out.set("charge", {dim}, charge);
    out.set("btag", {dim}, btag);
    out.set("met", {"event"}, met);
    out.set("met_phi", {"event"}, met_phi);
    carry(batch, out, {"ht"});
  } else {
    const auto axis = [&](std::span<const float> known) {
      return has_axis ? std::vector<float>(known.begin(), known.end()) : std::vector<float>(batch.events);
    };
    out.set("jet_pt", {"event"}, jet_pt);
    out.set("jet_eta", {"event"}, axis(axis_eta));
    out.set("jet_phi", {"event"}, axis(axis_phi));
    out.set("jet_mass", {"event"}, jet_mass);
  }
  const std::lock_guard guard(lock);
  lost += not_particles;
  return out;
}

}  // namespace bl::tokens
