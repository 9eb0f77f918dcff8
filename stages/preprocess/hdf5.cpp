// Published HDF5 data sets: LHC Olympics 2020, JetNet, SPANet, and jagged files (offsets and flat columns).
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "physics/objects.hpp"
#include "physics/vectors.hpp"
#include "preprocess/input.hpp"
#include "store/h5.hpp"

namespace bl::preprocess {
namespace {

using store::Input;
using store::Kind;

// The loop that the layouts share: `add` fills one event of the block that `load` brought.
class Hdf5Reader : public Reader {
 public:
  Hdf5Reader(const std::string& path, Format format, ReadOptions options, Bad& bad) : file_(path), format_(format), options_(std::move(options)), bad_(bad) {}

  Events::Layout layout() const override { return layout_; }

  std::optional<Batch> next() override {
    Events events(layout_);
    while (!events.full() && at_ < total_) {
      if (at_ == block_end_) {
        block_begin_ = at_;
        block_end_ = at_ + load(at_, std::min<std::uint64_t>(kBatchEvents, total_ - at_));
      }
      try {
        add(at_, static_cast<std::size_t>(at_ - block_begin_), events);
      } catch (const BadValue& e) {
        events.drop();
        bad_.add(fmt::format("'{}', event {}, {}", file_.path(), at_, e.what()));
      }
      ++at_;
    }
    given_ += events.size();
    if (events.size() > 0) return events.take();
    if (given_ == 0) fail(Exit::input, "'{}' holds no events", file_.path());
    return std::nullopt;
  }

  nlohmann::json facts() const override {
    auto facts = facts_;
    facts["format"] = name_of(format_);
    if (options_.btag_cut) facts["btag_cut"] = *options_.btag_cut;
    if (!options_.names.empty() && !facts.contains("labels")) facts["labels"] = options_.names;
    return facts;
  }

 protected:
  // Reads events [first, first + n) with n <= count, n > 0 returned.
  virtual std::uint64_t load(std::uint64_t first, std::uint64_t count) = 0;
  // Event `event`, entry `i` of the block. Throws BadValue.
  virtual void add(std::uint64_t event, std::size_t i, Events& out) = 0;

  [[noreturn]] void wrong(const std::string& why) const { fail(Exit::input, "'{}' {}", file_.path(), why); }
  // A column that must have `rows` rows.
  void need_rows(const std::string& name, std::uint64_t rows) const {
    const auto info = file_.info(name);
    if (info.rows() != rows || info.shape.size() != 1)
      wrong(fmt::format("has {} entries in '{}', {} are expected in one dimension", info.values(), name, rows));
  }
  // The name of a label by --names, empty when it has none.
  std::string_view name_of_label(std::int32_t label) const {
    return label >= 0 && static_cast<std::size_t>(label) < options_.names.size() ? std::string_view(options_.names[static_cast<std::size_t>(label)])
                                                                                 : std::string_view();
  }
  double btag(double value) const { return options_.btag_cut ? (value >= *options_.btag_cut ? 1 : 0) : std::max(value, 0.0); }

  Input file_;
  Format format_;
  ReadOptions options_;
  Bad& bad_;
  Events::Layout layout_;
  std::uint64_t total_ = 0;
  nlohmann::json facts_ = nlohmann::json::object();

