#include "preprocess/kernel.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.hpp"
#include "physics/globals.hpp"
#include "physics/objects.hpp"
#include "physics/vectors.hpp"
#include "preprocess/events.hpp"

namespace bl::preprocess {
namespace {

constexpr int kRanked = 8;  // jet1_pt … jet8_pt

// Every column of dimension `dim`, its entries taken in the order of `indices`; new offsets.
void gather(Batch& batch, const std::string& dim, const std::vector<std::uint32_t>& indices, const std::vector<std::uint32_t>& offsets) {
  for (auto& column : batch.columns) {
    if (column.dims.empty() || column.dims[0] != dim) continue;
    const std::size_t entries = offsets_of(batch, dim)->as<std::uint32_t>()[batch.events];
    const std::size_t width = entries ? column.raw.size() / entries : 0;
    Buffer out(indices.size() * width);
    std::byte* to = out.edit();
    const std::byte* from = column.raw.data();
    if (width == 4) {  // nearly all of them
      for (std::size_t i = 0; i < indices.size(); ++i) std::memcpy(to + 4 * i, from + 4 * std::size_t{indices[i]}, 4);
    } else {
      for (std::size_t i = 0; i < indices.size(); ++i) std::memcpy(to + width * i, from + width * indices[i], width);
    }
    column.raw = std::move(out);
  }
  batch.set(dim + "_offsets", {"event+1"}, offsets);
}

// A per-event number by name, as long as the batch has it: derived quantities come from `globals`.
std::vector<std::string> variables_of(const Batch& batch, bool particles) {
  std::vector<std::string> names;
  if (!particles) {
    names = physics::global_names();
    names.emplace_back("lead_pt");
    for (int i = 1; i <= kRanked; ++i) names.push_back(fmt::format("jet{}_pt", i));
    for (int i = 1; i <= 2; ++i) names.push_back(fmt::format("lepton{}_pt", i));
  } else {
    names = {"n_particles", "lead_pt", "pt_sum", "m_vis"};
    for (const char* name : {"jet_pt", "jet_eta", "jet_phi", "jet_mass"})
      if (batch.has(name)) names.emplace_back(name);
  }
  names.insert(names.end(), {"weight", "event_id", "event_index"});
  if (batch.has("label")) names.emplace_back("label");
  for (const auto& column : batch.columns)
    if (column.name.starts_with(kExtra)) {
      const std::string name = column.name.substr(kExtra.size());
      const bool word = !name.empty() && !std::isdigit(static_cast<unsigned char>(name[0])) &&
                        std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) || c == '_'; });
      if (word && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  return names;
}

std::vector<double> ranked(std::span<const std::uint8_t> type, std::span<const float> pt, std::initializer_list<physics::ObjectType> kinds, std::size_t n) {
  std::vector<double> values;
  for (std::size_t i = 0; i < pt.size(); ++i)
    if (std::find(kinds.begin(), kinds.end(), static_cast<physics::ObjectType>(type[i])) != kinds.end()) values.push_back(pt[i]);
  std::sort(values.rbegin(), values.rend());
  values.resize(n, 0.0);  // 0 GeV where there are fewer
  return values;
}

// What inverting a feature of this source restores; empty when that takes more than the feature.
std::string restored_by(const std::string& source) {
  if (source == "phi_met") return "phi";
  if (source == "pt_frac") return "pt";
  if (source == "eta_rel") return "eta";
  if (source == "phi_rel") return "phi";
  if (source == "energy") return "";
  return source;
}

}  // namespace

Kernel::Kernel(const Recipe& recipe, bool particles) : recipe_(recipe), particles_(particles), dim_(particles ? "particle" : "object") {
  for (const auto& expression : recipe.select)
    for (auto& cut : physics::Selection::cuts_of(expression)) cuts_.push_back({std::move(cut), 0});
}

