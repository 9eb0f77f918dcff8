// bl-score: how probable a masked-token model finds each event, or which class a tagger gives it.
#include <cstdio>
#include <functional>

#include "base/files.hpp"
#include "base/log.hpp"
#include "models/codebook.hpp"
#include "score/score.hpp"
#include "score/summary.hpp"
#include "score/tagger.hpp"
#include "stage/program.hpp"

namespace {

using namespace bl;

struct Settings {
  std::string model, report;
  std::uint64_t k = 3;
  bool slim = false;
};

// Reads --in, writes what `kernel` makes of each batch, and the summary of the scores `names`.
void run(stage::Context& context, const Settings& s, stage::Reader& reader, const nlohmann::json& meta, std::vector<std::string> names,
         const std::function<Batch(const Batch&)>& kernel) {
  const auto writer = context.open_writer("scores/1", &reader, meta);
  writer->on_acknowledged([&](std::uint64_t seq) { reader.acknowledge(seq); });
  writer->relays(reader);
  score::Summary summary(std::move(names));
  const bool summarise = !s.report.empty() || context.progress().drawing();
  bool more = true;
  while (more && writer->wanted()) {
    context.stop_if_asked();
    const auto tokens = reader.next();
    more = tokens.has_value();
    if (!more) break;
    // The threads share each batch, so that a short stream of few batches is as fast as a long one.
    Batch scores;
    try {
      scores = kernel(*tokens);
    } catch (const Error& e) {
      fail(e.code(), "{}: batch {}: {}", reader.where(), tokens->seq, e.what());
    }
    if (summarise) summary.add(scores);
    writer->write(scores);
  }
  if (more) reader.stop();
  writer->finish();
  if (!more) reader.close();
  if (!s.report.empty()) write_file(s.report, s.report.ends_with(".json") ? summary.json().dump(1) + "\n" : summary.text(), context.force());
  if (context.progress().drawing()) {
    context.progress().finish();
    std::fputs(summary.text().c_str(), stderr);
  }
}

void score_tokens(stage::Context& context, const Settings& s) {
  const score::Model model = score::load(s.model);
  const score::Options options{static_cast<std::uint32_t>(s.k), !s.slim};
  const auto reader = context.open_reader();
  score::same_codebook(model, reader->hello(), reader->where());
  if (!model.event_level) log::info("'{}' was trained to predict particles alone: event-level tokens are not scored", s.model);
  models::Scorer scorer(*model.network, context.pool());
  std::uint64_t unscored = 0;
  run(context, s, *reader, score::metadata(model, options), score::names(model),
      [&](const Batch& tokens) { return score::score(tokens, model, options, context.rng(), scorer, unscored); });
  if (unscored > 0) log::warn("{} events have no token to score: their log-probabilities are written as 0", unscored);
}

void tag(stage::Context& context, const Settings& s) {
  if (s.k != Settings().k || s.slim) fail(Exit::usage, "--k and --slim belong to the scores of a masked-token model, and '{}' is a tagger", s.model);
  const score::Tagger tagger = score::load_tagger(s.model);
  const auto reader = context.open_reader();
  models::same_codebook(tagger.path, models::codebook_of(tagger.tokenizer), reader->hello().meta, reader->where());
  models::ClassifierScorer scorer(*tagger.network, context.pool());
  run(context, s, *reader, score::metadata(tagger), models::names_of(tagger.classes),
      [&](const Batch& tokens) { return score::tag(tokens, tagger, scorer, context.pool()); });
}

}  // namespace

int main(int argc, char** argv) {
  stage::Program program("bl-score", "Score events: by how probable a masked-token model finds them, or by the classes of a tagger");
  Settings s;
  program.reads({"tokens/1", "tokens/2"}).writes({"scores/1"}).parallel();
  program.option("--model", s.model, "Model that bl-train wrote, or tagger that bl-finetune wrote").required().input_file();
  program.option("--k", s.k, "Number of least probable tokens that the score worst_k averages").range(1, 65535);
  program.option("--slim", s.slim, "Leave out the columns with one value per token");
  program.option("--report", s.report, "Summary of the scores beside the trivial ones: JSON if the name ends in .json, else text").output_file();
  program.example("bl-preprocess --in FILE.csv | bl-tokenize --with tok.h5 | bl-score --model model.h5 --out scores.bl", "from a file of events to scores");
  program.example("bl-score --model model.h5 --in tokens.bl --out scores.bl --threads 4 --report scores.json", "with a summary");
  program.example("bl-score --model tagger.h5 --in test.bl --out scores.bl", "the probability of each class of a tagger");
  program.note("Scores",
               "Every token of an event is hidden in turn, and the model gives the log-probability of what is hidden. mean_logp, mean_prob, sum_logp, "
               "min_logp and worst_k combine those of all tokens; random_mask is that of one particle drawn by the seed; particles_mean_logp and "
               "counts_mean_logp are means over the particles and the event-level tokens. unigram_mean_logp and unigram_sum_logp use the frequency of "
               "each token in training instead of the model. docs/scores.md defines them all.");
  program.note(
      "Taggers",
      "logit_<class> and score_<class>, its softmax, for each class; label is the number of the class that an event's process belongs to, -1 for none. A tagger made with "
      "--jet-variables needs the constituents' pt, eta and phi beside the tokens, as bl-tokenize writes them.");
  return program.run(argc, argv, [&](stage::Context& context) {
    if (!s.report.empty()) refuse_overwrite(s.report, context.force());
    if (score::is_tagger(s.model)) tag(context, s);
    else score_tokens(context, s);
  });
}
