#include "schema/schema.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/files.hpp"
#include "base/hash.hpp"

namespace bl::schema {
namespace {

constexpr const char* kText = R"(
name = "demo"
version = 2
doc = "x"
[dim.object]
ragged = true
[column.object_offsets]
dtype = "u32"
dims = ["event+1"]
[column.pt]
dtype = "f32"
dims = ["object"]
unit = "GeV"
min = 0.0
finite = true
[column.type]
dtype = "u8"
dims = ["object"]
min = 1
max = 5
optional = true
[column."score_*"]
dtype = "f32"
dims = ["event"]
finite = true
optional = true
)";

Batch good() {
  Batch b;
  b.seq = 4;
  b.events = 2;
  b.set("object_offsets", {"event+1"}, std::vector<std::uint32_t>{0, 2, 3});
  b.set("pt", {"object"}, std::vector<float>{1, 2, 3});
  b.set("type", {"object"}, std::vector<std::uint8_t>{1, 5, 2});
  b.set("score_a", {"event"}, std::vector<float>{0.5f, -1});
  return b;
}

std::string why(const Batch& b) { return violation(parse(kText, "demo.toml"), b).value_or(""); }

TEST(Schema, good_batch_passes) { EXPECT_EQ(why(good()), ""); }

TEST(Schema, violations_name_column_entry_value_and_limit) {
  Batch b = good();
  b.find("pt")->edit<float>()[1] = -3;
  EXPECT_EQ(why(b), "column 'pt', entry 1: -3 GeV is below 0");
  b = good();
  b.find("pt")->edit<float>()[2] = NAN;
  EXPECT_EQ(why(b), "column 'pt', entry 2: nan is not a finite number");
  b = good();
  b.find("pt")->edit<float>()[0] = INFINITY;
  EXPECT_EQ(why(b), "column 'pt', entry 0: inf is not a finite number");
  b = good();
  b.find("type")->edit<std::uint8_t>()[2] = 9;
  EXPECT_EQ(why(b), "column 'type', entry 2: 9 is above 5");
  b = good();
  b.find("score_a")->edit<float>()[1] = NAN;
  EXPECT_EQ(why(b), "column 'score_a', entry 1: nan is not a finite number");
  b = good();
  b.erase("pt");
  EXPECT_EQ(why(b), "column 'pt' of demo/2 is missing");
  b = good();
  b.erase("type");
  EXPECT_EQ(why(b), "");
  b = good();
  b.set("mass", {"object"}, std::vector<float>{1, 2, 3});
  EXPECT_EQ(why(b), "column 'mass' is not part of demo/2");
  b = good();
  b.set("pt", {"object"}, std::vector<double>{1, 2, 3});
  EXPECT_EQ(why(b), "column 'pt' holds f64, demo/2 says f32");
  b = good();
  b.set("pt", {"event"}, std::vector<float>{1, 2});
  EXPECT_EQ(why(b), "column 'pt' has dims [event], demo/2 says [object]");
}

TEST(Schema, check_says_where) {
  Batch b = good();
  b.find("pt")->edit<float>()[0] = -1;
  try {
    check(parse(kText, "demo.toml"), b, "a.bl");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_STREQ(e.what(), "a.bl: batch 4: column 'pt', entry 0: -1 GeV is below 0");
  }
}

TEST(Schema, mistakes_in_a_schema_file_are_named) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      parse(text, "x.toml");
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message("name = \"a\"\nversion = 1\n[column.x]\ndtype = \"f32\"\ndims = [\"event\"]\nmaximum = 3\n").find("unknown key 'maximum' in column 'x'"),
            std::string::npos);
  EXPECT_NE(message("name = \"a\"\nversion = 1\n[column.x]\ndtype = \"f99\"\ndims = [\"event\"]\n").find("column 'x' has no dtype"), std::string::npos);
  EXPECT_NE(message("name = \"a\"\nversion = 1\n[column.x]\ndtype = \"f32\"\ndims = [\"jet\"]\n").find("dimension 'jet', which is not declared"),
            std::string::npos);
  EXPECT_NE(message("name = ").find("x.toml: line 1"), std::string::npos);
  EXPECT_NE(message("name = \"a\"\n[column.x]\n").find("a schema needs a name and a version"), std::string::npos);
}

TEST(Schema, compatibility_is_decided_by_name_version_and_hash) {
  const Schema s = parse(kText, "demo.toml");
  EXPECT_FALSE(incompatible(s, "demo/2", s.hash));
  EXPECT_NE(incompatible(s, "tokens/1", 0).value().find("holds 'tokens/1', expected 'demo/2'"), std::string::npos);
  EXPECT_NE(incompatible(s, "demo/3", 0).value().find("newer than 'demo/2' of this program: update"), std::string::npos);
  EXPECT_NE(incompatible(s, "demo/1", 0).value().find("older than"), std::string::npos);
  EXPECT_NE(incompatible(s, "demo/2", 1).value().find("another definition"), std::string::npos);
}

TEST(Schema, every_shipped_schema_is_embedded_as_it_stands_in_the_folder) {
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(BEAMLINE_SOURCE_DIR "/schemas")) {
    if (entry.path().extension() != ".toml") continue;
    ++files;
    const std::string text = read_file(entry.path().string());
    const Schema s = parse(text, entry.path().filename().string());
    EXPECT_EQ(entry.path().stem().string(), s.name + "." + std::to_string(s.version));
    const Schema* embedded = find(s.id());
    ASSERT_NE(embedded, nullptr) << s.id();
    EXPECT_EQ(embedded->hash, hash64(text));
  }
  EXPECT_EQ(files, all().size());
  EXPECT_GE(files, 5u);
  EXPECT_THROW(get("nothing/1"), Error);
}

}  // namespace
}  // namespace bl::schema