void Kernel::cut_objects(Batch& batch) const {
  if (recipe_.cuts.empty()) return;
  ObjectCut by_type[physics::kObjectTypes + 1];
  for (const auto& [kind, cut] : recipe_.cuts) {
    if (kind == "particle") by_type[0] = cut;
    else by_type[static_cast<std::size_t>(*physics::type_named(kind))] = cut;
  }
  const auto offsets = batch.get<std::uint32_t>(dim_ + "_offsets");
  const auto pt = batch.get<float>("pt"), eta = batch.get<float>("eta");
  const auto type = particles_ ? std::span<const std::uint8_t>() : batch.get<std::uint8_t>("type");
  std::vector<std::uint32_t> kept, ends{0};
  kept.reserve(pt.size());
  for (std::uint32_t e = 0; e < batch.events; ++e) {
    for (std::uint32_t i = offsets[e]; i < offsets[e + 1]; ++i) {
      const ObjectCut& cut = by_type[particles_ ? 0 : type[i]];
      if (!cut.remove && pt[i] >= cut.pt_min && std::abs(eta[i]) <= cut.abs_eta_max) kept.push_back(i);
    }
    ends.push_back(static_cast<std::uint32_t>(kept.size()));
  }
  if (kept.size() != pt.size()) gather(batch, dim_, kept, ends);
}

void Kernel::derive(Batch& batch, const std::vector<physics::Globals>& globals) const {
  if (particles_) return;
  for (const char* name : {"n_jets", "n_bjets", "n_leptons", "ht", "st", "m_vis"}) batch.erase(name);  // of a stream: before the cuts of this recipe
  for (const auto& name : recipe_.derive) {
    std::vector<float> values(batch.events);
    for (std::uint32_t e = 0; e < batch.events; ++e) values[e] = static_cast<float>(*physics::global_named(globals[e], name));
    batch.set(name, {"event"}, values);
  }
}

void Kernel::select_events(Batch& batch, std::vector<physics::Globals>& globals) {
  read_ += batch.events;
  std::vector<std::uint8_t> keep(batch.events, 1);
  if (!recipe_.process.empty()) {
    for (std::uint32_t e = 0; e < batch.events; ++e)
      keep[e] = std::find(recipe_.process.begin(), recipe_.process.end(), batch.text("process", e)) != recipe_.process.end();
  }
  if (!cuts_.empty() && batch.events > 0) {
    auto variables = variables_of(batch, particles_);
    if (variables != variables_) {
      selections_.clear();
      used_.assign(variables.size(), 0);
      for (const auto& cut : cuts_) {
        const auto& selection = selections_.emplace_back(cut.text, variables);
        for (const auto& name : selection.used()) used_[static_cast<std::size_t>(std::find(variables.begin(), variables.end(), name) - variables.begin())] = 1;
      }
      variables_ = std::move(variables);
    }
    const auto offsets = batch.get<std::uint32_t>(dim_ + "_offsets");
    const auto pt = batch.get<float>("pt");
    const auto type = particles_ ? std::span<const std::uint8_t>() : batch.get<std::uint8_t>("type");
    // Per-event columns by variable; those computed below have none.
    std::vector<const Column*> columns;
    for (const auto& name : variables_) {
      const Column* column = batch.find(kExtra + name);
      if (!column && (particles_ || !physics::global_named({}, name))) column = batch.find(name);
      columns.push_back(column && column->dims == std::vector<std::string>{"event"} ? column : nullptr);
    }
    std::vector<double> values(variables_.size());
    bool ranks = false;
    for (std::size_t v = 0; v < variables_.size(); ++v)
      ranks = ranks || (used_[v] && (variables_[v].starts_with("jet") || variables_[v].starts_with("lepton")));
    for (std::uint32_t e = 0; e < batch.events; ++e) {
      const std::size_t first = offsets[e], n = offsets[e + 1] - first;
      const auto own = pt.subspan(first, n);
      std::vector<double> jets, leptons;
      if (!particles_ && ranks) {
        jets = ranked(type.subspan(first, n), own, {physics::ObjectType::jet}, kRanked);
        leptons = ranked(type.subspan(first, n), own, {physics::ObjectType::electron, physics::ObjectType::muon}, 2);
      }
      for (std::size_t v = 0; v < variables_.size(); ++v) {
        if (!used_[v]) continue;
        const std::string& name = variables_[v];
        if (columns[v]) values[v] = columns[v]->value(e);
        else if (name == "lead_pt") values[v] = own.empty() ? 0 : *std::max_element(own.begin(), own.end());
        else if (name == "n_particles") values[v] = static_cast<double>(n);
        else if (particles_ && name == "pt_sum") values[v] = std::accumulate(own.begin(), own.end(), 0.0);
        else if (particles_ && name == "m_vis") {
          const auto mass = batch.has("mass") ? batch.get<float>("mass").subspan(first, n) : std::span<const float>();
          values[v] = physics::invariant_mass(own, batch.get<float>("eta").subspan(first, n), batch.get<float>("phi").subspan(first, n), mass);
        } else if (name.starts_with("jet") && name.ends_with("_pt")) values[v] = jets[static_cast<std::size_t>(name[3] - '1')];
        else if (name.starts_with("lepton") && name.ends_with("_pt")) values[v] = leptons[static_cast<std::size_t>(name[6] - '1')];
        else values[v] = *physics::global_named(globals[e], name);
      }
      for (std::size_t c = 0; c < cuts_.size(); ++c) {
        if (selections_[c].passes(values)) continue;
        ++cuts_[c].removed;
        keep[e] = 0;
      }
    }
  }
  std::vector<std::uint32_t> kept;
  for (std::uint32_t e = 0; e < batch.events; ++e)
    if (keep[e]) kept.push_back(e);
  selected_ += kept.size();
  if (kept.size() == batch.events) return;
  batch = select(batch, kept);
  if (particles_) return;
  for (std::size_t i = 0; i < kept.size(); ++i) globals[i] = globals[kept[i]];
  globals.resize(kept.size());
}