 private:
  std::uint64_t at_ = 0, block_begin_ = 0, block_end_ = 0, given_ = 0;
};

// ---- LHC Olympics 2020 ----
// pandas: /df/block0_values [event, 3 * 700 (+ 1)], pt eta phi of each particle and the label; or /particles [event, 700, 3]
// with /label. Zero-padded, massless, in no order.
class LhcoReader : public Hdf5Reader {
 public:
  LhcoReader(const std::string& path, const ReadOptions& options, Bad& bad) : Hdf5Reader(path, Format::lhco, options, bad) {
    pandas_ = file_.has_dataset("df/block0_values");
    const auto shape = file_.info(pandas_ ? "df/block0_values" : "particles").shape;
    if (pandas_) {
      if (shape.size() != 2 || shape[1] < 3 || shape[1] % 3 == 2)
        wrong(fmt::format("has {} columns in 'df/block0_values': three a particle, and the label, are expected", shape.size() == 2 ? shape[1] : 0));
      slots_ = shape[1] / 3;
      row_ = shape[1];
      labelled_ = shape[1] % 3 == 1;
    } else {
      if (shape.size() != 3 || shape[2] != 3) wrong("must hold 'particles' as [event, particle, 3]: pt, eta and phi");
      slots_ = shape[1];
      row_ = slots_ * 3;
      labelled_ = file_.has_dataset("label");
      if (labelled_) need_rows("label", shape[0]);
    }
    total_ = shape[0];
    if (slots_ > 100'000) wrong(fmt::format("declares {} particles an event", slots_));
    layout_.particles = true;
    layout_.label = labelled_ || options.label;
    facts_["entries"] = "all particles of an event, massless";
    if (labelled_ && options.names.empty()) facts_["labels"] = {"background", "signal"};
  }

 private:
  std::uint64_t load(std::uint64_t first, std::uint64_t count) override {
    count = std::min<std::uint64_t>(count, std::max<std::uint64_t>(1, (4 * kBatchBytes) / (row_ * sizeof(double))));
    values_ = file_.read_rows<double>(pandas_ ? "df/block0_values" : "particles", first, count);
    if (labelled_ && !pandas_) labels_ = file_.read_rows<double>("label", first, count);
    return count;
  }

  void add(std::uint64_t event, std::size_t i, Events& out) override {
    const double* row = values_.data() + i * row_;
    Event e;
    e.id = event;
    if (labelled_) {
      const double label = pandas_ ? row[slots_ * 3] : labels_[i];
      if (!(std::abs(label) < 1e9) || label != std::floor(label)) throw BadValue(fmt::format("label: {} is not a whole number", shown(label)));
      e.label = static_cast<std::int32_t>(label);
      e.process = !options_.names.empty() ? name_of_label(e.label) : e.label == 0 ? "background" : e.label == 1 ? "signal" : "";
    }
    if (options_.label) e.label = *options_.label;
    if (!options_.process.empty()) e.process = options_.process;
    out.begin(e);
    for (std::uint64_t k = 0; k < slots_; ++k) {
      const double* v = row + 3 * k;
      if (v[0] == 0) continue;  // padding
      try {
        out.particle(v[0], v[1], v[2]);
      } catch (const BadValue& bad) {
        throw BadValue(fmt::format("particle {}, {}", k, bad.what()));
      }
    }
    out.end();
  }

  bool pandas_ = false, labelled_ = false;
  std::uint64_t slots_ = 0, row_ = 0;
  std::vector<double> values_, labels_;
};

// ---- JetNet ----
// arXiv:2106.11535, Zenodo 6975118 and 6975117, one file a class: /particle_features [jet, 30 or 150, 4] are eta and phi
// relative to the jet, pt relative to the jet's, and a mask; /jet_features [jet, 4] are pt (GeV), eta, mass, number of
// particles (of the whole jet, also where only the hardest 30 are kept). No azimuth: every jet is turned to phi = 0. The
// class stands in the file's name: g, q, t, w or z, and 150 after it where so many particles are kept.
class JetnetReader : public Hdf5Reader {
 public:
  JetnetReader(const std::string& path, const ReadOptions& options, Bad& bad) : Hdf5Reader(path, Format::jetnet, options, bad) {
    const auto particles = file_.info("particle_features").shape, jets = file_.info("jet_features").shape;
    if (particles.size() != 3 || particles[2] != 4)
      wrong("must hold 'particle_features' as [jet, particle, 4]: eta and phi relative to the jet, pt relative to the jet's, mask");
    if (jets.size() != 2 || jets[1] != 4) wrong("must hold 'jet_features' as [jet, 4]: pt, eta, mass, number of particles");
    if (particles[0] != jets[0]) wrong(fmt::format("has {} jets in 'particle_features' and {} in 'jet_features'", particles[0], jets[0]));
    total_ = jets[0];
    slots_ = particles[1];
    if (slots_ > 100'000) wrong(fmt::format("declares {} particles a jet", slots_));
    find_class();
    layout_.particles = layout_.jet = layout_.jet_mass = true;
    layout_.label = class_ >= 0 || options.label;
    facts_["jet_phi"] = "not in the file: every jet is turned to phi = 0";
    if (options.names.empty() && class_ >= 0) facts_["labels"] = kClasses;
  }

 private:
  static constexpr std::array<const char*, 5> kClasses{"g", "q", "t", "w", "z"};  // in the order of the jetnet package's numbers

  void find_class() {
    std::string stem = file_.path().substr(file_.path().find_last_of('/') + 1);
    stem = stem.substr(0, stem.find('.'));
    for (std::size_t i = 0; i < kClasses.size(); ++i)
      if (stem == kClasses[i] || stem == std::string(kClasses[i]) + "150") class_ = static_cast<std::int32_t>(i);
  }

  std::uint64_t load(std::uint64_t first, std::uint64_t count) override {
    count = std::min<std::uint64_t>(count, std::max<std::uint64_t>(1, (4 * kBatchBytes) / std::max<std::uint64_t>(1, slots_ * 4 * sizeof(double))));
    particles_ = file_.read_rows<double>("particle_features", first, count);
    jets_ = file_.read_rows<double>("jet_features", first, count);
    return count;
  }

  void add(std::uint64_t event, std::size_t i, Events& out) override {
    const double* jet = jets_.data() + 4 * i;
    Event e;
    e.id = event;
    e.jet_pt = jet[0];
    e.jet_eta = jet[1];
    e.jet_mass = jet[2];
    e.label = options_.label ? *options_.label : class_;
    e.process = !options_.process.empty() ? std::string_view(options_.process)
                : !options_.names.empty() ? name_of_label(e.label)
                : class_ >= 0             ? std::string_view(kClasses[static_cast<std::size_t>(class_)])
                                          : std::string_view();
    out.begin(e);
    for (std::uint64_t k = 0; k < slots_; ++k) {
      const double* v = particles_.data() + 4 * (i * slots_ + k);
      try {
        if (v[3] != 0 && v[3] != 1) throw BadValue(fmt::format("mask: {} is neither 0 nor 1", shown(v[3])));
        if (v[3] == 0) continue;  // padding
        out.particle(v[2] * e.jet_pt, v[0] + e.jet_eta, v[1]);
      } catch (const BadValue& bad) {
        throw BadValue(fmt::format("particle {}, {}", k, bad.what()));
      }
    }
    out.end();
  }

  std::int32_t class_ = -1;
  std::uint64_t slots_ = 0;
  std::vector<double> particles_, jets_;
};

// ---- SPANet ----
// /INPUTS/<sequence>/{MASK, pt, eta, phi or sin_phi and cos_phi, mass, btag} [event, slot], padded: slots whose MASK is
// false hold anything. /INPUTS/<global>/{met, phi or sin_phi and cos_phi} [event]. Truth assignments (TARGETS) are not
// carried: objects/1 has no place for them.
class SpanetReader : public Hdf5Reader {
 public:
  SpanetReader(const std::string& path, const ReadOptions& options, Bad& bad) : Hdf5Reader(path, Format::spanet, options, bad) {
    for (const auto& group : file_.groups("INPUTS")) {
      const std::string base = "INPUTS/" + group;
      if (file_.has_dataset(base + "/MASK")) {
        add_sequence(base, group);
      } else if (file_.has_dataset(base + "/met")) {
        met_ = base;
      }
    }
    if (sequences_.empty()) wrong("has no group of INPUTS with a MASK: no objects to read");
    if (!met_.empty()) {
      for (const char* name : {"/phi", "/met_phi"})
        if (file_.has_dataset(met_ + name)) met_phi_ = met_ + name;
      if (met_phi_.empty() && !(file_.has_dataset(met_ + "/sin_phi") && file_.has_dataset(met_ + "/cos_phi")))
        wrong(fmt::format("has '{}/met' without its angle (phi, or sin_phi and cos_phi)", met_));
    }
    facts_["met"] = met_.empty() ? "not in the file, written as 0" : "from " + met_;
    facts_["assignments"] = "truth assignments are not carried";
    if (file_.has_dataset("CLASSIFICATIONS/EVENT/signal")) class_ = "CLASSIFICATIONS/EVENT/signal";
    layout_.label = !class_.empty() || options.label;
  }

