#include "evaluate/input.hpp"

#include <algorithm>
#include <filesystem>

#include "base/error.hpp"
#include "physics/vectors.hpp"
#include "stats/sample.hpp"

namespace bl::evaluate {

std::vector<Input> named_inputs(const std::vector<std::string>& in, const std::string& option) {
  if (in.empty()) fail(Exit::usage, "{} is required: a file, or NAME=FILE,… for several", option);
  std::vector<Input> out;
  for (const auto& word : in) {
    const std::size_t equals = word.find('=');
    const bool named = equals != std::string::npos && equals > 0 && word.substr(0, equals).find_first_of("/:") == std::string::npos;
    Input input = named ? Input{word.substr(0, equals), word.substr(equals + 1)} : Input{std::filesystem::path(word).stem().string(), word};
    if (input.path.empty()) fail(Exit::usage, "{} '{}' names no file", option, word);
    out.push_back(std::move(input));
  }
  return out;
}

Input only_input(const std::vector<std::string>& in, const std::string& what) {
  auto all = named_inputs(in);
  if (all.size() != 1) fail(Exit::usage, "bl-evaluate {} takes one --in, not {}", what, all.size());
  return all[0];
}

Stream read_stream(stage::Context& context, const std::string& endpoint, const std::string& schema, const std::vector<std::string>& keep) {
  const auto reader = context.open_reader(endpoint, {schema});
  Stream out{reader->where(), reader->hello(), {}};
  std::vector<Batch> batches;
  while (auto batch = reader->next()) {
    context.stop_if_asked();
    reader->acknowledge(batch->seq);
    std::erase_if(batch->columns, [&](const Column& c) {
      const auto wanted = [&](const std::string& name) {
        return c.name == name || (name.back() == '*' && c.name.compare(0, name.size() - 1, name, 0, name.size() - 1) == 0);
      };
      return std::none_of(keep.begin(), keep.end(), wanted);
    });
    if (batch->events > 0) batches.push_back(std::move(*batch));
  }
  reader->close();
  // Workers may have brought the batches in any order.
  std::stable_sort(batches.begin(), batches.end(), [](const Batch& a, const Batch& b) { return a.seq < b.seq; });
  if (!batches.empty()) out.batch = concat(batches);
  return out;
}

report::Origin origin_of(const std::string& name, const Stream& stream, const stage::Context& context) {
  report::Origin origin{name, stream.path, stream.hello.history};
  origin.history.push_back(context.history_entry());
  return origin;
}

bool JetSample::has_axes() const {
  const auto somewhere = [](float v) { return v != 0; };
  return std::any_of(axis_eta.begin(), axis_eta.end(), somewhere) || std::any_of(axis_phi.begin(), axis_phi.end(), somewhere);
}

JetSample jets_of(const Stream& stream, std::size_t most, const Rng& rng) {
  if (stream.batch.events == 0) fail(Exit::input, "{} holds no jets", stream.path);
  Batch part = stream.batch;
  if (most > 0 && most < stream.batch.events) {
    // Not the first ones: a file may hold one process after the other.
    auto drawn = stats::shuffled(rng, 0, stream.batch.events);
    drawn.resize(most);
    std::sort(drawn.begin(), drawn.end());
    part = select(stream.batch, drawn);
  }
  const auto copy = [&](const char* name) {
    const auto values = part.get<float>(name);
    return std::vector<float>(values.begin(), values.end());
  };
  JetSample out;
  out.path = stream.path;
  const auto offsets = part.get<std::uint32_t>("particle_offsets");
  out.offsets.assign(offsets.begin(), offsets.end());
  out.pt = copy("pt");
  out.eta = copy("eta");
  out.phi = copy("phi");
  if (part.has("jet_eta") && part.has("jet_phi")) {
    out.axis_eta = copy("jet_eta");
    out.axis_phi = copy("jet_phi");
  }
  const auto event_id = part.get<std::uint64_t>("event_id");
  out.event_id.assign(event_id.begin(), event_id.end());
  const auto weight = part.get<double>("weight");
  out.weighted = std::any_of(weight.begin(), weight.end(), [&](double w) { return w != weight[0]; });
  return out;
}

JetSample some_of(const JetSample& jets, std::size_t most, const Rng& rng) {
  if (jets.size() <= most) return jets;
  auto drawn = stats::shuffled(rng, 1, jets.size());
  drawn.resize(most);
  std::sort(drawn.begin(), drawn.end());
  JetSample out;
  out.path = jets.path;
  out.weighted = jets.weighted;
  for (const auto j : drawn) {
    const auto from = static_cast<std::ptrdiff_t>(jets.offsets[j]), to = static_cast<std::ptrdiff_t>(jets.offsets[j + 1]);
    out.pt.insert(out.pt.end(), jets.pt.begin() + from, jets.pt.begin() + to);
    out.eta.insert(out.eta.end(), jets.eta.begin() + from, jets.eta.begin() + to);
    out.phi.insert(out.phi.end(), jets.phi.begin() + from, jets.phi.begin() + to);
    out.offsets.push_back(static_cast<std::uint32_t>(out.pt.size()));
    out.event_id.push_back(jets.event_id[j]);
    if (jets.axis_eta.empty()) continue;
    out.axis_eta.push_back(jets.axis_eta[j]);
    out.axis_phi.push_back(jets.axis_phi[j]);
  }
  return out;
}

void to_jet_frame(JetSample& jets) {
  if (!jets.has_axes()) return;
  for (std::size_t j = 0; j < jets.size(); ++j)
    for (std::size_t i = jets.offsets[j]; i < jets.offsets[j + 1]; ++i) {
      jets.eta[i] -= jets.axis_eta[j];
      jets.phi[i] = physics::wrap_phi(jets.phi[i] - jets.axis_phi[j]);
    }
  jets.axis_eta.clear();
  jets.axis_phi.clear();
}

Batch to_batch(const JetSample& jets) {
  Batch out;
  out.events = static_cast<std::uint32_t>(jets.size());
  out.set("particle_offsets", {"event+1"}, jets.offsets);
  out.set("pt", {"particle"}, jets.pt);
  out.set("eta", {"particle"}, jets.eta);
  out.set("phi", {"particle"}, jets.phi);
  return out;
}

}  // namespace bl::evaluate