void Kernel::order(Batch& batch) const {
  const auto offsets = batch.get<std::uint32_t>(dim_ + "_offsets");
  const std::uint32_t limit = recipe_.max_objects ? recipe_.max_objects : ~std::uint32_t{0};
  std::vector<double> energy;
  std::span<const float> by;
  if (recipe_.sort == "energy") energy = source_values(batch, Feature{"", "energy", false, {}});
  else if (recipe_.sort != "none") by = batch.get<float>(recipe_.sort);
  const auto key = [&](std::uint32_t i) { return energy.empty() ? static_cast<double>(by[i]) : energy[i]; };

  std::vector<std::uint32_t> indices, ends{0};
  indices.reserve(offsets[batch.events]);
  bool changed = false;
  for (std::uint32_t e = 0; e < batch.events; ++e) {
    const auto begin = indices.size();
    for (std::uint32_t i = offsets[e]; i < offsets[e + 1]; ++i) indices.push_back(i);
    const auto first = indices.begin() + static_cast<std::ptrdiff_t>(begin);
    // Equal keys keep the file's order, so that the result does not depend on the sort.
    const auto falling = [&](std::uint32_t a, std::uint32_t b) { return key(a) > key(b); };
    if (recipe_.sort != "none" && !std::is_sorted(first, indices.end(), falling)) {
      std::stable_sort(first, indices.end(), falling);
      changed = true;
    }
    if (indices.size() - begin > limit) {
      indices.resize(begin + limit);
      changed = true;
    }
    ends.push_back(static_cast<std::uint32_t>(indices.size()));
  }
  if (changed) gather(batch, dim_, indices, ends);
}

Batch Kernel::prepare(Batch batch) {
  cut_objects(batch);
  std::vector<physics::Globals> globals;
  if (!particles_) globals = physics::globals_of(batch, static_cast<float>(recipe_.btag_cut));
  derive(batch, globals);
  select_events(batch, globals);
  std::erase_if(batch.columns, [](const Column& c) { return c.name.starts_with(kExtra); });
  keep_sources(batch, globals);
  order(batch);
  return batch;
}

// What global features are made from is of the whole event, so it is taken before the limit on multiplicity.
void Kernel::keep_sources(Batch& batch, const std::vector<physics::Globals>& globals) const {
  for (const auto& feature : recipe_.features) {
    if (!feature.global) continue;
    if (particles_) fail(Exit::usage, "[global.{}]: streams of particles have no event-level features", feature.name);
    std::vector<double> values(batch.events);
    for (std::uint32_t e = 0; e < batch.events; ++e) values[e] = *physics::global_named(globals[e], feature.source);
    batch.set(kExtra + feature.source, {"event"}, values);
  }
}