 private:
  struct Sequence {
    std::string base;
    std::uint8_t type = 1;
    std::uint64_t slots = 0;
    bool mass = false, btag = false, charge = false, angles = false;
    std::vector<std::uint8_t> mask;
    std::vector<double> pt, eta, phi, sin, cos, m, b, q;
  };

  void add_sequence(const std::string& base, const std::string& group) {
    Sequence s;
    s.base = base;
    std::string lower = group;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (lower.back() == 's') lower.pop_back();
    if (const auto type = physics::type_named(lower)) s.type = static_cast<std::uint8_t>(*type);  // Electrons, Muons, …; else jets
    const auto shape = file_.info(base + "/MASK").shape;
    if (shape.size() != 2) wrong(fmt::format("has '{}/MASK' of {} dimensions, [event, slot] is expected", base, shape.size()));
    if (!sequences_.empty() && shape[0] != total_) wrong(fmt::format("has {} events in '{}/MASK' and {} before", shape[0], base, total_));
    total_ = shape[0];
    s.slots = shape[1];
    if (s.slots > 10'000) wrong(fmt::format("declares {} slots in '{}'", s.slots, base));
    const auto has = [&](const char* name) {
      if (!file_.has_dataset(base + name)) return false;
      if (file_.info(base + name).shape != shape) wrong(fmt::format("has another shape in '{}{}' than in its MASK", base, name));
      return true;
    };
    s.angles = !has("/phi");
    for (const char* name : {"/pt", "/eta"})
      if (!has(name)) wrong(fmt::format("has no '{}{}'", base, name));
    if (s.angles && !(has("/sin_phi") && has("/cos_phi"))) wrong(fmt::format("has neither '{}/phi' nor sin_phi and cos_phi", base));
    s.mass = has("/mass");
    s.btag = has("/btag");
    s.charge = has("/charge");
    sequences_.push_back(std::move(s));
  }

  std::uint64_t load(std::uint64_t first, std::uint64_t count) override {
    std::uint64_t slots = 0;
    for (const auto& s : sequences_) slots += s.slots;
    count = std::min<std::uint64_t>(count, std::max<std::uint64_t>(1, (4 * kBatchBytes) / std::max<std::uint64_t>(1, slots * 48)));
    for (auto& s : sequences_) {
      s.mask = file_.read_rows<std::uint8_t>(s.base + "/MASK", first, count);
      const auto get = [&](const char* name) { return file_.read_rows<double>(s.base + name, first, count); };
      s.pt = get("/pt");
      s.eta = get("/eta");
      if (s.angles) s.sin = get("/sin_phi"), s.cos = get("/cos_phi");
      else s.phi = get("/phi");
      if (s.mass) s.m = get("/mass");
      if (s.btag) s.b = get("/btag");
      if (s.charge) s.q = get("/charge");
    }
    if (!met_.empty()) {
      met_values_ = file_.read_rows<double>(met_ + "/met", first, count);
      if (!met_phi_.empty()) met_angle_ = file_.read_rows<double>(met_phi_, first, count);
      else met_sin_ = file_.read_rows<double>(met_ + "/sin_phi", first, count), met_cos_ = file_.read_rows<double>(met_ + "/cos_phi", first, count);
    }
    if (!class_.empty()) labels_ = file_.read_rows<std::int32_t>(class_, first, count);
    return count;
  }

  void add(std::uint64_t event, std::size_t i, Events& out) override {
    Event e;
    e.id = event;
    if (!class_.empty()) e.label = labels_[i];
    if (options_.label) e.label = *options_.label;
    e.process = options_.process.empty() ? name_of_label(e.label) : std::string_view(options_.process);
    if (!met_.empty()) {
      if (i >= met_values_.size()) wrong(fmt::format("has too few values in '{}/met'", met_));
      e.met = met_values_[i];
      e.met_phi = met_phi_.empty() ? std::atan2(met_sin_[i], met_cos_[i]) : met_angle_[i];
    }
    out.begin(e);
    for (const auto& s : sequences_) {
      for (std::uint64_t k = 0; k < s.slots; ++k) {
        const std::size_t at = i * s.slots + k;
        if (!s.mask[at]) continue;
        Object o;
        o.type = s.type;
        o.pt = s.pt[at];
        o.eta = s.eta[at];
        o.phi = s.angles ? std::atan2(s.sin[at], s.cos[at]) : s.phi[at];
        o.mass = s.mass ? s.m[at] : 0;
        o.charge = s.charge ? static_cast<int>(s.q[at]) : 0;
        o.btag = s.btag && s.type == 1 ? btag(s.b[at]) : 0;
        try {
          out.object(o);
        } catch (const BadValue& bad) {
          throw BadValue(fmt::format("'{}' slot {}, {}", s.base, k, bad.what()));
        }
      }
    }
    out.end();
  }

  std::vector<Sequence> sequences_;
  std::string met_, met_phi_, class_;
  std::vector<double> met_values_, met_angle_, met_sin_, met_cos_;
  std::vector<std::int32_t> labels_;
};

// ---- Jagged ----
// offsets [event + 1] and flat columns: entry k of event i is column[offsets[i] + k]. Objects of events when there is a
// column "type", else constituents of jets. Names as published: pt or part_pt or (part_px, part_py), eta or eta_rel, …;
// relative angles are to jet_eta and jet_phi.
class JaggedReader : public Hdf5Reader {
 public:
  JaggedReader(const std::string& path, const ReadOptions& options, Bad& bad) : Hdf5Reader(path, Format::jagged, options, bad) {
    offsets_ = first_of({"offsets", "offset", "object_offsets", "particle_offsets", "part_offset"});
    if (offsets_.empty()) wrong("has no array 'offsets'");
    const auto shape = file_.info(offsets_).shape;
    if (shape.size() != 1 || shape[0] == 0) wrong(fmt::format("must have one more entry in '{}' than events", offsets_));
    total_ = shape[0] - 1;
    type_ = entry({"type"});
    layout_.particles = type_.empty();

    pt_ = entry({"pt", "part_pt"});
    px_ = pt_.empty() ? entry({"px", "part_px"}) : "";
    if (pt_.empty()) {
      py_ = entry({"py", "part_py"});
      pz_ = entry({"pz", "part_pz"});
      if (px_.empty() || py_.empty() || pz_.empty()) wrong("has neither pt nor px, py and pz of its entries");
    } else {
      eta_ = entry({"eta", "part_eta"});
      eta_rel_ = eta_.empty() ? entry({"eta_rel", "part_etarel"}) : "";
      phi_ = entry({"phi", "part_phi"});
      phi_rel_ = phi_.empty() ? entry({"phi_rel", "part_phirel"}) : "";
      if (eta_.empty() && eta_rel_.empty()) wrong("has neither 'eta' nor 'eta_rel'");
      if (phi_.empty() && phi_rel_.empty()) wrong("has neither 'phi' nor 'phi_rel'");
    }
    mass_ = entry({"mass", "part_mass"});
    energy_ = mass_.empty() ? entry({"energy", "part_energy"}) : "";
    charge_ = entry({"charge", "part_charge"});
    btag_ = entry({"btag"});
    pid_ = entry({"pid", "part_pid"});
    for (const char* flag : {"part_isChargedHadron", "part_isNeutralHadron", "part_isPhoton", "part_isElectron", "part_isMuon"})
      if (pid_.empty() && file_.has_dataset(flag)) flags_.emplace_back(flag);
    if (flags_.size() != 5) flags_.clear();
    d0_ = {entry({"d0", "part_d0val"}), entry({"d0_error", "part_d0err"}), entry({"dz", "part_dzval"}), entry({"dz_error", "part_dzerr"})};

    id_ = per_event({"event_id", "event"});
    weight_ = per_event({"weight", "event_weight"});
    process_ = per_event({"process"});
    label_ = per_event({"label", "jet_label"});
    jet_pt_ = per_event({"jet_pt"});
    jet_eta_ = per_event({"jet_eta"});
    jet_phi_ = per_event({"jet_phi"});
    jet_mass_ = per_event({"jet_mass"});
    if (!eta_rel_.empty() && jet_eta_.empty()) wrong(fmt::format("has '{}' without 'jet_eta'", eta_rel_));
    met_ = per_event({"met"});
    met_phi_ = per_event({"met_phi"});
    if (!layout_.particles && (met_.empty() || met_phi_.empty())) wrong("has a column 'type' of reconstructed objects, but no 'met' and 'met_phi'");

    process_names_ = names_of(process_);
    label_names_ = names_of(label_);
    if (!type_.empty()) read_type_names();
    layout_.label = !label_.empty() || options.label;
    if (layout_.particles) {
      layout_.jet = !jet_pt_.empty() && !jet_eta_.empty();
      layout_.jet_mass = layout_.jet && !jet_mass_.empty();
      layout_.mass = !mass_.empty() || !energy_.empty();
      layout_.charge = !charge_.empty();
      layout_.pid = !pid_.empty() || !flags_.empty();
      layout_.tracking = std::none_of(d0_.begin(), d0_.end(), [](const auto& name) { return name.empty(); });
      if (layout_.jet && jet_phi_.empty()) facts_["jet_phi"] = "not in the file: every jet is turned to phi = 0";
      if (!label_names_.empty()) facts_["labels"] = label_names_;
    }
    // Further numbers per event, such as a split: for selections.
    for (const auto& name : file_.datasets()) {
      const auto info = file_.info(name);
      const bool taken = name == offsets_ || name == id_ || name == weight_ || name == process_ || name == label_ || name == jet_pt_ || name == jet_eta_ ||
                         name == jet_phi_ || name == jet_mass_ || name == met_ || name == met_phi_;
      if (!taken && info.shape == store::Shape{total_} && info.kind != Kind::text && info.kind != Kind::other) layout_.extra.push_back(name);
    }
    if (label_.empty()) find_label_flags();
  }

