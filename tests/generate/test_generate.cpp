// What bl-generate reads from a model file, and the events that it writes.
#include <gtest/gtest.h>

#include <numeric>

#include "base/error.hpp"
#include "generate/generate.hpp"
#include "models/trainer.hpp"

namespace bl::generate {
namespace {

// Ids: 0 unknown, 1 … 20 particles, 21 … 25 event-level, 26 start, 27 stop, 28 mask.
nlohmann::json tokenizer() {
  return {{"hash", "aa00"}, {"vocabulary", 29}, {"particle_tokens", 20}, {"start", 26},
          {"stop", 27},     {"mask", 28},       {"positions", 9},        {"extras", {{{"name", "n_jets"}, {"first", 21}, {"count", 5}, {"position", 8}}}}};
}

models::State trained(std::uint32_t classes = 0) {
  models::GptConfig model;
  model.vocabulary = 28;
  model.positions = 10;
  model.dim = 8;
  model.heads = 2;
  model.layers = 1;
  model.classes = classes;
  models::Examples data;
  for (std::int32_t e = 0; e < 20; ++e) {
    for (std::int32_t i = 0; i < 1 + e % 5; ++i) data.tokens.push_back(1 + (e + 3 * i) % 20);
    data.tokens.push_back(21 + e % 5);
    data.offsets.push_back(data.tokens.size());
    if (classes > 0) data.labels.push_back(e % static_cast<std::int32_t>(classes));
  }
  Pool pool(1);
  models::Trainer trainer(model, {}, pool);
  std::vector<std::uint32_t> all(data.events());
  std::iota(all.begin(), all.end(), 0u);
  trainer.step(data, all);
  models::State state = trainer.state();
  std::vector<std::int64_t> category(26, 0);
  category[2] = 1, category[9] = 2, category[15] = 5;  // the others did not occur
  state.put("tokens/category", category);
  return state;
}

void refused(const std::function<void()>& call, Exit code, std::initializer_list<const char*> says) {
  try {
    call();
    ADD_FAILURE() << *says.begin() << ": accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    for (const char* word : says) EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what() << " does not say " << word;
  }
}

TEST(GenerateModel, needs_a_codebook_a_start_token_and_its_classes) {
  const models::State state = trained();
  const Model model = from_state(state, tokenizer(), {}, "gpt.h5");
  EXPECT_EQ(model.hash, models::model_hash(state, "aa00"));
  EXPECT_FALSE(model.draws_unknown) << "no target of the training was 0";
  auto other = tokenizer();
  other.erase("start");
  refused([&] { from_state(state, other, {}, "gpt.h5"); }, Exit::input, {"'gpt.h5' has no start token", "start -1 and stop 27"});
  other = tokenizer();
  other["start"] = 25;
  refused([&] { from_state(state, other, {}, "gpt.h5"); }, Exit::input, {"has no start token", "names start 25", "has 26 and 27"});
  other.erase("hash");
  refused([&] { from_state(state, other, {}, "gpt.h5"); }, Exit::input, {"'gpt.h5' does not say which codebook"});
  refused([&] { from_state(state, nullptr, {}, "gpt.h5"); }, Exit::input, {"which codebook"});
  refused([&] { from_state(state, tokenizer(), {"QCD"}, "gpt.h5"); }, Exit::input, {"names 1 classes and its network knows 0"});
  models::State damaged = state;
  std::erase_if(damaged.arrays, [](const models::NamedArray& a) { return a.name == "weights/gpt/token"; });
  refused([&] { from_state(damaged, tokenizer(), {}, "gpt.h5"); }, Exit::input, {"'gpt.h5'", "weights/gpt/token"});
}

TEST(GenerateModel, classes_by_name) {
  const Model none = from_state(trained(), tokenizer(), {}, "gpt.h5"), two = from_state(trained(2), tokenizer(), {"QCD", "Tbqq"}, "two.h5");
  EXPECT_TRUE(classes_of({}, none).empty());
  EXPECT_EQ(classes_of({"Tbqq", "QCD"}, two), (std::vector<std::int32_t>{1, 0}));
  refused([&] { classes_of({}, two); }, Exit::usage, {"'two.h5' makes events of a class", "QCD, Tbqq"});
  refused([&] { classes_of({"QCD"}, none); }, Exit::usage, {"'gpt.h5' was trained without --classes"});
  refused([&] { classes_of({"Hbb"}, two); }, Exit::usage, {"does not know 'Hbb', only QCD, Tbqq"});
}

TEST(GenerateBatch, is_what_the_tokenizer_would_have_written) {
  const Model model = from_state(trained(2), tokenizer(), {"QCD", "Tbqq"}, "gpt.h5");
  const std::vector<models::Sequence> sequences{{{3, 9, 20, 22}, true, {}}, {{}, true, {}}, {{25, 15}, false, {}}};
  const std::vector<std::int32_t> labels{0, 1};
  const Batch b = to_batch(sequences, 7, model, labels);
  check_structure(b);
  const auto values = [&]<class T>(const char* name, T) {
    const auto v = b.get<T>(name);
    return std::vector<int>(v.begin(), v.end());
  };
  EXPECT_EQ(values("event_index", std::uint64_t{}), (std::vector<int>{7, 8, 9}));
  EXPECT_EQ(values("label", std::int32_t{}), (std::vector<int>{1, 0, 1}));
  EXPECT_EQ(b.text("process", 0), "Tbqq");
  EXPECT_EQ(b.text("process", 1), "QCD");
  EXPECT_EQ(values("token_offsets", std::uint32_t{}), (std::vector<int>{0, 4, 4, 6}));
  EXPECT_EQ(values("token", std::int32_t{}), (std::vector<int>{3, 9, 20, 22, 25, 15}));
  EXPECT_EQ(values("position", std::uint16_t{}), (std::vector<int>{0, 1, 2, 8, 8, 0})) << "event-level tokens stand where the tokenizer puts them";
  EXPECT_EQ(values("category", std::uint8_t{}), (std::vector<int>{1, 2, 5, 0, 0, 5})) << "that of the nearest id in training, 0 for event-level tokens";
  EXPECT_EQ(values("n_objects", float{}), (std::vector<int>{3, 0, 1}));
  const Batch plain = to_batch(sequences, 0, from_state(trained(), tokenizer(), {}, "gpt.h5"), {});
  EXPECT_FALSE(plain.has("label"));
  EXPECT_EQ(plain.text("process", 2), "generated");
}

TEST(GeneratePrompts, are_lists_or_events) {
  const Model model = from_state(trained(), tokenizer(), {}, "gpt.h5");
  const Prompts list = prompt_of({"4", "25", "0"}, model, 3);
  EXPECT_EQ(std::vector<std::int32_t>(list.of(5).begin(), list.of(5).end()), (std::vector<std::int32_t>{4, 25, 0}));
  EXPECT_TRUE(Prompts().of(3).empty());
  refused([&] { prompt_of({"4", "x"}, model, 9); }, Exit::usage, {"'x' is not the id of a token"});
  refused([&] { prompt_of({"26"}, model, 9); }, Exit::usage, {"token 26 is out of the vocabulary of 0 to 25"});
  refused([&] { prompt_of({"-1"}, model, 9); }, Exit::usage, {"token -1"});
  refused([&] { prompt_of({"1", "2", "3"}, model, 2); }, Exit::usage, {"--prompt has 3 tokens, a sequence has at most 2"});

  const std::vector<models::Sequence> sequences{{{3, 9, 20}, true, {}}, {{7}, true, {}}};
  Batch events = to_batch(sequences, 40, model, {});
  Prompts prompts;
  add_prompts(prompts, events, model, 2, 2);
  add_prompts(prompts, events, model, 0, 3);
  ASSERT_EQ(prompts.size(), 4u);
  EXPECT_EQ(prompts.of(0).size(), 2u);
  EXPECT_EQ(prompts.of(6).size(), 3u);
  EXPECT_EQ(prompts.of(7)[0], 7);
  refused([&] { add_prompts(prompts, events, model, 0, 2); }, Exit::input, {"event 40 has 3 tokens, a prompt has at most 2", "--prompt-tokens"});
  events.set("token", {"token"}, std::vector<std::int32_t>{3, 27, 20, 7});
  refused([&] { add_prompts(prompts, events, model, 0, 3); }, Exit::input, {"event 40: token 27 is out of the vocabulary of 0 to 25"});
}

}  // namespace
}  // namespace bl::generate