std::vector<double> Kernel::source_values(const Batch& batch, const Feature& feature) const {
  const std::string& source = feature.source;
  if (feature.global) {
    const auto values = batch.get<double>(kExtra + source);
    return {values.begin(), values.end()};
  }
  const auto offsets = batch.get<std::uint32_t>(dim_ + "_offsets");
  std::vector<double> values(offsets[batch.events]);
  const auto per_event = [&](const char* name) {
    const Column* column = batch.find(name);
    if (!column) fail(Exit::usage, "[feature.{}]: '{}' needs the column '{}', which the input does not have", feature.name, source, name);
    return column->as<float>();
  };
  const auto relative = [&](const char* own, std::span<const float> axis, auto op) {
    const auto column = batch.get<float>(own);
    for (std::uint32_t e = 0; e < batch.events; ++e)
      for (std::uint32_t i = offsets[e]; i < offsets[e + 1]; ++i) values[i] = op(column[i], axis[e]);
  };
  const auto minus_angle = [](double a, double b) { return physics::delta_phi(a, b); };
  if (source == "phi_met") relative("phi", per_event("met_phi"), minus_angle);
  else if (source == "phi_rel") relative("phi", per_event("jet_phi"), minus_angle);
  else if (source == "eta_rel") relative("eta", per_event("jet_eta"), [](double a, double b) { return a - b; });
  else if (source == "pt_frac") relative("pt", per_event("jet_pt"), [](double a, double b) { return b > 0 ? a / b : 0; });
  else if (source == "energy") {
    const auto pt = batch.get<float>("pt"), eta = batch.get<float>("eta");
    const Column* mass = batch.find("mass");
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double p = pt[i] * std::cosh(static_cast<double>(eta[i])), m = mass ? mass->as<float>()[i] : 0;
      values[i] = std::sqrt(p * p + m * m);
    }
  } else {
    const Column* column = batch.find(source);
    if (!column) fail(Exit::usage, "[feature.{}]: the input has no column '{}'", feature.name, source);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = column->value(i);
  }
  return values;
}

void Kernel::add_features(Batch& batch, const std::string& where) const {
  for (const auto& feature : recipe_.features) {
    const auto values = source_values(batch, feature);
    const auto names = feature.columns();
    std::vector<float> out[2];
    for (std::size_t k = 0; k < names.size(); ++k) out[k].resize(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      try {
        const auto y = feature.chain.forward(values[i]);
        for (std::size_t k = 0; k < names.size(); ++k) out[k][i] = static_cast<float>(y[k]);
      } catch (const Error& error) {
        auto e = static_cast<std::uint32_t>(i);
        if (!feature.global) {
          const auto offsets = batch.get<std::uint32_t>(dim_ + "_offsets");
          e = static_cast<std::uint32_t>(std::upper_bound(offsets.begin(), offsets.end(), static_cast<std::uint32_t>(i)) - offsets.begin()) - 1;
        }
        fail(Exit::input, "{}, event {}, {} '{}' from {}: {}", where, batch.get<std::uint64_t>("event_index")[e], feature.global ? "global" : "feature",
             feature.name, feature.source, error.what());
      }
    }
    for (std::size_t k = 0; k < names.size(); ++k) batch.set(names[k], {feature.global ? "event" : dim_}, out[k]);
  }
  std::erase_if(batch.columns, [](const Column& c) { return c.name.starts_with(kExtra); });
}

void Kernel::invert(Batch& batch, const std::vector<Feature>& features, const std::string& where) {
  const std::string dim = batch.has("particle_offsets") ? "particle" : "object";
  std::vector<std::string> done;
  for (const auto& feature : features) {
    const auto names = feature.columns();
    const std::string target = restored_by(feature.source);
    const Column* first = batch.find(names[0]);
    const Column* second = names.size() > 1 ? batch.find(names[1]) : nullptr;
    if (!first || (names.size() > 1 && !second))
      fail(Exit::input, "{}: column '{}' is missing, though the stream's metadata name its transform", where, first ? names[1] : names[0]);
    if (!target.empty() && std::find(done.begin(), done.end(), target) == done.end() && batch.has(target)) {
      done.push_back(target);
      const auto y0 = first->as<float>();
      const auto y1 = second ? second->as<float>() : std::span<const float>();
      std::vector<float> values(y0.size());
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(feature.chain.inverse({y0[i], second ? y1[i] : 0.0}));
      const auto against = [&](const char* axis, auto op) {
        const auto offsets = batch.get<std::uint32_t>(dim + "_offsets");
        const auto reference = batch.get<float>(axis);
        for (std::uint32_t e = 0; e < batch.events; ++e)
          for (std::uint32_t i = offsets[e]; i < offsets[e + 1]; ++i) values[i] = op(values[i], reference[e]);
      };
      const auto plus = [](float a, float b) { return a + b; };
      if (feature.source == "phi_met") against("met_phi", plus);
      if (feature.source == "phi_rel") against("jet_phi", plus);
      if (feature.source == "eta_rel") against("jet_eta", plus);
      if (feature.source == "pt_frac") against("jet_pt", [](float a, float b) { return a * b; });
      if (target == "phi" || target == "met_phi")
        for (auto& value : values) value = physics::wrap_phi(value);
      // Rounding must not leave the schema: what cannot be negative is not.
      if (target == "pt" || target == "mass" || target == "met")
        for (auto& value : values) value = std::max(value, 0.0f);
      const Column& column = batch.at(target);
      if (column.dtype == Dtype::f32) {
        batch.set(target, column.dims, values);
      } else if (column.dtype == Dtype::i8) {
        std::vector<std::int8_t> rounded(values.size());
        for (std::size_t i = 0; i < values.size(); ++i) rounded[i] = static_cast<std::int8_t>(std::lround(std::clamp(values[i], -1.0f, 1.0f)));
        batch.set(target, column.dims, rounded);
      }
    }
    for (const auto& name : names) batch.erase(name);
  }
}