 private:
  std::string first_of(std::initializer_list<const char*> names) const {
    for (const char* name : names)
      if (file_.has_dataset(name)) return name;
    return {};
  }
  // A flat column: its length is known from the first one.
  std::string entry(std::initializer_list<const char*> names) {
    std::string name = first_of(names);
    if (name.empty()) return name;
    const auto info = file_.info(name);
    if (entries_ == 0 && entry_name_.empty()) entries_ = info.rows(), entry_name_ = name;
    if (info.shape.size() != 1 || info.rows() != entries_)
      wrong(fmt::format("has {} values in '{}' and {} in '{}': flat columns must be of the same length", info.values(), name, entries_, entry_name_));
    return name;
  }
  std::string per_event(std::initializer_list<const char*> names) {
    std::string name = first_of(names);
    if (!name.empty()) need_rows(name, total_);
    return name;
  }
  // An attribute of the file, or of the array, named like it and holding texts: the meaning of its integers.
  std::vector<std::string> names_of(const std::string& column) const {
    if (column.empty()) return {};
    for (const std::string& object : {std::string(), column})
      for (const std::string& name : {column, std::string("names")})
        if (!(object.empty() && name == "names") && file_.has_attribute(object, name)) return file_.texts_attribute(object, name);
    return {};
  }
  // JetClass (arXiv:2202.03772) has one flag a class in place of a label; its numbers are those of this order.
  void find_label_flags() {
    static constexpr std::array<const char*, 10> kClasses{"QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl"};
    for (std::size_t i = 0; i < kClasses.size(); ++i) {
      const auto found = std::find(layout_.extra.begin(), layout_.extra.end(), std::string("label_") + kClasses[i]);
      if (found != layout_.extra.end()) label_flags_.emplace_back(static_cast<std::int32_t>(i), found - layout_.extra.begin());
    }
    if (label_flags_.empty()) return;
    layout_.label = true;
    label_names_.assign(kClasses.begin(), kClasses.end());
    facts_["labels"] = label_names_;
  }
  // The class whose flag is set; -1 for none.
  std::int32_t label_of_flags(std::size_t i) const {
    std::int32_t label = -1;
    for (const auto& [number, extra] : label_flags_) {
      if (extras_[static_cast<std::size_t>(extra)][i] == 0) continue;
      if (label >= 0)
        throw BadValue(fmt::format("label_{} and label_{} are both set, a jet has one label", label_names_[static_cast<std::size_t>(label)],
                                   label_names_[static_cast<std::size_t>(number)]));
      label = number;
    }
    return label;
  }
  void read_type_names() {
    const auto names = names_of(type_);
    for (const auto& name : names) {
      const auto known = physics::spelled(name);
      if (!known && !name.empty()) wrong(fmt::format("names a kind of object '{}' in the attribute '{}', which is not known", name, type_));
      spellings_.push_back(known);
    }
  }
  template <class T>
  void get(std::vector<T>& out, const std::string& name, std::uint64_t first, std::uint64_t count) const {
    if (!name.empty()) out = file_.read_rows<T>(name, first, count);
  }

