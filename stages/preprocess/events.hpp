// Events on their way from a foreign file into a batch: every value is checked once, here, whatever the file was.
#pragma once
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "data/batch.hpp"

namespace bl::preprocess {

// A value that cannot be: the reason without the place, e.g. "object 3 (j), pt: -1 is negative". Whoever reads adds
// file and line or event.
class BadValue : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline constexpr std::uint32_t kBatchEvents = 4096;
inline constexpr std::size_t kBatchBytes = std::size_t{1} << 20;
// Columns of a batch that only selections see begin like this; they leave before the batch is written.
inline const std::string kExtra = "extra.";

struct Event {
  std::uint64_t id = 0;
  double weight = 1;
  std::string_view process;
  std::int32_t label = -1;                                    // -1 unknown
  double met = 0, met_phi = 0;                                // objects/1
  double jet_pt = 0, jet_eta = 0, jet_phi = 0, jet_mass = 0;  // particles/1, where has_jet
};

struct Object {
  std::uint8_t type = 0;  // physics::ObjectType; 0 for a constituent
  int charge = 0;
  double pt = 0, eta = 0, phi = 0, mass = 0;  // GeV, radians
  double btag = 0;
};

struct Tracking {  // of a constituent, where has_tracking; mm
  double d0 = 0, d0_error = 0, dz = 0, dz_error = 0;
};

// Columns that grow event by event: begin(), then object()s or particle()s, then end(); drop() takes back what was added
// since begin(). object(), particle() and end() throw BadValue.
class Events {
 public:
  // Which optional columns the batch will have.
  struct Layout {
    bool particles = false;  // particles/1 instead of objects/1
    bool label = false;
    bool jet = false, jet_mass = false;  // particles/1 only, as the following
    bool mass = false, charge = false, pid = false, tracking = false;
    std::vector<std::string> extra;  // further per-event numbers, for selections

    bool operator==(const Layout&) const = default;
  };

  explicit Events(Layout layout);

  void begin(const Event& event);
  void object(const Object& object);
  void particle(double pt, double eta, double phi, double mass = 0, int charge = 0, std::int32_t pid = 0, const Tracking& tracking = {});
  void extra(std::size_t which, double value) { extra_[which].push_back(value); }
  void end();
  void drop();

  std::uint32_t size() const { return static_cast<std::uint32_t>(id_.size()); }
  std::size_t bytes() const;
  bool full() const { return size() >= kBatchEvents || bytes() >= kBatchBytes; }
  const Layout& layout() const { return layout_; }

  // The events as a batch (event_index 0, 1, 2 …, to be set by the caller) and an empty builder.
  Batch take();

 private:
  void kinematics(double pt, double eta, double phi);

  Layout layout_;
  std::vector<std::uint64_t> id_;
  std::vector<double> weight_;
  std::vector<std::uint8_t> process_;
  std::vector<std::uint32_t> process_offsets_{0};
  std::vector<std::int32_t> label_;
  std::vector<float> met_, met_phi_, jet_pt_, jet_eta_, jet_phi_, jet_mass_;
  std::vector<std::uint32_t> offsets_{0};
  std::vector<std::uint8_t> type_;
  std::vector<std::int8_t> charge_;
  std::vector<float> pt_, eta_, phi_, mass_, btag_;
  std::vector<std::int32_t> pid_;
  std::vector<float> d0_, d0_error_, dz_, dz_error_;
  std::vector<std::vector<double>> extra_;
  bool open_ = false;
};

// A number in a message: as short as it reads back.
std::string shown(double value);
// Text of a file in a message: at most `length` characters, what is not printable ASCII as \xNN.
std::string shown(std::string_view text, std::size_t length = 40);
// An angle that is one: within two turns, wrapped to [-pi, pi]. Throws BadValue with `name` in front.
double angle(double value, std::string_view name);
// A mass that rounding made slightly negative is 0. Throws BadValue.
double mass_or_zero(double mass, double scale);

}  // namespace bl::preprocess
