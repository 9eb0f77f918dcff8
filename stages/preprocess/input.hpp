// The formats that events come in, each behind one interface, and how a format is found from the content.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/pool.hpp"
#include "data/batch.hpp"
#include "preprocess/events.hpp"

namespace bl::preprocess {

enum class Format {
  darkmachines,  // "id;process;weight;MET;METphi;obj,E,pt,eta,phi;…", MeV: Dark Machines and the four-top challenge
  cms,           // "# event;process;…" header, then "…;type,E,pt,eta,phi,charge,btag,iso,id;…", GeV
  lhco,          // LHC Olympics 2020: pandas table /df/block0_values, or /particles [event, particle, 3]
  jetnet,        // JetNet: /particle_features [jet, particle, 4] and /jet_features [jet, 4]
  spanet,        // SPANet: /INPUTS/<group>/MASK and features, padded
  jagged,        // offsets and flat columns, of objects or of constituents
  stream,        // our own
};
std::string_view name_of(Format format);
std::optional<Format> format_named(std::string_view name);
std::vector<std::string> format_names();

// From the first bytes of a file, or the arrays of an HDF5 file. Throws Exit::input: missing, a folder, empty, or of a
// known but unsupported kind (ROOT, parquet, gzip), with what to do.
Format detect(const std::string& path);

struct ReadOptions {
  std::string process;                // overrides the file's process names
  std::optional<std::int32_t> label;  // of every event
  std::vector<std::string> names;     // of the labels 0, 1, 2, …, where the file does not name them
  std::optional<double> btag_cut;     // a discriminant at or above it is a b-tag; without it values stay as they are
};

// Counts what was tolerated. Shared by all inputs of a run.
class Bad {
 public:
  explicit Bad(std::uint64_t allowed) : allowed_(allowed) {}
  // One more bad line or event. Throws Exit::input with the message when no more are allowed.
  void add(const std::string& message);
  std::uint64_t count() const { return count_; }

 private:
  std::uint64_t allowed_, count_ = 0;
};

// Events of one input, in its order.
class Reader {
 public:
  virtual ~Reader() = default;
  virtual Events::Layout layout() const = 0;
  // At most kBatchEvents events, about kBatchBytes. event_index counts from 0 in each batch; layout().extra are f64
  // columns whose names begin with kExtra.
  virtual std::optional<Batch> next() = 0;
  // What is worth knowing downstream: {"format": …, "units": …, …}.
  virtual nlohmann::json facts() const = 0;
};

std::unique_ptr<Reader> open_text(const std::string& path, Format format, const ReadOptions& options, Bad& bad, Pool& pool);
std::unique_ptr<Reader> open_hdf5(const std::string& path, Format format, const ReadOptions& options, Bad& bad);

}  // namespace bl::preprocess