  std::uint64_t load(std::uint64_t first, std::uint64_t count) override {
    auto offsets = file_.read_rows<std::int64_t>(offsets_, first, count + 1);
    std::uint64_t n = 0;
    for (; n < count; ++n) {
      if (offsets[n] < 0 || offsets[n + 1] < offsets[n])
        wrong(fmt::format("has falling offsets at event {}: {} then {}", first + n, offsets[n], offsets[n + 1]));
      if (static_cast<std::uint64_t>(offsets[n + 1]) > entries_)
        wrong(fmt::format("has offset {} at event {}, but {} entries", offsets[n + 1], first + n, entries_));
      if (n > 0 && static_cast<std::uint64_t>(offsets[n + 1] - offsets[0]) * 16 > kBatchBytes) break;
    }
    if (n == 1 && offsets[1] - offsets[0] > (1 << 24)) wrong(fmt::format("has {} entries in event {}", offsets[1] - offsets[0], first));
    block_offsets_.assign(offsets.begin(), offsets.begin() + static_cast<std::ptrdiff_t>(n) + 1);
    const auto from = static_cast<std::uint64_t>(offsets[0]), size = static_cast<std::uint64_t>(offsets[n] - offsets[0]);
    get(type_values_, type_, from, size);
    get(pt_values_, pt_.empty() ? px_ : pt_, from, size);
    get(eta_values_, !eta_.empty() ? eta_ : !eta_rel_.empty() ? eta_rel_ : py_, from, size);
    get(phi_values_, !phi_.empty() ? phi_ : !phi_rel_.empty() ? phi_rel_ : pz_, from, size);
    get(mass_values_, mass_.empty() ? energy_ : mass_, from, size);
    get(charge_values_, charge_, from, size);
    get(btag_values_, btag_, from, size);
    get(pid_values_, pid_, from, size);
    flag_values_.resize(flags_.size());
    for (std::size_t k = 0; k < flags_.size(); ++k) get(flag_values_[k], flags_[k], from, size);
    if (layout_.tracking)
      for (std::size_t k = 0; k < 4; ++k) get(d0_values_[k], d0_[k], from, size);

    get(ids_, id_, first, n);
    get(weights_, weight_, first, n);
    if (!process_.empty()) {
      if (file_.info(process_).kind == Kind::text) {
        if (process_texts_.empty()) process_texts_ = file_.read_text(process_);
      } else {
        get(processes_, process_, first, n);
      }
    }
    get(labels_, label_, first, n);
    get(jet_values_[0], jet_pt_, first, n);
    get(jet_values_[1], jet_eta_, first, n);
    get(jet_values_[2], jet_phi_, first, n);
    get(jet_values_[3], jet_mass_, first, n);
    get(mets_, met_, first, n);
    get(met_phis_, met_phi_, first, n);
    extras_.resize(layout_.extra.size());
    for (std::size_t k = 0; k < extras_.size(); ++k) get(extras_[k], layout_.extra[k], first, n);
    return n;
  }

