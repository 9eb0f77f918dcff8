#include "store/h5.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>

#include "base/files.hpp"

namespace {

using namespace bl;
namespace fs = std::filesystem;

class Store : public ::testing::Test {
 protected:
  Store()
      : folder_(fs::temp_directory_path() / fmt::format("beamline_store_{}_{}", ::getpid(), ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::create_directories(folder_);
  }
  ~Store() override { fs::remove_all(folder_); }
  std::string file(const std::string& name) const { return (folder_ / name).string(); }

  fs::path folder_;
};

// The error of `call`: its code and its message.
template <class Call>
Error error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return Error(Exit::done, "no error");
}

#define EXPECT_ERROR(call, exit_code, part)                                             \
  do {                                                                                  \
    const Error error = error_of([&] { call; });                                        \
    EXPECT_EQ(error.code(), exit_code) << error.what();                                 \
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what(); \
  } while (false)

template <class T>
std::vector<T> ramp(std::size_t n) {
  std::vector<T> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<T>(i % 120);
  return values;
}

template <class T>
void round_trip(const std::string& path) {
  std::vector<T> values = ramp<T>(600);
  values[0] = std::numeric_limits<T>::lowest();
  values[1] = std::numeric_limits<T>::max();
  {
    store::Output out(path, true);
    out.write("a/b/plain", {600}, values, {.gzip = false, .checksum = false});
    out.write("a/b/checked", {20, 30}, values);
    out.write("packed", {2, 3, 100}, values, {.gzip = true, .checksum = true});
    out.write_one("one", values[1]);
    out.write("none", std::vector<T>{});
    out.write("empty rows", {0, 4}, std::vector<T>{});
    out.commit();
  }
  const store::Input in(path);
  EXPECT_EQ(in.read<T>("a/b/plain"), values);
  EXPECT_EQ(in.read<T>("a/b/checked"), values);
  EXPECT_EQ(in.read<T>("packed"), values);
  EXPECT_EQ(in.read_one<T>("one"), values[1]);
  EXPECT_TRUE(in.read<T>("none").empty());
  EXPECT_EQ(in.info("empty rows").shape, (store::Shape{0, 4}));
  EXPECT_EQ(in.info("packed").shape, (store::Shape{2, 3, 100}));
  EXPECT_EQ(in.info("one").shape, store::Shape{});
  // Rows 5 to 7 of [20, 30]
  const auto rows = in.read_rows<T>("a/b/checked", 5, 3);
  EXPECT_EQ(rows, std::vector<T>(values.begin() + 150, values.begin() + 240));
  std::vector<T> there(600);
  in.read_into("packed", std::span<T>(there));
  EXPECT_EQ(there, values);
}

TEST_F(Store, EveryNumberTypeRoundTrips) {
  round_trip<std::int8_t>(file("i8.h5"));
  round_trip<std::uint8_t>(file("u8.h5"));
  round_trip<std::int16_t>(file("i16.h5"));
  round_trip<std::uint16_t>(file("u16.h5"));
  round_trip<std::int32_t>(file("i32.h5"));
  round_trip<std::uint32_t>(file("u32.h5"));
  round_trip<std::int64_t>(file("i64.h5"));
  round_trip<std::uint64_t>(file("u64.h5"));
  round_trip<float>(file("f32.h5"));
  round_trip<double>(file("f64.h5"));
}

TEST_F(Store, LargeArraysAreCutIntoChunksAndComeBack) {
  std::vector<float> values(3'000'000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.5f;
  store::Output out(file("large.h5"), false);
  out.write("flat", values);
  out.write("wide", {3, 1'000'000}, values, {.gzip = true, .checksum = true});
  out.commit();
  const store::Input in(file("large.h5"));
  EXPECT_EQ(in.read<float>("flat"), values);
  EXPECT_EQ(in.read<float>("wide"), values);
  EXPECT_EQ(in.read_rows<float>("flat", 2'999'998, 2), (std::vector<float>{values[2'999'998], values[2'999'999]}));
}

TEST_F(Store, NumbersConvertButAreNeverClipped) {
  store::Output out(file("c.h5"), false);
  out.write("integers", std::vector<std::int64_t>{1, 2, 300});
  out.write("reals", std::vector<double>{1.0, -2.0, 3.0});
  out.write("halves", std::vector<double>{1.5});
  out.write("odd", std::vector<float>{std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()});
  out.write("negative", std::vector<std::int32_t>{-1});
  out.commit();
  const store::Input in(file("c.h5"));
  EXPECT_EQ(in.read<double>("integers"), (std::vector<double>{1, 2, 300}));
  EXPECT_EQ(in.read<std::int16_t>("reals"), (std::vector<std::int16_t>{1, -2, 3}));
  EXPECT_TRUE(std::isnan(in.read<double>("odd")[0]));
  EXPECT_TRUE(std::isinf(in.read<double>("odd")[1]));
  EXPECT_ERROR(in.read<std::int8_t>("integers"), Exit::input, "'integers': a value of type i64 does not fit into i8");
  EXPECT_ERROR(in.read<std::int32_t>("odd"), Exit::input, "does not fit into i32");
  EXPECT_ERROR(in.read<std::int32_t>("halves"), Exit::input, "does not fit into i32");
  EXPECT_ERROR(in.read<std::uint32_t>("negative"), Exit::input, "does not fit into u32");
}

TEST_F(Store, TextAndAttributesRoundTrip) {
  const std::string longer(200'000, 'x');  // above the 64 KiB of a fixed-length attribute
  store::Output out(file("t.h5"), false);
  out.write_text("names", {"ttbar", "", "4 tops ü"});
  out.write_one_text("one", "beamline");
  out.group("empty/group");
  out.attribute("", "about", longer);
  out.attribute("", "version", 1);
  out.attribute("", "version", 2);  // replaces
  out.attribute("names", "scale", 0.25);
  out.attribute("empty/group", "kind", "tokenizer");
  out.commit();
  const store::Input in(file("t.h5"));
  EXPECT_EQ(in.read_text("names"), (std::vector<std::string>{"ttbar", "", "4 tops ü"}));
  EXPECT_EQ(in.read_one_text("one"), "beamline");
  EXPECT_EQ(in.text_attribute("", "about"), longer);
  EXPECT_EQ(in.integer_attribute("", "version"), 2);
  EXPECT_EQ(in.real_attribute("names", "scale"), 0.25);
  EXPECT_EQ(in.text_attribute("empty/group", "kind"), "tokenizer");
  EXPECT_EQ(in.attributes(""), (std::vector<std::string>{"about", "version"}));
  EXPECT_TRUE(in.has_attribute("", "about"));
  EXPECT_FALSE(in.has_attribute("", "missing"));
  EXPECT_FALSE(in.has_attribute("nothing", "missing"));
  EXPECT_TRUE(in.has_group("empty/group"));
  EXPECT_FALSE(in.has_group("names"));
  EXPECT_TRUE(in.has_dataset("names"));
  EXPECT_FALSE(in.has_dataset("no/such/thing"));
  EXPECT_EQ(in.groups(), std::vector<std::string>{"empty"});
  EXPECT_EQ(in.datasets(), (std::vector<std::string>{"names", "one"}));
  EXPECT_ERROR(in.integer_attribute("", "missing"), Exit::input, "has no attribute 'missing'");
  EXPECT_ERROR(in.integer_attribute("", "about"), Exit::input, "a number is expected");
  EXPECT_ERROR(in.integer_attribute("names", "scale"), Exit::input, "an integer is expected");
  EXPECT_ERROR(in.text_attribute("", "version"), Exit::input, "text is expected");
  EXPECT_ERROR(in.read<float>("names"), Exit::input, "holds text, numbers are expected");
}

TEST_F(Store, MissingArraysAreNamedWithTheNearest) {
  store::Output out(file("n.h5"), false);
  out.write("encoder/weight", std::vector<float>{1, 2, 3});
  out.commit();
  const store::Input in(file("n.h5"));
  EXPECT_EQ(in.all_datasets(), std::vector<std::string>{"encoder/weight"});
  EXPECT_ERROR(in.read<float>("encoder/weigth"), Exit::input, "did you mean 'encoder/weight'?");
  EXPECT_ERROR(in.read_rows<float>("encoder/weight", 2, 2), Exit::input, "rows 2 to 4 asked for, it has 3");
  EXPECT_ERROR(in.read_text("encoder/weight"), Exit::input, "text is expected");
  EXPECT_ERROR(in.groups("encoder/weight"), Exit::input, "has no group");
  std::vector<float> wrong(4);
  EXPECT_ERROR(in.read_into("encoder/weight", std::span<float>(wrong)), Exit::input, "has 3 values, 4 are expected");
}

TEST_F(Store, NothingStandsUnderTheNameBeforeCommit) {
  {
    store::Output out(file("half.h5"), false);
    out.write("x", std::vector<float>{1});
    EXPECT_FALSE(fs::exists(file("half.h5")));
  }
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(Store, AnExistingFileIsKeptWithoutForce) {
  write_file(file("kept.h5"), "precious", false);
  EXPECT_ERROR(store::Output(file("kept.h5"), false), Exit::write, "exists: give --force");
  {
    store::Output out(file("kept.h5"), true);
    out.write("x", std::vector<float>{1});
  }
  EXPECT_EQ(read_file(file("kept.h5")), "precious");
  store::Output out(file("kept.h5"), true);
  out.write("x", std::vector<float>{1});
  out.commit();
  EXPECT_EQ(store::Input(file("kept.h5")).read_one<float>("x"), 1.0f);
  EXPECT_FALSE(fs::exists(file("kept.h5.part")));
}

TEST_F(Store, TheSameContentHasTheSameBytes) {
  for (const char* name : {"a.h5", "b.h5"}) {
    store::Output out(file(name), false);
    out.write("g/x", ramp<float>(1000), {.gzip = true, .checksum = true});
    out.write_text("t", {"one", "two"});
    out.attribute("", "k", "v");
    out.commit();
    if (name[0] == 'a') ::usleep(1'100'000);  // a time stamp of a second's resolution would show
  }
  EXPECT_EQ(read_file(file("a.h5")), read_file(file("b.h5")));
}

TEST_F(Store, AFullDiskIsAWriteErrorAndLeavesNothing) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = 64 << 10;
  ::setrlimit(RLIMIT_FSIZE, &small);
  const Error error = error_of([&] {
    store::Output out(file("full.h5"), false);
    out.write("x", std::vector<double>(100'000, 1.5));
    out.commit();
  });
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(error.code(), Exit::write) << error.what();
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(Store, WrongFilesAreRefusedInWords) {
  EXPECT_ERROR(store::Input(file("missing.h5")), Exit::input, "No such file");
  EXPECT_ERROR(store::Input(folder_.string()), Exit::input, "it is a folder");
  write_file(file("empty.h5"), "", false);
  EXPECT_ERROR(store::Input(file("empty.h5")), Exit::input, "is empty");
  write_file(file("text.h5"), "event;process\n1;tt\n", false);
  EXPECT_ERROR(store::Input(file("text.h5")), Exit::input, "is not an HDF5 file");
  EXPECT_FALSE(store::is_hdf5(file("text.h5")));
  EXPECT_ERROR(store::Output(file("no/such/folder/x.h5"), false), Exit::write, "No such file or directory");
}

TEST_F(Store, ATruncatedFileIsCutShort) {
  store::Output out(file("whole.h5"), false);
  out.write("x", std::vector<double>(10'000, 1.5));
  out.commit();
  const std::string whole = read_file(file("whole.h5"));
  for (const double part : {0.2, 0.5, 0.9, 0.999}) {
    write_file(file("short.h5"), whole.substr(0, static_cast<std::size_t>(part * static_cast<double>(whole.size()))), true);
    EXPECT_ERROR(store::Input(file("short.h5")), Exit::input, "is cut short");
  }
}

TEST_F(Store, AFlippedBitIsAnError) {
  store::Output out(file("whole.h5"), false);
  out.write("x", ramp<float>(256));
  out.commit();
  const std::string whole = read_file(file("whole.h5"));
  for (std::size_t at = 0; at < whole.size() - 16; at += 5) {
    std::string bad = whole;
    bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
    std::ofstream(file("bad.h5"), std::ios::binary) << bad;  // hundreds of times: without the fsync of write_file()
    const Error error = error_of([&] { const store::Input in(file("bad.h5")); });
    ASSERT_EQ(error.code(), Exit::input) << "byte " << at;
  }
}

// A file that another program wrote has no checksum of the whole; its chunks may have one.
TEST_F(Store, AFlippedBitInAChunkOfAForeignFileIsAnError) {
  store::Output out(file("whole.h5"), false);
  out.write("x", std::vector<float>(20'000, 1.5f));
  out.commit();
  std::string foreign = read_file(file("whole.h5"));
  foreign.resize(foreign.size() - 16);
  write_file(file("foreign.h5"), foreign, false);
  EXPECT_EQ(store::Input(file("foreign.h5")).read<float>("x").size(), 20'000u);
  foreign[foreign.size() - 40'000] ^= 4;
  write_file(file("foreign.h5"), foreign, true);
  const store::Input in(file("foreign.h5"));
  EXPECT_ERROR(in.read<float>("x"), Exit::input, "'x' cannot be read, the file is damaged");
}

std::string data_folder() {
  if (const char* given = std::getenv("BEAMLINE_DATA")) return given;
  return std::string(BEAMLINE_SOURCE_DIR) + "/../shared/data";
}

#define NEED_DATA(path) \
  if (!fs::exists(path)) GTEST_SKIP() << path << " is not here"

TEST_F(Store, ReadsHalfPrecisionAndTextOfPublishedFiles) {
  const std::string path = data_folder() + "/pythia/jets.h5";
  NEED_DATA(path);
  const store::Input in(path);
  EXPECT_EQ(in.info("pt").type, "f16");
  EXPECT_EQ(in.info("pt").shape, store::Shape{14533124});
  EXPECT_EQ(in.read_rows<std::int64_t>("offsets", 0, 3), (std::vector<std::int64_t>{0, 33, 76}));
  const auto pt = in.read_rows<float>("pt", 0, 2);
  EXPECT_FLOAT_EQ(pt[0], 267.25f);
  EXPECT_EQ(in.texts_attribute("", "label"), (std::vector<std::string>{"q", "g", "t->bqq", "H->bb", "W->qq"}));
  EXPECT_EQ(in.read<std::int32_t>("label").size(), 270503u);
}

// Every one of the 65536 half-precision numbers, against its definition.
TEST_F(Store, HalfPrecisionIsExact) {
  const std::string path = file("half.h5");
  {
    const hid_t out = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    std::vector<std::uint16_t> all(65536);
    std::iota(all.begin(), all.end(), std::uint16_t{0});
    const hsize_t count = all.size();
    const hid_t space = H5Screate_simple(1, &count, nullptr);
    const hid_t set = H5Dcreate2(out, "x", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    ASSERT_GE(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data()), 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Tclose(type);
    H5Fclose(out);
  }
  const store::Input in(path);
  EXPECT_EQ(in.info("x").type, "f16");
  const auto singles = in.read<float>("x");
  const auto doubles = in.read<double>("x");
  for (std::uint32_t h = 0; h < 65536; ++h) {
    const int exponent = static_cast<int>(h >> 10 & 31), mantissa = static_cast<int>(h & 1023);
    double want = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31) want = mantissa ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
    if (h & 0x8000) want = -want;
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(singles[h]) && std::isnan(doubles[h])) << h;
    } else {
      ASSERT_EQ(singles[h], want) << h;
      ASSERT_EQ(doubles[h], want) << h;
    }
  }
}

TEST_F(Store, ReadsBooleans) {
  const std::string path = data_folder() + "/spanet/full_hadronic_ttbar_example.h5";
  NEED_DATA(path);
  const store::Input in(path);
  EXPECT_EQ(in.info("INPUTS/Source/MASK").type, "bool");
  const auto mask = in.read<std::uint8_t>("INPUTS/Source/MASK");
  ASSERT_EQ(mask.size(), 100'000u);
  EXPECT_EQ(mask[0], 1);
  std::size_t set = 0;
  for (const auto m : mask) {
    EXPECT_LE(m, 1);
    set += m;
  }
  EXPECT_GT(set, 60'000u);
  EXPECT_EQ(in.groups("TARGETS"), (std::vector<std::string>{"t1", "t2"}));
}

TEST_F(Store, NamesTheFilterThatIsMissing) {
  const std::string path = data_folder() + "/lhco/events_anomalydetection_tiny.h5";
  NEED_DATA(path);
  const store::Input in(path);
  EXPECT_EQ(in.text_attribute("df", "pandas_type"), "frame");
  if (in.info("df/block0_values").needs_filter.empty()) GTEST_SKIP() << "the blosc plugin is installed here";
  EXPECT_ERROR(in.read_rows<double>("df/block0_values", 0, 1), Exit::input, "compressed with the filter blosc (32001)");
  EXPECT_ERROR(in.read_rows<double>("df/block0_values", 0, 1), Exit::input, "HDF5_PLUGIN_PATH");
}

}  // namespace
