// HDF5 layouts, each made small here and with each fault that a file can have.
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "preprocess/input.hpp"
#include "store/h5.hpp"
#include "support.hpp"

namespace {

using namespace bl;
using namespace bl::preprocess;
using bl::test::error_of;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class Hdf5 : public bl::test::Scratch {
 protected:
  Hdf5() { log::setup("test", "off"); }

  template <class Fill>
  std::string make(const Fill& fill) {
    store::Output out(file("input.h5"), true);
    fill(out);
    out.commit();
    return file("input.h5");
  }
  Batch read(const std::string& path, std::uint64_t skip = 0, const ReadOptions& options = {}) {
    Bad bad(skip);
    const auto reader = open_hdf5(path, detect(path), options, bad);
    layout_ = reader->layout();
    std::vector<Batch> batches;
    while (auto batch = reader->next()) batches.push_back(std::move(*batch));
    facts_ = reader->facts();
    bad_ = bad.count();
    return concat(batches);
  }
  std::string error(const std::string& path) {
    const Error e = error_of([&] { read(path); });
    EXPECT_EQ(e.code(), Exit::input) << e.what();
    return e.what();
  }

  Events::Layout layout_;
  nlohmann::json facts_;
  std::uint64_t bad_ = 0;
};

// Three events of up to four particles, zero-padded, in no order
std::vector<double> lhco_rows(bool label) {
  std::vector<double> v;
  const double rows[3][12] = {{1, 0.1, 0.2, 5, -0.1, -0.2, 0, 0, 0, 0, 0, 0}, {2, 1, 3, 3, 1, -3, 4, 2, 1, 7, 0, 0}, {9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}};
  const double labels[] = {0, 1, 0};
  for (int e = 0; e < 3; ++e) {
    v.insert(v.end(), rows[e], rows[e] + 12);
    if (label) v.push_back(labels[e]);
  }
  return v;
}

TEST_F(Hdf5, LhcoPandas) {
  const Batch b = read(make([](auto& out) { out.write("df/block0_values", {3, 13}, lhco_rows(true)); }));
  ASSERT_EQ(b.events, 3u);
  const auto offsets = b.get<std::uint32_t>("particle_offsets");
  EXPECT_EQ(std::vector<std::uint32_t>(offsets.begin(), offsets.end()), (std::vector<std::uint32_t>{0, 2, 6, 7}));
  EXPECT_EQ(b.get<std::int32_t>("label")[1], 1);
  EXPECT_EQ(b.text("process", 1), "signal");
  EXPECT_EQ(b.text("process", 0), "background");
  EXPECT_EQ(b.get<std::uint64_t>("event_id")[2], 2u);
  EXPECT_EQ(b.get<float>("pt")[5], 7.0f);
  EXPECT_TRUE(layout_.particles);
}

TEST_F(Hdf5, LhcoBlackBoxHasNoLabel) {
  const Batch b = read(make([](auto& out) { out.write("df/block0_values", {3, 12}, lhco_rows(false)); }));
  EXPECT_EQ(b.events, 3u);
  EXPECT_FALSE(b.has("label"));
  EXPECT_EQ(b.text("process", 0), "");
}

TEST_F(Hdf5, LhcoConvertedIsTheSame) {
  const Batch a = read(make([](auto& out) { out.write("df/block0_values", {3, 13}, lhco_rows(true)); }));
  const Batch b = read(make([](auto& out) {
    out.write("particles", {3, 4, 3}, lhco_rows(false));
    out.write("label", std::vector<std::int8_t>{0, 1, 0});
  }));
  Digest x, y;
  x.add(a);
  y.add(b);
  EXPECT_EQ(x, y);
}

TEST_F(Hdf5, LhcoFaults) {
  EXPECT_HAS(error(make([](auto& out) {
               auto rows = lhco_rows(true);
               rows[13 + 3] = kNaN;
               out.write("df/block0_values", {3, 13}, rows);
             })),
             "event 1, particle 1, pt: nan is not a finite number");
  EXPECT_HAS(error(make([](auto& out) {
               auto rows = lhco_rows(true);
               rows[12] = 0.5;
               out.write("df/block0_values", {3, 13}, rows);
             })),
             "event 0, label: 0.5 is not a whole number");
  EXPECT_HAS(error(make([](auto& out) { out.write("df/block0_values", {3, 11}, std::vector<double>(33)); })), "has 11 columns");
  EXPECT_HAS(error(make([](auto& out) { out.write("particles", {3, 4, 2}, std::vector<double>(24)); })), "[event, particle, 3]");
  EXPECT_HAS(error(make([](auto& out) { out.write("particles", {0, 4, 3}, std::vector<double>()); })), "holds no events");
}

// Two jets of up to three particles; the values of padding are what they like.
void jetnet(store::Output& out, std::vector<float> particles = {0.1f,  -0.2f, 0.5f,  1, -0.1f, 0.2f, 0.25f, 1, 9, 9, 9, 0,     // jet 0
                                                                0.01f, 0.02f, 0.75f, 1, 7,     7,    7,     0, 0, 0, 0, 0}) {  // jet 1
  out.write("particle_features", {2, 3, 4}, particles);
  out.write("jet_features", {2, 4}, std::vector<float>{1000, 1.5f, 80, 2, 1200, -0.5f, 100, 1});
}

TEST_F(Hdf5, JetnetIsRelativeToTheJet) {
  const Batch b = read(make([](auto& out) { jetnet(out); }));
  ASSERT_EQ(b.events, 2u);
  const auto offsets = b.get<std::uint32_t>("particle_offsets");
  EXPECT_EQ(std::vector<std::uint32_t>(offsets.begin(), offsets.end()), (std::vector<std::uint32_t>{0, 2, 3}));
  const auto pt = b.get<float>("pt"), eta = b.get<float>("eta"), phi = b.get<float>("phi");
  EXPECT_EQ(std::vector<float>(pt.begin(), pt.end()), (std::vector<float>{500, 250, 900}));
  EXPECT_NEAR(eta[0], 1.6, 1e-6);
  EXPECT_NEAR(eta[2], -0.49, 1e-6);
  EXPECT_NEAR(phi[1], 0.2, 1e-6);
  EXPECT_EQ(b.get<float>("jet_mass")[1], 100.0f);
  EXPECT_EQ(b.get<float>("jet_eta")[0], 1.5f);
  EXPECT_EQ(b.get<float>("jet_phi")[0], 0.0f);
  EXPECT_EQ(facts_["format"], "jetnet");
  // The file's name says nothing here.
  EXPECT_FALSE(b.has("label"));
  EXPECT_EQ(b.text("process", 0), "");
}

TEST_F(Hdf5, JetnetClassIsTheFilesName) {
  const std::string path = make([](auto& out) { jetnet(out); });
  for (const auto& [name, label] : std::map<std::string, std::int32_t>{{"g", 0}, {"q", 1}, {"t150", 2}, {"w", 3}, {"z150", 4}}) {
    bl::test::fs::copy_file(path, file(name + ".hdf5"));
    const Batch b = read(file(name + ".hdf5"));
    EXPECT_EQ(b.get<std::int32_t>("label")[1], label) << name;
    EXPECT_EQ(b.text("process", 1), name.substr(0, 1));
    EXPECT_EQ(facts_["labels"], (nlohmann::json{"g", "q", "t", "w", "z"}));
  }
  ReadOptions options;
  options.label = 1;
  options.names = {"qcd", "top"};
  const Batch b = read(file("g.hdf5"), 0, options);
  EXPECT_EQ(b.get<std::int32_t>("label")[0], 1);
  EXPECT_EQ(b.text("process", 0), "top");
  options.process = "mine";
  EXPECT_EQ(read(file("g.hdf5"), 0, options).text("process", 0), "mine");
}

TEST_F(Hdf5, JetnetFaults) {
  const auto changed = [](std::size_t at, float value) {
    std::vector<float> v(24, 0.0f);
    v[3] = v[15] = 1;
    v[at] = value;
    return v;
  };
  EXPECT_HAS(error(make([&](auto& out) { jetnet(out, changed(3, 0.5f)); })), "event 0, particle 0, mask: 0.5 is neither 0 nor 1");
  EXPECT_HAS(error(make([&](auto& out) { jetnet(out, changed(14, -0.5f)); })), "event 1, particle 0, pt: -600 is negative");
  EXPECT_HAS(error(make([&](auto& out) { jetnet(out, changed(12, static_cast<float>(kNaN))); })), "event 1, particle 0, eta: nan");
  EXPECT_HAS(error(make([](auto& out) {
               out.write("particle_features", {2, 3, 3}, std::vector<float>(18));
               out.write("jet_features", {2, 4}, std::vector<float>(8));
             })),
             "[jet, particle, 4]");
  EXPECT_HAS(error(make([](auto& out) {
               out.write("particle_features", {2, 3, 4}, std::vector<float>(24));
               out.write("jet_features", {2, 5}, std::vector<float>(10));
             })),
             "[jet, 4]");
  EXPECT_HAS(error(make([](auto& out) {
               out.write("particle_features", {2, 3, 4}, std::vector<float>(24));
               out.write("jet_features", {3, 4}, std::vector<float>(12));
             })),
             "has 2 jets in 'particle_features' and 3 in 'jet_features'");
}

TEST_F(Hdf5, LabelsAreNamedWhereTheFileDoesNot) {
  const std::string path = make([](auto& out) {
    out.write("offsets", std::vector<std::int64_t>{0, 1, 2, 3});
    for (const char* name : {"pt", "eta", "phi"}) out.write(name, std::vector<float>{1, 1, 1});
    out.write("label", std::vector<std::int32_t>{1, 0, 5});
  });
  ReadOptions options;
  options.names = {"qcd", "top"};
  const Batch b = read(path, 0, options);
  EXPECT_EQ(b.text("process", 0), "top");
  EXPECT_EQ(b.text("process", 1), "qcd");
  EXPECT_EQ(b.text("process", 2), "");
  EXPECT_EQ(facts_["labels"], (nlohmann::json{"qcd", "top"}));
}

void spanet(store::Output& out, double pt = 100) {
  out.write("INPUTS/Source/MASK", {2, 3}, std::vector<std::uint8_t>{1, 1, 0, 1, 0, 0});
  out.write("INPUTS/Source/pt", {2, 3}, std::vector<float>{static_cast<float>(pt), 50, -1, 60, 0, 0});
  out.write("INPUTS/Source/eta", {2, 3}, std::vector<float>{0.5f, -0.5f, 99, 1, 0, 0});
  out.write("INPUTS/Source/phi", {2, 3}, std::vector<float>{1, -1, 99, 2, 0, 0});
  out.write("INPUTS/Source/mass", {2, 3}, std::vector<float>{10, -3e-5f, 0, 5, 0, 0});
  out.write("INPUTS/Source/btag", {2, 3}, std::vector<float>{1, 0, 0, 1, 0, 0});
}

TEST_F(Hdf5, SpanetReadsMaskedSlotsOnly) {
  const Batch b = read(make([](auto& out) { spanet(out); }));
  ASSERT_EQ(b.events, 2u);
  const auto offsets = b.get<std::uint32_t>("object_offsets");
  EXPECT_EQ(std::vector<std::uint32_t>(offsets.begin(), offsets.end()), (std::vector<std::uint32_t>{0, 2, 3}));
  const auto pt = b.get<float>("pt"), mass = b.get<float>("mass");
  EXPECT_EQ(std::vector<float>(pt.begin(), pt.end()), (std::vector<float>{100, 50, 60}));
  EXPECT_EQ(mass[1], 0.0f);  // slightly negative by rounding
  EXPECT_EQ(b.get<float>("btag")[2], 1.0f);
  EXPECT_EQ(b.get<float>("met")[0], 0.0f);
  EXPECT_HAS(facts_["met"].get<std::string>(), "not in the file");
  EXPECT_HAS(facts_["assignments"].get<std::string>(), "not carried");
}

TEST_F(Hdf5, SpanetLeptonsAndMissingMomentum) {
  const Batch b = read(make([](auto& out) {
    spanet(out);
    out.write("INPUTS/Electrons/MASK", {2, 1}, std::vector<std::uint8_t>{0, 1});
    out.write("INPUTS/Electrons/pt", {2, 1}, std::vector<float>{0, 33});
    out.write("INPUTS/Electrons/eta", {2, 1}, std::vector<float>{0, 1});
    out.write("INPUTS/Electrons/sin_phi", {2, 1}, std::vector<float>{0, 1});
    out.write("INPUTS/Electrons/cos_phi", {2, 1}, std::vector<float>{1, 0});
    out.write("INPUTS/Electrons/charge", {2, 1}, std::vector<float>{0, -1});
    out.write("INPUTS/Met/met", std::vector<float>{20, 30});
    out.write("INPUTS/Met/sin_phi", std::vector<float>{0, -1});
    out.write("INPUTS/Met/cos_phi", std::vector<float>{-1, 0});
    out.write("CLASSIFICATIONS/EVENT/signal", std::vector<std::int64_t>{0, 1});
  }));
  EXPECT_EQ(b.get<float>("met")[1], 30.0f);
  EXPECT_FLOAT_EQ(b.get<float>("met_phi")[1], static_cast<float>(-M_PI / 2));
  EXPECT_EQ(b.get<std::int32_t>("label")[1], 1);
  const auto type = b.get<std::uint8_t>("type");
  EXPECT_EQ(std::count(type.begin(), type.end(), 2), 1);
  const auto phi = b.get<float>("phi");
  EXPECT_NE(std::find_if(phi.begin(), phi.end(), [](float p) { return std::abs(p - static_cast<float>(M_PI / 2)) < 1e-6f; }), phi.end());
}

TEST_F(Hdf5, SpanetFaults) {
  EXPECT_HAS(error(make([](auto& out) { spanet(out, -4); })), "event 0, 'INPUTS/Source' slot 0, pt: -4 is negative");
  EXPECT_HAS(error(make([](auto& out) { out.write("INPUTS/Source/MASK", {2, 3}, std::vector<std::uint8_t>(6)); })), "has no 'INPUTS/Source/pt'");
  EXPECT_HAS(error(make([](auto& out) { out.group("INPUTS"); })), "no group of INPUTS with a MASK");
  EXPECT_HAS(error(make([](auto& out) {
               out.write("INPUTS/Source/MASK", {2, 3}, std::vector<std::uint8_t>(6));
               out.write("INPUTS/Source/pt", {2, 4}, std::vector<float>(8));
             })),
             "another shape");
}

void jagged_objects(store::Output& out, std::vector<std::int64_t> offsets = {0, 2, 2, 5}) {
  out.write("offsets", offsets);
  out.write("type", std::vector<std::int8_t>{6, 5, 1, 4, 5});
  out.write("pt", std::vector<float>{100, 80, 60, 40, 30});
  out.write("eta", std::vector<float>{0, 1, -1, 0.5f, 2});
  out.write("phi", std::vector<float>{0, 1, -1, 3, -3});
  out.write("mass", std::vector<float>{10, -5e-6f, 0, 0, 3});
  out.write("met", std::vector<float>{10, 20, 30});
  out.write("met_phi", std::vector<float>{0, 1, -1});
  out.write("process", std::vector<std::int8_t>{1, 0, 1});
  out.write("event_id", std::vector<std::int64_t>{7, 8, 9});
  out.write("split", std::vector<std::int32_t>{0, 1, 1});
}

TEST_F(Hdf5, JaggedObjectsWithNamedIntegers) {
  const std::string path = make([](auto& out) { jagged_objects(out); });
  // Attributes hold lists of texts in the published files; here every kind is a number of objects/1.
  const Error e = error_of([&] { read(path); });
  EXPECT_HAS(e.what(), "event 0, object 0, type: 6 is not a kind of object");
  const Batch b = read(make([](auto& out) {
                         jagged_objects(out);
                         out.write("charge", std::vector<std::int8_t>{0, 0, 0, 0, 0});
                       }),
                       1);
  EXPECT_EQ(b.events, 2u);  // event 0 was skipped
  EXPECT_EQ(bad_, 1u);
  EXPECT_EQ(b.get<std::uint64_t>("event_id")[0], 8u);
  EXPECT_EQ(b.text("process", 1), "1");
  EXPECT_EQ(layout_.extra, std::vector<std::string>{"split"});
}

TEST_F(Hdf5, JaggedJetsWithRelativeAngles) {
  const std::string path = make([](auto& out) {
    out.write("offset", std::vector<std::int64_t>{0, 2, 3});
    out.write("pt", std::vector<float>{10, 5, 7});
    out.write("eta_rel", std::vector<float>{0.1f, -0.1f, 0});
    out.write("phi_rel", std::vector<float>{0.2f, -0.2f, 0.5f});
    out.write("jet_pt", std::vector<float>{500, 600});
    out.write("jet_eta", std::vector<float>{1, -1});
    out.write("jet_phi", std::vector<float>{3.1f, 0});
    out.write("label", std::vector<std::int8_t>{4, 0});
    out.write("jet_tau1", std::vector<float>{0.5f, 0.25f});
  });
  const Batch b = read(path);
  EXPECT_TRUE(layout_.particles && layout_.jet && !layout_.jet_mass);
  EXPECT_FLOAT_EQ(b.get<float>("eta")[0], 1.1f);
  EXPECT_NEAR(b.get<float>("phi")[0], 3.3 - 2 * M_PI, 1e-6);
  EXPECT_EQ(b.get<float>("jet_pt")[1], 600.0f);
  EXPECT_EQ(b.get<std::int32_t>("label")[0], 4);
  EXPECT_EQ(b.get<double>(kExtra + "jet_tau1")[1], 0.25);
  EXPECT_EQ(b.get<std::uint64_t>("event_id")[1], 1u);
}

TEST_F(Hdf5, JaggedConstituentsOfMomenta) {
  const Batch b = read(make([](auto& out) {
    out.write("part_offset", std::vector<std::int64_t>{0, 2});
    out.write("part_px", std::vector<float>{3, -1});
    out.write("part_py", std::vector<float>{4, 0});
    out.write("part_pz", std::vector<float>{0, 2});
    out.write("part_energy", std::vector<float>{5, 3});
    out.write("part_charge", std::vector<std::int32_t>{1, -1});
    for (const char* flag : {"part_isChargedHadron", "part_isNeutralHadron", "part_isPhoton", "part_isElectron"})
      out.write(flag, std::vector<std::int8_t>{0, 0});
    out.write("part_isMuon", std::vector<std::int8_t>{0, 1});
  }));
  EXPECT_FLOAT_EQ(b.get<float>("pt")[0], 5);
  EXPECT_FLOAT_EQ(b.get<float>("phi")[1], static_cast<float>(M_PI));
  EXPECT_NEAR(b.get<float>("eta")[1], std::asinh(2.0), 1e-6);
  EXPECT_NEAR(b.get<float>("mass")[1], std::sqrt(9.0 - 5.0), 1e-6);
  EXPECT_EQ(b.get<std::int8_t>("charge")[1], -1);
  EXPECT_EQ(b.get<std::int32_t>("pid")[1], 13);
}

TEST_F(Hdf5, JaggedFlagsOfJetClassAreItsLabels) {
  const auto jets = [](std::vector<std::int32_t> top) {
    return [top](auto& out) {
      out.write("offsets", std::vector<std::int64_t>{0, 1, 2, 3});
      for (const char* name : {"pt", "eta", "phi"}) out.write(name, std::vector<float>{1, 1, 1});
      out.write("label_QCD", std::vector<std::int32_t>{1, 0, 0});
      out.write("label_Tbqq", top);
    };
  };
  const Batch b = read(make(jets({0, 1, 0})));
  const auto label = b.get<std::int32_t>("label");
  EXPECT_EQ(std::vector<std::int32_t>(label.begin(), label.end()), (std::vector<std::int32_t>{0, 8, -1}));
  EXPECT_EQ(b.text("process", 0), "QCD");
  EXPECT_EQ(b.text("process", 1), "Tbqq");
  EXPECT_EQ(b.text("process", 2), "");
  EXPECT_EQ(facts_["labels"][8], "Tbqq");
  EXPECT_EQ(b.get<double>(kExtra + "label_Tbqq")[1], 1.0);  // selections still see the flags
  EXPECT_HAS(error(make(jets({1, 0, 0}))), "event 0, label_QCD and label_Tbqq are both set");
}

TEST_F(Hdf5, JaggedFaults) {
  EXPECT_HAS(error(make([](auto& out) { jagged_objects(out, {0, 3, 2, 5}); })), "falling offsets at event 1: 3 then 2");
  EXPECT_HAS(error(make([](auto& out) { jagged_objects(out, {0, 2, 2, 6}); })), "has offset 6 at event 2, but 5 entries");
  EXPECT_HAS(error(make([](auto& out) { jagged_objects(out, {-1, 2, 2, 5}); })), "falling offsets at event 0: -1");
  EXPECT_HAS(error(make([](auto& out) { jagged_objects(out, {0, 2, 5}); })), "'event_id'");
  EXPECT_HAS(error(make([](auto& out) {
               out.write("offsets", std::vector<std::int64_t>{0, 1});
               out.write("pt", std::vector<float>{1, 2});
               out.write("eta", std::vector<float>{1});
             })),
             "flat columns must be of the same length");
  EXPECT_HAS(error(make([](auto& out) {
               out.write("offsets", std::vector<std::int64_t>{0, 1});
               out.write("pt", std::vector<float>{1});
             })),
             "has neither 'eta' nor 'eta_rel'");
  EXPECT_HAS(error(make([](auto& out) {
               out.write("offsets", std::vector<std::int64_t>{0, 1});
               out.write_text("pt", {"x"});
               out.write("eta", std::vector<float>{1});
               out.write("phi", std::vector<float>{1});
             })),
             "'pt' holds text, numbers are expected");
  EXPECT_HAS(error(make([](auto& out) { out.write("weights", std::vector<float>{1}); })), "of a layout that is not known (arrays: weights)");
}

TEST_F(Hdf5, ManyJetsComeInBatches) {
  std::vector<std::int64_t> offsets{0};
  std::vector<float> pt, angle;
  for (int j = 0; j < 9000; ++j) {
    for (int k = 0; k < j % 70; ++k) {
      pt.push_back(static_cast<float>(j) + 1);
      angle.push_back(0.1f);
    }
    offsets.push_back(static_cast<std::int64_t>(pt.size()));
  }
  const std::string path = make([&](auto& out) {
    out.write("offsets", offsets);
    out.write("pt", pt);
    out.write("eta", angle);
    out.write("phi", angle);
  });
  Bad bad(0);
  const auto reader = open_hdf5(path, detect(path), {}, bad);
  std::uint64_t event = 0;
  while (const auto b = reader->next()) {
    EXPECT_LE(b->bytes(), 2 * kBatchBytes);
    const auto o = b->get<std::uint32_t>("particle_offsets");
    const auto p = b->get<float>("pt");
    for (std::uint32_t e = 0; e < b->events; ++e, ++event) {
      ASSERT_EQ(o[e + 1] - o[e], event % 70);
      for (std::uint32_t i = o[e]; i < o[e + 1]; ++i) ASSERT_EQ(p[i], static_cast<float>(event) + 1);
    }
  }
  EXPECT_EQ(event, 9000u);
}

}  // namespace