  void add(std::uint64_t event, std::size_t i, Events& out) override {
    Event e;
    e.id = id_.empty() ? event : ids_[i];
    if (!weight_.empty()) e.weight = weights_[i];
    e.label = label_.empty() ? label_of_flags(i) : labels_[i];
    if (!options_.process.empty()) {
      e.process = options_.process;
    } else if (!process_texts_.empty()) {
      e.process = process_texts_[event];
    } else if (!process_.empty()) {
      const auto number = processes_[i];
      if (process_names_.empty()) {
        process_text_ = fmt::format("{}", number);
      } else {
        if (number < 0 || static_cast<std::size_t>(number) >= process_names_.size())
          throw BadValue(fmt::format("process: {} is not one of the {} that the file names", number, process_names_.size()));
        process_text_ = process_names_[static_cast<std::size_t>(number)];
      }
      e.process = process_text_;
    } else if (e.label >= 0 && static_cast<std::size_t>(e.label) < label_names_.size()) {
      e.process = label_names_[static_cast<std::size_t>(e.label)];
    }
    if (options_.label) e.label = *options_.label;
    if (e.process.empty()) e.process = name_of_label(e.label);
    if (!met_.empty()) e.met = mets_[i];
    if (!met_phi_.empty()) e.met_phi = met_phis_[i];
    if (layout_.jet) {
      e.jet_pt = jet_values_[0][i];
      e.jet_eta = jet_values_[1][i];
      e.jet_phi = jet_phi_.empty() ? 0 : jet_values_[2][i];
      e.jet_mass = jet_mass_.empty() ? 0 : jet_values_[3][i];
    }
    out.begin(e);
    for (std::size_t k = 0; k < extras_.size(); ++k) out.extra(k, extras_[k][i]);

    const auto begin = static_cast<std::size_t>(block_offsets_[i] - block_offsets_[0]),
               end = static_cast<std::size_t>(block_offsets_[i + 1] - block_offsets_[0]);
    for (std::size_t at = begin; at < end; ++at) {
      try {
        one(at, e, out);
      } catch (const BadValue& bad) {
        throw BadValue(fmt::format("{} {}, {}", layout_.particles ? "particle" : "object", at - begin, bad.what()));
      }
    }
    out.end();
  }

