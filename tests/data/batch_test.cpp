#include "data/batch.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/rng.hpp"

namespace bl {
namespace {

// n events: ragged objects, a fixed inner dimension, text, event-level values.
Batch sample(std::uint32_t n, std::uint64_t seed) {
  const Rng rng(seed, "sample");
  Batch b;
  b.events = n;
  std::vector<std::uint64_t> id(n);
  std::vector<std::uint32_t> offsets{0};
  std::vector<float> pt, cov;
  std::vector<std::string> names;
  for (std::uint32_t e = 0; e < n; ++e) {
    id[e] = 100 + e;
    const auto objects = rng.below(5, e, 0);
    for (std::uint64_t o = 0; o < objects; ++o) {
      pt.push_back(static_cast<float>(rng.uniform(e, 1 + o)));
      for (int k = 0; k < 3; ++k) cov.push_back(static_cast<float>(k));
    }
    offsets.push_back(static_cast<std::uint32_t>(pt.size()));
    names.push_back(e % 3 == 0 ? "" : "ttbar" + std::to_string(e));
  }
  b.set("event_id", {"event"}, id);
  b.set("object_offsets", {"event+1"}, offsets);
  b.set("pt", {"object"}, pt);
  b.set("cov", {"object", "3"}, cov);
  b.set_text("process", names);
  return b;
}

TEST(Buffer, copies_only_when_written) {
  Buffer a("0123456789", 10);
  Buffer b = a;
  EXPECT_EQ(a.data(), b.data());
  b.edit()[0] = std::byte{'x'};
  EXPECT_NE(a.data(), b.data());
  EXPECT_EQ(a.data()[0], std::byte{'0'});
  Buffer v = a.slice(3, 4);
  EXPECT_EQ(v.data(), a.data() + 3);
  v.edit()[0] = std::byte{'y'};
  EXPECT_EQ(a.data()[3], std::byte{'3'});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.data()) % Buffer::kAlign, 0u);
}

TEST(Batch, wrong_type_and_missing_column_are_named) {
  const Batch b = sample(3, 1);
  try {
    b.get<double>("pt");
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "column 'pt' holds f32, expected f64");
  }
  try {
    b.at("eta");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("'eta' is missing"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("pt"), std::string::npos);
  }
}

TEST(Batch, text_per_event) {
  const Batch b = sample(7, 1);
  EXPECT_EQ(b.text("process", 0), "");
  EXPECT_EQ(b.text("process", 5), "ttbar5");
}

TEST(Batch, select_takes_ragged_entries_along) {
  const Batch b = sample(20, 2);
  const std::vector<std::uint32_t> keep{7, 3, 3, 19, 0};
  const Batch s = select(b, keep);
  check_structure(s);
  ASSERT_EQ(s.events, 5u);
  const auto from = b.get<std::uint32_t>("object_offsets"), to = s.get<std::uint32_t>("object_offsets");
  for (std::size_t i = 0; i < keep.size(); ++i) {
    const std::uint32_t e = keep[i];
    EXPECT_EQ(s.get<std::uint64_t>("event_id")[i], 100 + e);
    EXPECT_EQ(s.text("process", i), b.text("process", e));
    ASSERT_EQ(to[i + 1] - to[i], from[e + 1] - from[e]);
    for (std::uint32_t o = 0; o < to[i + 1] - to[i]; ++o) {
      EXPECT_EQ(s.get<float>("pt")[to[i] + o], b.get<float>("pt")[from[e] + o]);
      EXPECT_EQ(s.get<float>("cov")[(to[i] + o) * 3 + 2], 2.0f);
    }
  }
  const Batch none = slice(b, 4, 0);
  check_structure(none);
  EXPECT_EQ(none.events, 0u);
}

TEST(Batch, slices_join_to_the_whole) {
  const Batch b = sample(50, 3);
  const std::vector<Batch> parts{slice(b, 0, 13), slice(b, 13, 0), slice(b, 13, 30), slice(b, 43, 7)};
  const Batch joined = concat(parts);
  ASSERT_EQ(joined.columns.size(), b.columns.size());
  for (const auto& c : b.columns) {
    const Column& j = joined.at(c.name);
    ASSERT_EQ(j.raw.size(), c.raw.size()) << c.name;
    EXPECT_TRUE(std::equal(j.raw.data(), j.raw.data() + j.raw.size(), c.raw.data())) << c.name;
  }
  Batch other = sample(5, 1);
  other.erase("cov");
  EXPECT_THROW(concat(std::vector<Batch>{b, other}), Error);
}

TEST(Batch, structure_errors_name_column_entry_and_value) {
  const auto message = [](Batch b) -> std::string {
    try {
      check_structure(b);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input);
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(message(sample(5, 1)), "");
  Batch b = sample(5, 1);
  b.find("object_offsets")->edit<std::uint32_t>()[2] = 4'000'000'000u;
  EXPECT_NE(message(b).find("column 'object_offsets', entry 3"), std::string::npos) << message(b);
  b = sample(5, 1);
  b.find("object_offsets")->edit<std::uint32_t>()[0] = 1;
  EXPECT_NE(message(b).find("entry 0: 1 is not 0"), std::string::npos);
  b = sample(5, 1);
  b.find("object_offsets")->edit<std::uint32_t>()[5] += 1;
  EXPECT_NE(message(b).find("column 'pt' has"), std::string::npos);
  b = sample(5, 1);
  b.events = 6;
  EXPECT_NE(message(b).find("one more than the 6 events"), std::string::npos);
  b = sample(5, 1);
  b.set("x", {"track"}, std::vector<float>{1});
  EXPECT_NE(message(b).find("dimension 'track' has no column 'track_offsets'"), std::string::npos);
}

TEST(Digest, does_not_see_batching_or_order) {
  const Batch b = sample(100, 4);
  Digest whole, parts, shuffled;
  whole.add(b);
  for (std::uint32_t first = 0; first < 100; first += 9) parts.add(slice(b, first, std::min(9u, 100 - first)));
  std::vector<std::uint32_t> order(100);
  std::iota(order.rbegin(), order.rend(), 0u);
  Batch reversed = select(b, order);
  std::reverse(reversed.columns.begin(), reversed.columns.end());
  shuffled.add(reversed);
  EXPECT_EQ(whole.text(), parts.text());
  EXPECT_EQ(whole.text(), shuffled.text());
  EXPECT_EQ(whole.events, 100u);
}

TEST(Digest, sees_every_value) {
  const Batch b = sample(30, 5);
  Digest original;
  original.add(b);
  for (const auto& c : b.columns) {
    if (c.name.ends_with("_offsets")) continue;
    Batch changed = b;
    changed.find(c.name)->raw.edit()[c.raw.size() / 2] ^= std::byte{1};
    Digest d;
    d.add(changed);
    EXPECT_NE(d.text(), original.text()) << c.name;
  }
  // an entry that moves to the next event is seen although no value changes
  Batch moved = b;
  auto offsets = moved.find("object_offsets")->edit<std::uint32_t>();
  for (std::size_t e = 1; e < 30; ++e)
    if (offsets[e] < offsets[e + 1]) {
      ++offsets[e];
      break;
    }
  check_structure(moved);
  Digest d;
  d.add(moved);
  EXPECT_NE(d.text(), original.text());
}

}  // namespace
}  // namespace bl
