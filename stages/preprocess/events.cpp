#include "preprocess/events.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "physics/objects.hpp"
#include "physics/vectors.hpp"

namespace bl::preprocess {
namespace {

[[noreturn]] void bad(std::string_view name, double value, std::string_view why) { throw BadValue(fmt::format("{}: {} {}", name, shown(value), why)); }

void need_finite(std::string_view name, double value) {
  if (!std::isfinite(value)) bad(name, value, "is not a finite number");
}

float positive(std::string_view name, double value) {
  need_finite(name, value);
  if (value < 0) bad(name, value, "is negative");
  if (value > 1e30) bad(name, value, "is too large for a momentum in GeV");
  return static_cast<float>(value);
}

template <class T>
void cut(std::vector<T>& values, std::size_t size) {
  if (values.size() > size) values.resize(size);
}

}  // namespace

std::string shown(double value) { return std::isnan(value) ? "nan" : fmt::format("{}", value); }

std::string shown(std::string_view text, std::size_t length) {
  std::string out;
  for (const unsigned char c : text.substr(0, length)) {
    if (c >= 0x20 && c < 0x7f) out += static_cast<char>(c);
    else out += fmt::format("\\x{:02x}", c);
  }
  return text.size() > length ? out + "…" : out;
}

double angle(double value, std::string_view name) {
  need_finite(name, value);
  if (std::abs(value) > 4 * M_PI) bad(name, value, "is not an angle in radians");
  return physics::wrap_phi(value);
}

double mass_or_zero(double mass, double scale) {
  need_finite("mass", mass);
  if (mass < 0) {
    if (mass < -1e-3 * std::max(scale, 1.0)) bad("mass", mass, "is negative");
    return 0;
  }
  return mass;
}

Events::Events(Layout layout) : layout_(std::move(layout)), extra_(layout_.extra.size()) {}

void Events::begin(const Event& event) {
  open_ = true;
  id_.push_back(event.id);
  weight_.push_back(event.weight);
  process_.insert(process_.end(), event.process.begin(), event.process.end());
  process_offsets_.push_back(static_cast<std::uint32_t>(process_.size()));
  need_finite("weight", event.weight);
  // Names travel into tables, JSON and terminals.
  if (event.process.size() > 255 || !std::all_of(event.process.begin(), event.process.end(), [](char c) { return c >= 0x20 && c < 0x7f; }))
    throw BadValue(fmt::format("process: '{}' is not a name of up to 255 printable ASCII characters", shown(event.process)));
  if (layout_.label) label_.push_back(event.label);
  if (!layout_.particles) {
    met_.push_back(positive("MET", event.met));
    met_phi_.push_back(static_cast<float>(angle(event.met_phi, "METphi")));
  } else if (layout_.jet) {
    jet_pt_.push_back(positive("jet pt", event.jet_pt));
    need_finite("jet eta", event.jet_eta);
    jet_eta_.push_back(static_cast<float>(event.jet_eta));
    jet_phi_.push_back(physics::wrap_phi(static_cast<float>(angle(event.jet_phi, "jet phi"))));
    if (layout_.jet_mass) jet_mass_.push_back(static_cast<float>(mass_or_zero(event.jet_mass, event.jet_pt)));
  }
}

void Events::kinematics(double pt, double eta, double phi) {
  pt_.push_back(positive("pt", pt));
  need_finite("eta", eta);
  if (std::abs(eta) > 20) bad("eta", eta, "is outside -20 to 20");
  eta_.push_back(static_cast<float>(eta));
  phi_.push_back(physics::wrap_phi(static_cast<float>(angle(phi, "phi"))));
}

void Events::object(const Object& o) {
  kinematics(o.pt, o.eta, o.phi);
  if (o.type < 1 || o.type > physics::kObjectTypes) bad("type", o.type, "is not a kind of object: known are 1 jet, 2 electron, 3 muon, 4 photon, 5 tau");
  if (o.charge < -1 || o.charge > 1) bad("charge", o.charge, "is outside -1 to 1");
  if (!(o.btag >= 0 && o.btag <= 1)) bad("btag", o.btag, "is outside 0 to 1: give --btag-cut, the value of the working point, to make it a flag");
  type_.push_back(o.type);
  charge_.push_back(static_cast<std::int8_t>(o.charge));
  mass_.push_back(static_cast<float>(mass_or_zero(o.mass, o.pt)));
  btag_.push_back(static_cast<float>(o.btag));
}

void Events::particle(double pt, double eta, double phi, double mass, int charge, std::int32_t pid, const Tracking& t) {
  kinematics(pt, eta, phi);
  if (layout_.mass) mass_.push_back(static_cast<float>(mass_or_zero(mass, pt)));
  if (layout_.charge) {
    if (charge < -1 || charge > 1) bad("charge", charge, "is outside -1 to 1");
    charge_.push_back(static_cast<std::int8_t>(charge));
  }
  if (layout_.pid) pid_.push_back(pid);
  if (layout_.tracking) {
    need_finite("d0", t.d0);
    need_finite("dz", t.dz);
    d0_.push_back(static_cast<float>(t.d0));
    d0_error_.push_back(positive("d0 error", t.d0_error));
    dz_.push_back(static_cast<float>(t.dz));
    dz_error_.push_back(positive("dz error", t.dz_error));
  }
}

void Events::end() {
  offsets_.push_back(static_cast<std::uint32_t>(pt_.size()));
  open_ = false;
}

void Events::drop() {
  if (!open_) return;
  open_ = false;
  const std::size_t events = id_.size() - 1, objects = offsets_.back();
  id_.resize(events);
  cut(weight_, events);
  process_offsets_.resize(events + 1);
  process_.resize(process_offsets_.back());
  for (auto* column : {&met_, &met_phi_, &jet_pt_, &jet_eta_, &jet_phi_, &jet_mass_}) cut(*column, events);
  cut(label_, events);
  for (auto& column : extra_) cut(column, events);
  for (auto* column : {&pt_, &eta_, &phi_, &mass_, &btag_, &d0_, &d0_error_, &dz_, &dz_error_}) cut(*column, objects);
  cut(type_, objects);
  cut(charge_, objects);
  cut(pid_, objects);
}

std::size_t Events::bytes() const {
  const std::size_t entry =
      layout_.particles ? 12 + (layout_.mass ? 4 : 0) + (layout_.charge ? 1 : 0) + (layout_.pid ? 4 : 0) + (layout_.tracking ? 16 : 0) : 22;
  return id_.size() * (32 + 8 * extra_.size()) + process_.size() + pt_.size() * entry;
}

Batch Events::take() {
  Batch b;
  b.events = size();
  std::vector<std::uint64_t> index(b.events);
  std::iota(index.begin(), index.end(), std::uint64_t{0});
  const std::string dim = layout_.particles ? "particle" : "object";
  b.set("event_index", {"event"}, index);
  b.set("event_id", {"event"}, id_);
  b.set("weight", {"event"}, weight_);
  b.set("process_char_offsets", {"event+1"}, process_offsets_);
  b.set("process", {"process_char"}, process_);
  if (layout_.label) b.set("label", {"event"}, label_);
  b.set(dim + "_offsets", {"event+1"}, offsets_);
  if (layout_.particles) {
    if (layout_.jet) {
      b.set("jet_pt", {"event"}, jet_pt_);
      b.set("jet_eta", {"event"}, jet_eta_);
      b.set("jet_phi", {"event"}, jet_phi_);
      if (layout_.jet_mass) b.set("jet_mass", {"event"}, jet_mass_);
    }
  } else {
    b.set("met", {"event"}, met_);
    b.set("met_phi", {"event"}, met_phi_);
    b.set("type", {dim}, type_);
    b.set("btag", {dim}, btag_);
  }
  b.set("pt", {dim}, pt_);
  b.set("eta", {dim}, eta_);
  b.set("phi", {dim}, phi_);
  if (!layout_.particles || layout_.mass) b.set("mass", {dim}, mass_);
  if (!layout_.particles || layout_.charge) b.set("charge", {dim}, charge_);
  if (layout_.pid) b.set("pid", {dim}, pid_);
  if (layout_.tracking) {
    b.set("d0", {dim}, d0_);
    b.set("d0_error", {dim}, d0_error_);
    b.set("dz", {dim}, dz_);
    b.set("dz_error", {dim}, dz_error_);
  }
  for (std::size_t i = 0; i < extra_.size(); ++i) b.set(kExtra + layout_.extra[i], {"event"}, extra_[i]);
  *this = Events(std::move(layout_));
  return b;
}

}  // namespace bl::preprocess