  void one(std::size_t at, const Event& e, Events& out) const {
    double pt = pt_values_[at], eta = eta_values_[at], phi = phi_values_[at];
    if (!px_.empty()) {
      const physics::Momentum p{pt, eta, phi, 0};
      pt = p.pt();
      phi = p.phi();
      eta = p.eta();
    } else {
      if (!eta_rel_.empty()) eta += e.jet_eta;
      if (!phi_rel_.empty()) phi += e.jet_phi;
    }
    double mass = 0;
    if (!mass_.empty()) {
      mass = mass_values_[at];
    } else if (!energy_.empty()) {
      const auto found = physics::mass_from_energy(mass_values_[at], pt, eta, 1e-4);
      if (!found.physical) throw BadValue(fmt::format("energy: {} is below the momentum {:.6g}", shown(mass_values_[at]), pt * std::cosh(eta)));
      mass = found.mass;
    }
    const int charge = charge_.empty() ? 0 : charge_values_[at];
    if (layout_.particles) {
      Tracking t;
      if (layout_.tracking) t = {d0_values_[0][at], d0_values_[1][at], d0_values_[2][at], d0_values_[3][at]};
      std::int32_t pid = pid_.empty() ? 0 : pid_values_[at];
      static constexpr std::int32_t kClasses[] = {211, 130, 22, 11, 13};
      for (std::size_t k = 0; k < flags_.size(); ++k)
        if (flag_values_[k][at]) pid = kClasses[k];
      out.particle(pt, eta, phi, mass, charge, pid, t);
      return;
    }
    Object o{0, charge, pt, eta, phi, mass, btag_.empty() ? 0 : btag(btag_values_[at])};
    const std::int32_t type = type_values_[at];
    if (spellings_.empty()) {
      o.type = type < 0 || type > 255 ? std::uint8_t{0} : static_cast<std::uint8_t>(type);
    } else {
      if (type < 0 || static_cast<std::size_t>(type) >= spellings_.size() || !spellings_[static_cast<std::size_t>(type)])
        throw BadValue(fmt::format("type: {} is not a kind that the file names", type));
      const auto& known = *spellings_[static_cast<std::size_t>(type)];
      o.type = static_cast<std::uint8_t>(known.type);
      if (known.charge != 0) o.charge = known.charge;
      if (btag_.empty()) o.btag = known.btag ? 1 : 0;
    }
    if (o.type != static_cast<std::uint8_t>(physics::ObjectType::jet)) o.btag = 0;
    out.object(o);
  }

