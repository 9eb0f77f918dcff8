#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "base/pool.hpp"
#include "base/progress.hpp"
#include "base/rng.hpp"

namespace bl {
namespace {

std::string scratch() {
  std::string name = (std::filesystem::temp_directory_path() / "beamline-base-XXXXXX").string();
  if (!::mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
  return name;
}

TEST(Error, carries_its_exit_code) {
  try {
    fail(Exit::input, "line {}: '{}'", 7, "x");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_STREQ(e.what(), "line 7: 'x'");
  }
}

TEST(Error, nearest_word_within_reach_only) {
  const std::vector<std::string> words{"--threads", "--seed", "--mode"};
  EXPECT_EQ(nearest("--thread", words), "--threads");
  EXPECT_EQ(nearest("--mod", words), "--mode");
  EXPECT_EQ(nearest("--completely-else", words), "");
}

// Published test vectors of xxh3-64 (seed 0): the empty input and the reference implementation's value of "a".
TEST(Hash, agrees_with_the_reference) {
  EXPECT_EQ(hash64(""), 0x2d06800538d394c2ull);
  EXPECT_EQ(hash64("a"), 0xe6c632b61e964e1full);
  EXPECT_EQ(hex(0xabc), "0000000000000abc");
}

TEST(Hash, of_a_file_is_that_of_its_bytes) {
  const auto folder = scratch();
  std::string content(3'000'001, 'q');
  write_file(folder + "/x", content, false);
  EXPECT_EQ(hash_file(folder + "/x"), hash64(content));
  EXPECT_THROW(hash_file(folder + "/absent"), Error);
  std::filesystem::remove_all(folder);
}

TEST(Rng, is_a_pure_function_of_its_key_and_counter) {
  const Rng a(5, "bl-mask"), b(5, "bl-mask"), c(5, "bl-train"), d(6, "bl-mask");
  EXPECT_EQ(a.bits(10, 3), b.bits(10, 3));
  EXPECT_NE(a.bits(10, 3), c.bits(10, 3));
  EXPECT_NE(a.bits(10, 3), d.bits(10, 3));
  EXPECT_NE(a.bits(10, 3), a.bits(11, 3));
  EXPECT_NE(a.bits(10, 3), a.bits(10, 4));
}

TEST(Rng, moments_and_uniformity) {
  const Rng rng(1, "test");
  constexpr int n = 200'000;
  double sum = 0, sum2 = 0, g = 0, g2 = 0;
  std::array<int, 10> counts{};
  for (int i = 0; i < n; ++i) {
    const double u = rng.uniform(static_cast<std::uint64_t>(i), 0), x = rng.normal(static_cast<std::uint64_t>(i), 1);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    sum2 += u * u;
    g += x;
    g2 += x * x;
    ++counts[rng.below(10, static_cast<std::uint64_t>(i), 2)];
  }
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(sum2 / n, 1.0 / 3, 0.005);
  EXPECT_NEAR(g / n, 0.0, 5 / std::sqrt(n));
  EXPECT_NEAR(g2 / n, 1.0, 0.02);
  double chi2 = 0;
  for (const int c : counts) chi2 += (c - n / 10.0) * (c - n / 10.0) / (n / 10.0);
  EXPECT_LT(chi2, 33.7);  // 9 degrees of freedom, p = 1e-4
}

TEST(Files, appear_whole_or_not_at_all) {
  const auto folder = scratch();
  const std::string path = folder + "/out";
  {
    AtomicFile file(path, false);
    file.write("half", 4);
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_TRUE(std::filesystem::exists(path + ".part"));
  }
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
  EXPECT_FALSE(std::filesystem::exists(path));
  {
    AtomicFile file(path, false);
    file.write("whole", 5);
    file.commit();
  }
  EXPECT_EQ(read_file(path), "whole");
  try {
    AtomicFile again(path, false);
    FAIL() << "an existing file was about to be replaced";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::write);
    EXPECT_NE(std::string(e.what()).find("--force"), std::string::npos);
  }
  write_file(path, "new", true);
  EXPECT_EQ(read_file(path), "new");
  std::filesystem::remove_all(folder);
}

TEST(Files, full_disk_is_an_error_of_writing) {
  AtomicFile full("/dev/full", true);
  try {
    full.write("x", 1);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::write);
  }
}

TEST(Pool, runs_every_task_once_on_its_own_worker) {
  for (const std::size_t threads : {1u, 2u, 3u, 8u}) {
    Pool pool(threads);
    for (const std::size_t tasks : {0u, 1u, 7u, 100u}) {
      std::vector<std::atomic<int>> hits(tasks);
      pool.run(tasks, [&](std::size_t i, std::size_t worker) {
        EXPECT_EQ(worker, i % threads);
        ++hits[i];
      });
      for (auto& h : hits) EXPECT_EQ(h, 1);
    }
  }
}

TEST(Pool, rethrows_the_first_failure_and_goes_on_working) {
  Pool pool(3);
  for (int round = 0; round < 20; ++round) {
    try {
      pool.run(30, [](std::size_t i, std::size_t) {
        if (i >= 4) throw std::runtime_error(std::to_string(i));
      });
      FAIL();
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "4");
    }
  }
  std::atomic<int> n = 0;
  pool.run(10, [&](std::size_t, std::size_t) { ++n; });
  EXPECT_EQ(n, 10);
}

TEST(Progress, metrics_are_json_lines) {
  const auto folder = scratch();
  {
    Progress progress("test", folder + "/m.jsonl", true);
    progress.add(100, 1000);
    progress.finish();
  }
  const std::string text = read_file(folder + "/m.jsonl");
  EXPECT_NE(text.find("\"events\":100"), std::string::npos) << text;
  EXPECT_NE(text.find("\"done\":true"), std::string::npos);
  EXPECT_EQ(text.back(), '\n');
  EXPECT_THROW(Progress("test", folder + "/absent/m.jsonl", true), Error);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace bl
