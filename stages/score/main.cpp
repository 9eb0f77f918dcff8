// bl-score: how probable a masked-token model finds each event.
#include <cstdio>

#include "base/files.hpp"
#include "base/log.hpp"
#include "score/score.hpp"
#include "score/summary.hpp"
#include "stage/program.hpp"

int main(int argc, char** argv) {
  using namespace bl;
  stage::Program program("bl-score", "Score events by the probability that a masked-token model gives their particles");
  std::string model_path, report;
  std::uint64_t k = 3;
  bool slim = false;
  program.reads({"tokens/1", "tokens/2"}).writes({"scores/1"}).parallel();
  program.option("--model", model_path, "Model that bl-train wrote").required().input_file();
  program.option("--k", k, "Number of least probable tokens that the score worst_k averages").range(1, 65535);
  program.option("--slim", slim, "Leave out the columns with one value per token");
  program.option("--report", report, "Summary of the scores beside the trivial ones: JSON if the name ends in .json, else text").output_file();
  program.example("bl-preprocess --in FILE.csv | bl-tokenize --with tok.h5 | bl-score --model model.h5 --out scores.bl", "from a file of events to scores");
  program.example("bl-score --model model.h5 --in tokens.bl --out scores.bl --threads 4 --report scores.json", "with a summary");
  program.note("Scores",
               "Every token of an event is hidden in turn, and the model gives the log-probability of what is hidden. mean_logp, mean_prob, sum_logp, "
               "min_logp and worst_k combine those of all tokens; random_mask is that of one particle drawn by the seed; particles_mean_logp and "
               "counts_mean_logp are means over the particles and the event-level tokens. unigram_mean_logp and unigram_sum_logp use the frequency of "
               "each token in training instead of the model. docs/scores.md defines them all.");
  return program.run(argc, argv, [&](stage::Context& context) {
    if (!report.empty()) refuse_overwrite(report, context.force());
    const score::Model model = score::load(model_path);
    const score::Options options{static_cast<std::uint32_t>(k), !slim};
    const auto reader = context.open_reader();
    score::same_codebook(model, reader->hello(), reader->where());
    const auto writer = context.open_writer("scores/1", reader.get(), score::metadata(model, options));
    writer->on_acknowledged([&](std::uint64_t seq) { reader->acknowledge(seq); });
    writer->relays(*reader);
    if (!model.event_level) log::info("'{}' was trained to predict particles alone: event-level tokens are not scored", model_path);

    models::Scorer scorer(*model.network, context.pool());
    score::Summary summary(score::names(model));
    const bool summarise = !report.empty() || context.progress().drawing();
    std::uint64_t unscored = 0;
    bool more = true;
    while (more && writer->wanted()) {
      context.stop_if_asked();
      const auto tokens = reader->next();
      more = tokens.has_value();
      if (!more) break;
      // The threads share each batch, so that a short stream of few batches is as fast as a long one.
      Batch scores;
      try {
        scores = score::score(*tokens, model, options, context.rng(), scorer, unscored);
      } catch (const Error& e) {
        fail(e.code(), "{}: batch {}: {}", reader->where(), tokens->seq, e.what());
      }
      if (summarise) summary.add(scores);
      writer->write(scores);
    }
    if (more) reader->stop();
    writer->finish();
    if (!more) reader->close();
    if (unscored > 0) log::warn("{} events have no token to score: their log-probabilities are written as 0", unscored);
    if (!report.empty()) write_file(report, report.ends_with(".json") ? summary.json().dump(1) + "\n" : summary.text(), context.force());
    if (context.progress().drawing()) {
      context.progress().finish();
      std::fputs(summary.text().c_str(), stderr);
    }
  });
}