  std::string offsets_, type_, pt_, px_, py_, pz_, eta_, eta_rel_, phi_, phi_rel_, mass_, energy_, charge_, btag_, pid_;
  std::vector<std::string> flags_;
  std::vector<std::pair<std::int32_t, std::ptrdiff_t>> label_flags_;  // number of the class, place in layout_.extra
  std::array<std::string, 4> d0_;
  std::string id_, weight_, process_, label_, jet_pt_, jet_eta_, jet_phi_, jet_mass_, met_, met_phi_;
  std::vector<std::string> process_names_, label_names_, process_texts_;
  std::vector<std::optional<physics::Spelling>> spellings_;
  std::string entry_name_, process_text_;
  std::uint64_t entries_ = 0;

  // the block
  std::vector<std::int64_t> block_offsets_;
  std::vector<std::int32_t> type_values_, charge_values_, pid_values_, labels_;
  std::vector<std::int64_t> processes_;
  std::vector<float> pt_values_, eta_values_, phi_values_, mass_values_, btag_values_;
  std::vector<std::vector<std::uint8_t>> flag_values_;
  std::array<std::vector<float>, 4> d0_values_, jet_values_;
  std::vector<std::uint64_t> ids_;
  std::vector<double> weights_, mets_, met_phis_;
  std::vector<std::vector<double>> extras_;
};

}  // namespace

std::unique_ptr<Reader> open_hdf5(const std::string& path, Format format, const ReadOptions& options, Bad& bad) {
  switch (format) {
    case Format::lhco: return std::make_unique<LhcoReader>(path, options, bad);
    case Format::spanet: return std::make_unique<SpanetReader>(path, options, bad);
    case Format::jetnet: return std::make_unique<JetnetReader>(path, options, bad);
    case Format::jagged: return std::make_unique<JaggedReader>(path, options, bad);
    default: throw std::logic_error("internal error: not an HDF5 format");
  }
}

}  // namespace bl::preprocess
