// Dark Machines and CMS text: values, spellings, and every way in which a line can be wrong.
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "base/rng.hpp"
#include "preprocess/input.hpp"
#include "schema/schema.hpp"
#include "support.hpp"

namespace {

using namespace bl;
using namespace bl::preprocess;
using bl::test::error_of;

class Text : public bl::test::Scratch {
 protected:
  Text() { log::setup("test", "off"); }

  Batch read(const std::string& content, Format format = Format::darkmachines, std::uint64_t skip = 0, const ReadOptions& options = {}) {
    const std::string path = write("input.csv", content);
    Pool pool(2);
    Bad bad(skip);
    const auto reader = open_text(path, format, options, bad, pool);
    layout_ = reader->layout();
    facts_ = reader->facts();
    std::vector<Batch> batches;
    while (auto batch = reader->next()) batches.push_back(std::move(*batch));
    bad_ = bad.count();
    return concat(batches);
  }
  std::string error(const std::string& content, Format format = Format::darkmachines, const ReadOptions& options = {}) {
    const Error e = error_of([&] { read(content, format, 0, options); });
    EXPECT_EQ(e.code(), Exit::input) << e.what();
    return e.what();
  }

  Events::Layout layout_;
  nlohmann::json facts_;
  std::uint64_t bad_ = 0;
};

const char* const kTwo =
    "90934;glgl1400;8.17901e-07;966678;1.88616;j,1.11905e+06,1.09924e+06,0.150071,-1.34083;b,559871,165567,-1.88859,1.47369;\n"
    "62416;stlp;1;395249;-0.0714699;m+,62155.7,57393.1,-0.404618,-0.243289;e-,50000,40000,0.5,3.1;g,20000,20000,0,0;mu-,31000,30000,0.2,-3.14159;\n";

TEST_F(Text, DarkMachinesLinesBecomeGeV) {
  const Batch b = read(kTwo);
  ASSERT_EQ(b.events, 2u);
  EXPECT_EQ(b.get<std::uint64_t>("event_id")[0], 90934u);
  EXPECT_EQ(b.text("process", 0), "glgl1400");
  EXPECT_EQ(b.text("process", 1), "stlp");
  EXPECT_DOUBLE_EQ(b.get<double>("weight")[0], 8.17901e-07);
  EXPECT_FLOAT_EQ(b.get<float>("met")[0], 966.678f);
  EXPECT_FLOAT_EQ(b.get<float>("met_phi")[1], -0.0714699f);
  const auto offsets = b.get<std::uint32_t>("object_offsets");
  EXPECT_EQ(std::vector<std::uint32_t>(offsets.begin(), offsets.end()), (std::vector<std::uint32_t>{0, 2, 6}));
  const auto type = b.get<std::uint8_t>("type");
  EXPECT_EQ(std::vector<std::uint8_t>(type.begin(), type.end()), (std::vector<std::uint8_t>{1, 1, 3, 2, 4, 3}));
  const auto charge = b.get<std::int8_t>("charge");
  EXPECT_EQ(std::vector<std::int8_t>(charge.begin(), charge.end()), (std::vector<std::int8_t>{0, 0, 1, -1, 0, -1}));
  const auto btag = b.get<float>("btag");
  EXPECT_EQ(std::vector<float>(btag.begin(), btag.end()), (std::vector<float>{0, 1, 0, 0, 0, 0}));
  EXPECT_FLOAT_EQ(b.get<float>("pt")[0], 1099.24f);
  EXPECT_FLOAT_EQ(b.get<float>("eta")[1], -1.88859f);
  const double p = 1099.24 * std::cosh(0.150071);
  EXPECT_NEAR(b.get<float>("mass")[0], std::sqrt(1119.05 * 1119.05 - p * p), 1e-3);
  EXPECT_EQ(facts_["format"], "darkmachines");
  EXPECT_EQ(facts_["units"], "MeV converted to GeV");
  EXPECT_FALSE(b.has("label"));
}

TEST_F(Text, LineEndsTitlesAndBlankLines) {
  const Batch plain = read(kTwo);
  std::string dos;
  for (const char* c = kTwo; *c; ++c) dos += *c == '\n' ? std::string("\r\n") : std::string(1, *c);
  for (const std::string& content : {dos, std::string("event ID; process ID; event weight; MET; METphi; obj1, E1\n") + kTwo, std::string(kTwo) + "\n  \n",
                                     std::string(kTwo, std::strlen(kTwo) - 1)}) {
    Digest a, b;
    a.add(plain);
    b.add(read(content));
    EXPECT_EQ(a, b) << content;
  }
  // An event without objects, with and without the last semicolon
  EXPECT_EQ(read("1;p;1;100;0;\n2;p;1;100;0\n").events, 2u);
}

TEST_F(Text, OptionsReplaceProcessAndLabel) {
  ReadOptions options;
  options.process = "mine";
  options.label = 1;
  const Batch b = read(kTwo, Format::darkmachines, 0, options);
  EXPECT_EQ(b.text("process", 1), "mine");
  EXPECT_EQ(b.get<std::int32_t>("label")[1], 1);
}

TEST_F(Text, RoundedEnergiesOfMasslessObjectsAreNoError) {
  const Batch b = read("1;p;1;100;0;j,99999,100000,0,0;\n");
  EXPECT_EQ(b.get<float>("mass")[0], 0.0f);
}

TEST_F(Text, EachFaultIsNamedWithItsPlace) {
  const std::string good = "1;p;1;100;0;j,200,100,0,0;\n";
  const auto second = [&](const std::string& line) { return error(good + line + "\n"); };
  EXPECT_HAS(second("1;p;1;abc;0;"), "input.csv', line 2, column 4 (MET): 'abc' is not a number");
  EXPECT_HAS(second("1;p;1;-5;0;"), "line 2, MET: -0.005 is negative");
  EXPECT_HAS(second("1;p;1;nan;0;"), "column 4 (MET): nan is not finite");
  EXPECT_HAS(second("1;p;1;1e400;0;"), "column 4 (MET): '1e400' is not a number");
  EXPECT_HAS(second("1;p;inf;5;0;"), "column 3 (weight): inf is not finite");
  EXPECT_HAS(second("x1;p;1;5;0;"), "column 1 (event id): 'x1' is not a whole number");
  EXPECT_HAS(second("-1;p;1;5;0;"), "column 1 (event id)");
  EXPECT_HAS(second("1;p;1;5;99;"), "METphi: 99 is not an angle");
  EXPECT_HAS(second("1;p;1"), "column 4 (MET): is missing, the line has 3 columns");
  EXPECT_HAS(second("1;p;1;5;0;q,1,1,0,0;"), "object 1: 'q' is not known; known are j, b, e-, e+, m-, m+, g");
  EXPECT_HAS(second("1;p;1;5;0;j,200,100,0,0;j,-1,1,0,0;"), "object 2 (j), E: -1 is negative");
  EXPECT_HAS(second("1;p;1;5;0;j,1,-1,0,0;"), "object 1 (j), pt: -1 is negative");
  EXPECT_HAS(second("1;p;1;5;0;j,1,nan,0,0;"), "object 1 (j), pt: nan is not finite");
  EXPECT_HAS(second("1;p;1;5;0;j,1,1,0;"), "object 1 (j), phi: is missing");
  EXPECT_HAS(second("1;p;1;5;0;j,1,1,0,x;"), "object 1 (j), phi: 'x' is not a number");
  EXPECT_HAS(second("1;p;1;5;0;j,1,1,0,0,7;"), "an object has five values");
  EXPECT_HAS(second("1;p;1;5;0;j,1e9,1,21,0;"), "object 1 (j), eta: 21 is outside -20 to 20");
  EXPECT_HAS(second("1;p;1;5;0;j,50,100,0,0;"), "object 1 (j), E: 50 is below the momentum 100");
  EXPECT_HAS(second("1;p;1;5;0;j,200,100,0,100;"), "object 1 (j), phi: 100 is not an angle");
  EXPECT_HAS(second("1;p;1;5;0;;j,200,100,0,0;"), "object 1: '' is not known");
  // What is not text is shown in a way that a terminal stands.
  EXPECT_HAS(second("1;p;1;5\x1b[2J;0;"), "column 4 (MET): '5\\x1b[2J' is not a number");
  EXPECT_HAS(second("1;p\xc9;1;5;0;"), "process: 'p\\xc9' is not a name");
}

TEST_F(Text, BadLinesAreSkippedUpToTheLimit) {
  const std::string bad = "1;p;1;abc;0;j,200,100,0,0;\n", unknown = "1;p;1;5;0;j,200,100,0,0;x,1,1,0,0;\n";
  const std::string content = std::string(kTwo) + bad + kTwo + unknown + kTwo;
  const Batch b = read(content, Format::darkmachines, 2);
  EXPECT_EQ(b.events, 6u);
  EXPECT_EQ(bad_, 2u);
  // Nothing of a bad line stays: the good ones are as without it.
  Digest with, without;
  with.add(b);
  without.add(read(std::string(kTwo) + kTwo + kTwo));
  EXPECT_EQ(with.events, without.events);
  for (const char* column : {"pt", "met"}) {
    const auto x = b.get<float>(column);
    const Batch again = read(std::string(kTwo) + kTwo + kTwo);
    const auto y = again.get<float>(column);
    EXPECT_TRUE(std::equal(x.begin(), x.end(), y.begin(), y.end())) << column;
  }
  const Error e = error_of([&] { read(content, Format::darkmachines, 1); });
  EXPECT_EQ(e.code(), Exit::input);
  EXPECT_HAS(e.what(), "line 6");
  EXPECT_HAS(e.what(), "--skip-bad 1 tolerated");
}

TEST_F(Text, NothingToReadIsAnError) {
  EXPECT_HAS(error("event ID;process ID;w;MET;METphi\n"), "holds no events in its 1 lines");
  EXPECT_HAS(error(""), "is empty");
}

// More than one block of the reader, so that lines are cut between reads and pieces.
TEST_F(Text, LargeFilesAreCutAtLineEnds) {
  std::string content;
  constexpr std::uint64_t kLines = 250'000;
  for (std::uint64_t i = 0; i < kLines; ++i)
    content += fmt::format("{};p{};{};{};0.5;j,{},{},0.1,0.2;b,200000,100000,-1,1;\n", i, i % 7, i % 11, 1000 * (i % 501), 300 + i, 200 + i % 90);
  ASSERT_GT(content.size(), std::size_t{9} << 20);
  std::string path = write("large.csv", content);
  Digest by_threads[2];
  std::vector<std::uint32_t> sizes[2];
  for (const int threads : {1, 3}) {
    Pool pool(static_cast<std::size_t>(threads));
    Bad bad(0);
    const auto reader = open_text(path, Format::darkmachines, {}, bad, pool);
    std::uint64_t next = 0;
    while (const auto batch = reader->next()) {
      EXPECT_LE(batch->events, kBatchEvents);
      for (const auto id : batch->get<std::uint64_t>("event_id")) ASSERT_EQ(id, next++);
      by_threads[threads / 2].add(*batch);
      sizes[threads / 2].push_back(batch->events);
    }
    EXPECT_EQ(next, kLines);
  }
  EXPECT_EQ(by_threads[0], by_threads[1]);
  EXPECT_EQ(sizes[0], sizes[1]);

  const auto at = content.find("\n240000;") + 1;
  content.replace(at, 6, "24x000");
  path = write("large.csv", content);
  Pool pool(2);
  Bad bad(0);
  const Error e = error_of([&] {
    const auto reader = open_text(path, Format::darkmachines, {}, bad, pool);
    while (reader->next()) {
    }
  });
  EXPECT_HAS(e.what(), "line 240001, column 1 (event id): '24x000'");
}

TEST_F(Text, ALineWithoutEndIsAnError) {
  const std::string content(std::size_t{9} << 20, '7');
  EXPECT_HAS(error(content), "line 1: the line is longer than");
}

const char* const kCms =
    "# run;event;MET_GeV;METphi;npv;type,E,pt,eta,phi,charge,btag,iso,id;...\n"
    "194711;263142897;22.17703;0.5337166;9;j,185.942,71.74248,-1.603473,-2.251697,0,0.9,,1;m,15.33849,12.7771,-0.6230235,0.6473218,-1,,1.458282,1;g,122.0582,48.1148,-1.582726,-2.232226,0,,0.05,;\n"
    "194711;263176076;13.93802;-0.9887;17;j,118.4495,23.1593,-2.314745,0.2161225,0,-10,,1;t,92.43155,36.91969,-1.568278,-2.234172,1,,1.06,0\n";

TEST_F(Text, CmsFilesNameTheirColumns) {
  const Batch b = read(kCms, Format::cms);
  ASSERT_EQ(b.events, 2u);
  EXPECT_EQ(b.get<std::uint64_t>("event_id")[0], 263142897u);
  EXPECT_FLOAT_EQ(b.get<float>("met")[0], 22.17703f);
  EXPECT_EQ(b.get<double>("weight")[0], 1.0);
  EXPECT_EQ(b.text("process", 0), "");
  const auto btag = b.get<float>("btag");
  EXPECT_FLOAT_EQ(btag[0], 0.9f);
  EXPECT_EQ(btag[3], 0.0f);
  EXPECT_EQ(b.get<std::int8_t>("charge")[1], -1);
  EXPECT_EQ(b.get<std::uint8_t>("type")[4], 5);
  EXPECT_EQ(layout_.extra, (std::vector<std::string>{"run", "npv"}));
  EXPECT_EQ(b.get<double>(kExtra + "npv")[1], 17.0);
  ReadOptions cut;
  cut.btag_cut = 0.95;
  EXPECT_EQ(read(kCms, Format::cms, 0, cut).get<float>("btag")[0], 0.0f);
}

TEST_F(Text, CmsFaults) {
  EXPECT_HAS(error(kTwo, Format::cms), "begins with '# event");
  EXPECT_HAS(error("# a;b;c\n1;2;3\n", Format::cms), "must name event, MET_GeV and METphi");
  const std::string head = "# event;MET_GeV;METphi;type,E,pt,eta,phi,charge,btag,iso,id\n";
  EXPECT_HAS(error(head + "1;5;0;j,20,10,0,0,0,4.3,,1\n", Format::cms), "btag: 4.3 is outside 0 to 1: give --btag-cut");
  EXPECT_HAS(error(head + "1;5;0;m,20,10,0,0,2,,,1\n", Format::cms), "charge: 2 is outside -1 to 1");
  EXPECT_HAS(error(head + "1;5;0;m,20,10,0,0,x,,,1\n", Format::cms), "charge: 'x' is not a number");
}

// Lines with random damage: a sentence, or events that the schema accepts; nothing else.
TEST_F(Text, DamagedLinesAreErrorsOrEvents) {
  const Rng rng(5, "damage");
  const std::string pieces[] = {";", ",", "\n", "e999", "-", "nan", "1e308", "99999999999999999999999", "\r", "#", std::string(1, '\0'), "\xff"};
  std::size_t errors = 0, read_well = 0;
  for (std::uint64_t i = 0; i < 600; ++i) {
    const bool cms = i % 2;
    std::string content = cms ? kCms : kTwo;
    for (std::uint64_t k = 0; k <= rng.below(4, i, 0); ++k) {
      const auto at = rng.below(content.size(), i, 10 * k + 1);
      switch (rng.below(3, i, 10 * k + 2)) {
        case 0: content[at] = static_cast<char>(rng.below(256, i, 10 * k + 3)); break;
        case 1: content.erase(at, 1 + rng.below(20, i, 10 * k + 3)); break;
        default: content.insert(at, pieces[rng.below(std::size(pieces), i, 10 * k + 3)]); break;
      }
      if (content.empty()) content = "1";
    }
    try {
      Batch batch = read(content, cms ? Format::cms : Format::darkmachines, rng.below(2, i, 99) * 100);
      std::erase_if(batch.columns, [](const Column& c) { return c.name.starts_with(kExtra); });
      EXPECT_EQ(schema::violation(schema::get("objects/1"), batch), std::nullopt) << content;
      ++read_well;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input) << content;
      ++errors;
    }
  }
  EXPECT_GT(errors, 100u);
  EXPECT_GT(read_well, 100u);
}

}  // namespace
