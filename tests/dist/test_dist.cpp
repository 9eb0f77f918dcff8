// Ranks in one process (threads.hpp): what they exchange, and that training has the same bits for any number of them.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "../models/events.hpp"
#include "base/error.hpp"
#include "base/hash.hpp"
#include "dist/tree.hpp"
#include "lanes.hpp"
#include "models/trainer.hpp"
#include "threads.hpp"

namespace bl::dist {
namespace {

using testing::run_ranks;
using testing::ThreadRank;

TEST(Share, is_whole_ordered_and_even) {
  for (std::size_t total : {0u, 1u, 7u, 8u, 100u})
    for (std::size_t parts = 1; parts < 12; ++parts) {
      std::size_t next = 0, least = total, most = 0;
      for (std::size_t p = 0; p < parts; ++p) {
        const Share s = share(total, parts, p);
        EXPECT_EQ(s.first, next);
        next = s.last;
        least = std::min(least, s.size());
        most = std::max(most, s.size());
      }
      EXPECT_EQ(next, total);
      EXPECT_LE(most - least, 1u);
    }
}

TEST(Communicator, broadcast_and_gather) {
  for (std::size_t n : {1u, 2u, 3u, 5u, 8u})
    run_ranks(n, [n](ThreadRank& rank) {
      const std::string text = rank.broadcast(rank.rank() == 0 ? std::string("said by rank 0") : std::string("not heard"));
      EXPECT_EQ(text, "said by rank 0");
      EXPECT_EQ(rank.broadcast(rank.rank() == 0 ? std::string() : std::string("x")), "");
      const auto squares = rank.gather(rank.rank() * rank.rank());
      for (std::size_t r = 0; r < n; ++r) EXPECT_EQ(squares[r], r * r);
      // rank r has r bytes of value r
      std::vector<std::size_t> bytes(n);
      std::iota(bytes.begin(), bytes.end(), std::size_t{0});
      std::string mine(n * (n - 1) / 2, '?'), all;
      for (std::size_t r = 0; r < n; ++r) all.append(r, static_cast<char>('a' + r));
      mine.replace(rank.rank() * (rank.rank() - (rank.rank() > 0 ? 1 : 0)) / 2, rank.rank(), rank.rank(), static_cast<char>('a' + rank.rank()));
      rank.gather(mine.data(), bytes);
      EXPECT_EQ(mine, all);
      rank.barrier();
    });
}

TEST(Communicator, ranks_that_differ_are_named_in_all) {
  std::vector<std::string> said(3);
  run_ranks(3, [&](ThreadRank& rank) {
    rank.must_agree("the colour", "red");
    try {
      rank.must_agree("the colour", rank.rank() == 2 ? "green" : "red");
    } catch (const Error& e) {
      said[rank.rank()] = e.what();
    }
  });
  for (const std::string& s : said) EXPECT_NE(s.find("the colour of rank 2 (green) is not that of rank 0 (red)"), std::string::npos) << s;
}

TEST(TreeSum, has_the_bits_of_one_process) {
  bool order_matters = false;
  for (const std::size_t lanes : {1u, 2u, 3u, 5u, 7u, 8u, 13u, 16u})
    for (const std::size_t size : {1u, 17u, 1000u, 40'000u}) {
      const std::vector<float> expected = testing::sum_of_one_process(lanes, size);
      std::vector<float> in_order(size);
      for (std::size_t l = 0; l < lanes; ++l) {
        const auto block = testing::lane(l, size);
        for (std::size_t i = 0; i < size; ++i) in_order[i] += block[i];
      }
      order_matters = order_matters || in_order != expected;
      for (const std::size_t n : {1u, 2u, 3u, 4u, 6u, 8u}) {
        if (n == 6 && size == 40'000) continue;
        run_ranks(n, [&](ThreadRank& rank) {
          Pool pool(rank.rank() % 2 + 1);
          TreeSum tree;
          std::vector<float> sum(size);
          for (int repeat = 0; repeat < 2; ++repeat) {  // buffers are used again
            const Share mine = share(lanes, n, rank.rank());
            std::vector<std::vector<float>> blocks;
            std::vector<float*> own;
            for (std::size_t l = mine.first; l < mine.last; ++l) blocks.push_back(testing::lane(l, size));
            for (auto& b : blocks) own.push_back(b.data());
            float* const to = repeat == 0 || own.empty() ? sum.data() : own[0];
            tree.run(rank, pool, lanes, own, size, to);
            EXPECT_EQ(std::memcmp(to, expected.data(), size * sizeof(float)), 0) << lanes << " lanes, " << n << " ranks, size " << size;
          }
        });
      }
    }
  EXPECT_TRUE(order_matters) << "these numbers would have the same sum in any order: the test shows nothing";
}

TEST(TreeSum, sends_no_more_than_it_must) {
  constexpr std::size_t size = 1 << 16;
  run_ranks(4, [](ThreadRank& rank) {
    Pool pool(1);
    auto a = testing::lane(2 * rank.rank(), size), b = testing::lane(2 * rank.rank() + 1, size);
    const std::vector<float*> own{a.data(), b.data()};
    TreeSum().run(rank, pool, 8, own, size, a.data());
    EXPECT_EQ(rank.sent, 2 * 3 * size / 4 * sizeof(float));
  });
}

using models::EncoderConfig;
using models::Examples;
using models::Trainer;
using models::TrainerConfig;

TrainerConfig training() {
  TrainerConfig c;
  c.epochs = 2;
  c.batch = 40;
  c.shard = 8;  // five shards: of eight ranks three have no work, and get the sum all the same
  c.warmup = 5;
  c.rate = 3e-3;
  c.ema = 0.9;
  c.validation = 0.2;
  c.patience = 1;
  c.seed = 11;
  return c;
}

std::uint64_t digest(const models::State& state) {
  std::uint64_t h = 0;
  for (const models::NamedArray& a : state.arrays)
    h = std::visit([&](const auto& v) { return hash64(v.data(), v.size() * sizeof v[0], h ^ hash64(a.name)); }, a.values);
  for (const auto& [key, value] : state.texts) h = hash64(key + "=" + value, h);
  return h;
}

std::uint64_t train(Communicator& ranks, const Examples& data, std::size_t threads, std::size_t stop_after, std::size_t* losses = nullptr) {
  Pool pool(threads);
  EncoderConfig model = models::testing::small_config();
  model.dropout = 0.1;
  Trainer trainer(model, training(), pool, ranks);
  trainer.attach(data);
  std::uint64_t seen = 0;
  while (trainer.steps() < stop_after) {
    const auto a = trainer.advance();
    if (!a) break;
    seen = hash64(&a->step.loss, sizeof(double), seen);
    seen = hash64(&a->step.gradient_norm, sizeof(double), seen);
    if (a->epoch) seen = hash64(&a->epoch->validation_loss, sizeof(double), seen);
  }
  trainer.check_ranks();
  if (losses != nullptr) *losses = seen;
  return digest(trainer.state());
}

TEST(Training, one_digest_for_any_number_of_ranks) {
  const Examples data = models::testing::make_events(300, 2);
  std::size_t expected_losses = 0;
  const std::uint64_t expected = train(alone(), data, 1, 1000, &expected_losses);
  for (const std::size_t n : {2u, 3u, 4u, 8u})
    run_ranks(n, [&](ThreadRank& rank) {
      std::size_t losses = 0;
      EXPECT_EQ(train(rank, data, rank.rank() % 2 + 1, 1000, &losses), expected) << "rank " << rank.rank() << " of " << n;
      EXPECT_EQ(losses, expected_losses) << "rank " << rank.rank() << " of " << n;
    });
}

TEST(Training, next_tokens_have_one_digest_for_any_number_of_ranks) {
  Examples data = models::testing::make_events(200, 2);
  for (std::size_t e = 0; e < data.events(); ++e) data.labels.push_back(static_cast<std::int32_t>(e % 3));
  const auto digest_of = [&](Communicator& ranks) {
    models::GptConfig model;
    model.vocabulary = 40;
    model.positions = 15;
    model.classes = 3;
    model.dim = 16;
    model.heads = 2;
    model.layers = 1;
    model.dropout = 0.1;
    Pool pool(1);
    Trainer trainer(model, training(), pool, ranks);
    trainer.attach(data);
    while (trainer.advance()) {
    }
    trainer.check_ranks();
    return digest(trainer.state());
  };
  const std::uint64_t expected = digest_of(alone());
  for (const std::size_t n : {2u, 5u}) run_ranks(n, [&](ThreadRank& rank) { EXPECT_EQ(digest_of(rank), expected) << "rank " << rank.rank() << " of " << n; });
}

TEST(Training, resumes_with_another_number_of_ranks) {
  const Examples data = models::testing::make_events(300, 2);
  const std::uint64_t expected = train(alone(), data, 1, 1000);
  models::State state;
  run_ranks(3, [&](ThreadRank& rank) {
    Pool pool(1);
    EncoderConfig model = models::testing::small_config();
    model.dropout = 0.1;
    Trainer trainer(model, training(), pool, rank);
    trainer.attach(data);
    for (int i = 0; i < 8; ++i) trainer.advance();
    if (rank.rank() == 0) state = trainer.state();
  });
  run_ranks(2, [&](ThreadRank& rank) {
    Pool pool(1);
    Trainer trainer(state, pool, rank);
    trainer.attach(data);
    while (trainer.advance()) {
    }
    EXPECT_EQ(digest(trainer.state()), expected);
  });
}

TEST(Training, refuses_more_ranks_than_lanes_and_ranks_that_differ) {
  try {
    run_ranks(9, [](ThreadRank& rank) {
      Pool pool(1);
      const Trainer trainer(models::testing::small_config(), training(), pool, rank);
    });
    FAIL() << "nine ranks shared eight lanes";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    EXPECT_NE(std::string(e.what()).find("at most 8 ranks"), std::string::npos) << e.what();
  }
  try {
    run_ranks(2, [](ThreadRank& rank) {
      Pool pool(1);
      TrainerConfig config = training();
      config.seed += rank.rank();
      const Trainer trainer(models::testing::small_config(), config, pool, rank);
    });
    FAIL() << "two trainings went together";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::failed);
    EXPECT_NE(std::string(e.what()).find("rank 1"), std::string::npos) << e.what();
  }
}

TEST(Training, weights_that_drifted_apart_are_noticed) {
  const Examples data = models::testing::make_events(100, 2);
  EXPECT_THROW(run_ranks(2,
                         [&](ThreadRank& rank) {
                           Pool pool(1);
                           Trainer trainer(models::testing::small_config(), training(), pool, rank);
                           trainer.attach(data);
                           trainer.advance();
                           trainer.check_ranks();
                           if (rank.rank() == 1) trainer.model().params().values()[0] += 1e-7f;
                           trainer.check_ranks();
                         }),
               Error);
}

}  // namespace
}  // namespace bl::dist