std::string Kernel::report() const {
  std::string text = fmt::format("{} of {} events selected", selected_, read_);
  auto cuts = cuts_;
  std::stable_sort(cuts.begin(), cuts.end(), [](const Cut& a, const Cut& b) { return a.removed > b.removed; });
  for (std::size_t i = 0; i < cuts.size(); ++i) text += fmt::format("{} '{}' removed {}", i == 0 ? ":" : ",", cuts[i].text, cuts[i].removed);
  return text;
}

// ---- Fitter ----

Fitter::Fitter(const Recipe& recipe, const Rng& rng) : rng_(rng), train_fraction_(recipe.train_fraction), max_values_(recipe.max_values) {
  for (std::size_t i = 0; i < recipe.features.size(); ++i) {
    if (recipe.features[i].chain.fitted()) continue;
    which_.push_back(i);
    features_.push_back(recipe.features[i]);
  }
  samples_.resize(which_.size());
}

void Fitter::add(const Batch& batch, const Kernel& kernel) {
  const auto index = batch.get<std::uint64_t>("event_index");
  std::vector<std::uint8_t> training(batch.events);
  for (std::uint32_t e = 0; e < batch.events; ++e) {
    training[e] = rng_.uniform(index[e], 0) < train_fraction_;
    events_ += training[e];
  }
  for (std::size_t f = 0; f < features_.size(); ++f) {
    const auto values = kernel.source_values(batch, features_[f]);
    auto& samples = samples_[f];
    if (features_[f].global) {
      for (std::uint32_t e = 0; e < batch.events; ++e)
        if (training[e]) samples.push_back({rng_.bits(index[e], 1), values[e]});
    } else {
      const auto offsets = batch.get<std::uint32_t>(batch.has("particle_offsets") ? "particle_offsets" : "object_offsets");
      for (std::uint32_t e = 0; e < batch.events; ++e)
        for (std::uint32_t i = offsets[e]; training[e] && i < offsets[e + 1]; ++i) samples.push_back({rng_.bits(index[e], 1 + i - offsets[e]), values[i]});
    }
    if (samples.size() > 2 * max_values_) shrink(samples);
  }
}

void Fitter::shrink(std::vector<Sample>& samples) const {
  if (samples.size() <= max_values_) return;
  const auto before = [](const Sample& a, const Sample& b) { return a.priority < b.priority; };
  std::nth_element(samples.begin(), samples.begin() + static_cast<std::ptrdiff_t>(max_values_), samples.end(), before);
  samples.resize(max_values_);
}

void Fitter::fit(Recipe& recipe) {
  for (std::size_t f = 0; f < which_.size(); ++f) {
    auto& feature = recipe.features[which_[f]];
    auto& samples = samples_[f];
    shrink(samples);
    if (samples.empty())
      fail(Exit::input, "no training event to fit {} '{}' on: {} events were in the training split", feature.global ? "global" : "feature", feature.name,
           events_);
    // In the order of the random numbers, so that sums round alike whatever the batches were.
    std::sort(samples.begin(), samples.end(),
              [](const Sample& a, const Sample& b) { return a.priority != b.priority ? a.priority < b.priority : a.value < b.value; });
    std::vector<double> values(samples.size());
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = samples[i].value;
    try {
      feature.chain.fit(std::move(values));
    } catch (const Error& error) {
      fail(error.code(), "{} '{}' from {}: {}", feature.global ? "global" : "feature", feature.name, feature.source, error.what());
    }
  }
}

}  // namespace bl::preprocess
