// Jet observables of samples/jets.bl (900 jets of about 52 constituents) in jets/s, family by family, on one thread.
// usage: bench_jets [seconds per figure] [particles/1 stream]. With a Python that has the PyPI package fastjet (the one of
// `make -f Makefile.workflow venv`), fastjet_peer.py prints the same rows for it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "physics/substructure.hpp"
#include "transport/transport.hpp"
#include "wire/batch.hpp"
#include "wire/hello.hpp"

namespace {

using namespace bl;

Batch read_all(const std::string& path) {
  const auto source = transport::open_source(path);
  wire::read_hello(*source->read(), path);
  std::vector<Batch> batches;
  while (const auto frame = source->read()) batches.push_back(wire::decode(frame->body, frame->seq, path));
  return concat(batches);
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.7;
  const Batch jets = read_all(argc > 2 ? argv[2] : BEAMLINE_SOURCE_DIR "/samples/jets.bl");
  Pool pool(1);
  physics::ObservableOptions plain, minimised;
  minimised.tau.minimise = true;
  struct Row {
    const char* what;
    std::vector<std::string> names;
    physics::ObservableOptions options;
  };
  const Row rows[] = {
      {"pt, eta, phi, mass", {"jet_pt", "jet_eta", "jet_phi", "jet_mass"}, plain},
      {"tau1..3, kt axes", {"tau1", "tau2", "tau3"}, plain},
      {"tau1..3, minimised", {"tau1", "tau2", "tau3"}, minimised},
      {"e2, e3, C2, D2", {"e2", "e3", "c2", "d2"}, plain},
      {"soft-drop mass", {"soft_drop_mass"}, plain},
      {"all 16", physics::observable_names(), plain},
  };
  std::printf("%-20s %10s %12s   one thread, %u jets, %.1f constituents a jet\n", "observables", "jets/s", "us/jet", jets.events,
              static_cast<double>(jets.get<float>("pt").size()) / jets.events);
  for (const Row& row : rows) {
    std::vector<double> rounds;
    for (int r = 0; r < 8; ++r) {
      const auto begin = std::chrono::steady_clock::now();
      std::size_t n = 0;
      double passed = 0;
      do {
        const auto table = physics::jet_observables(jets, row.names, row.options, pool);
        n += table.rows;
        passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      } while (passed < seconds / 8);
      if (r > 0) rounds.push_back(static_cast<double>(n) / passed);  // the first warms up
    }
    std::sort(rounds.begin(), rounds.end());
    const double rate = rounds[rounds.size() / 2];
    std::printf("%-20s %10.0f %12.1f\n", row.what, rate, 1e6 / rate);
  }
}
