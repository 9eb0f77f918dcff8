// bl-generate: events, token by token, from a next-token model.
#include <atomic>
#include <new>
#include <thread>

#include "base/log.hpp"
#include "generate/generate.hpp"
#include "models/codebook.hpp"
#include "schema/schema.hpp"
#include "stage/program.hpp"

namespace {

using namespace bl;

struct Options {
  std::string model, prompts;
  std::vector<std::string> prompt, classes;
  std::uint64_t n = 1000, top_k = 0, max_length = 0, batch = 28, prompt_tokens = 0;
  double temperature = 1, top_p = 1, stop_threshold = 0;
};

models::GeneratorConfig generator_config(const Options& o, const generate::Model& model) {
  models::GeneratorConfig c;
  c.sampling = {o.temperature, static_cast<std::uint32_t>(o.top_k), o.top_p, o.stop_threshold};
  c.max_length = static_cast<std::uint32_t>(o.max_length > 0 ? o.max_length : model.network->config().positions - 1);
  c.batch = static_cast<std::uint32_t>(o.batch);
  if (!model.draws_unknown) c.never.push_back(0);
  c.validate(model.network->config());
  return c;
}

generate::Prompts prompts_of(stage::Context& context, const Options& o, const generate::Model& model, std::size_t longest) {
  if (o.prompts.empty()) return o.prompt.empty() ? generate::Prompts() : generate::prompt_of(o.prompt, model, longest);
  generate::Prompts prompts;
  std::vector<std::string> schemas;  // tokens of any version
  for (const auto* schema : schema::all())
    if (schema->name == "tokens") schemas.push_back(schema->id());
  const auto reader = context.open_reader(o.prompts, schemas);
  models::same_codebook(model.path, models::codebook_of(model.tokenizer), reader->hello().meta, reader->where());
  while (const auto batch = reader->next()) {
    context.stop_if_asked();
    try {
      generate::add_prompts(prompts, *batch, model, o.prompt_tokens, longest);
    } catch (const Error& e) {
      fail(e.code(), "{}: {}", reader->where(), e.what());
    }
    reader->acknowledge(batch->seq);
  }
  reader->close();
  if (prompts.size() == 0) fail(Exit::input, "{} has no event to begin with", reader->where());
  return prompts;
}

void run(stage::Context& context, const Options& o) {
  if (!o.prompt.empty() && !o.prompts.empty()) fail(Exit::usage, "choose one: --prompt with a list of tokens, or --prompts with a file of them");
  if (o.prompt_tokens > 0 && o.prompts.empty()) fail(Exit::usage, "--prompt-tokens belongs to --prompts FILE");
  models::Sampling{o.temperature, 0, o.top_p, o.stop_threshold}.validate();
  const generate::Model model = generate::load(o.model);
  const std::vector<std::int32_t> labels = generate::classes_of(o.classes, model);
  const models::GeneratorConfig config = generator_config(o, model);
  const generate::Prompts prompts = prompts_of(context, o, model, config.max_length);
  const auto writer = context.open_writer("tokens/1", nullptr, generate::metadata(model, config));
  models::Generator generator(*model.network, config, context.rng(), context.pool());

  const auto begin = [&](std::uint64_t i) { return models::Beginning{prompts.of(i), labels.empty() ? 0 : labels[i % labels.size()]}; };
  Progress& progress = context.progress();
  progress.total(progress.events() + o.n);
  const double started = progress.seconds();
  const auto main_thread = std::this_thread::get_id();
  std::atomic<std::uint64_t> tokens = 0;
  const auto rate = [&] { return static_cast<double>(tokens) / std::max(progress.seconds() - started, 1e-3); };
  const auto after_step = [&](std::size_t new_tokens) {
    context.stop_if_asked();
    tokens += new_tokens;
    if (std::this_thread::get_id() != main_thread || !progress.drawing()) return;
    progress.note(fmt::format("{:.0f} tokens/s", rate()));
    progress.add(0, 0);
  };
  // Sequences are made in pieces of some rounds of all threads, so that few slots are idle when a piece ends; batches of the
  // stream do not depend on the threads.
  constexpr std::uint64_t events_of_batch = 2048;
  const std::uint64_t rounds = 16 * context.threads() * o.batch, piece = (rounds + events_of_batch - 1) / events_of_batch * events_of_batch;
  std::uint64_t seq = 0, cut = 0, empty = 0;
  for (std::uint64_t first = 0; first < o.n && writer->wanted(); first += piece) {
    const std::vector<models::Sequence> sequences = generator.generate(first, std::min(piece, o.n - first), begin, after_step);
    for (const models::Sequence& s : sequences) cut += !s.stopped, empty += s.tokens.empty();
    for (std::size_t at = 0; at < sequences.size() && writer->wanted(); at += events_of_batch) {
      Batch batch =
          generate::to_batch(std::span(sequences).subspan(at, std::min<std::size_t>(events_of_batch, sequences.size() - at)), first + at, model, labels);
      batch.seq = seq++;
      writer->write(batch);
    }
  }
  writer->finish();
  progress.metric({{"sequences", o.n}, {"tokens", tokens.load()}, {"tokens_per_second", rate()}, {"cut", cut}, {"empty", empty}});
  log::info("{} sequences, {} new tokens, {:.0f} a second; {} were cut at {} tokens, {} are empty", o.n, tokens.load(), rate(), cut, config.max_length, empty);
}

}  // namespace

int main(int argc, char** argv) {
  stage::Program program("bl-generate", "Generate events, token by token, from a model that bl-train --objective next-token made");
  Options o;
  program.writes({"tokens/1"});
  program.option("--model", o.model, "Model that bl-train --objective next-token wrote").required().input_file();
  program.option("--n", o.n, "Number of events").range(1, 1e12);
  program.option("--temperature", o.temperature, "Divides the logits: below 1 the probable becomes more probable").range(0, 1000);
  program.option("--top-k", o.top_k, "Draw from the most probable so many tokens only; 1: always the most probable; 0: from all").range(0, 1 << 24);
  program.option("--top-p", o.top_p, "Draw from the fewest tokens whose probabilities add up to this").range(0, 1);
  program.option("--stop-threshold", o.stop_threshold, "An end that is less probable than this is not drawn").range(0, 1);
  program.option("--max-length", o.max_length, "Cut an event that has so many tokens; 0: as many as the model reads").range(0, 1 << 20);
  program.option("--class", o.classes, "Classes by name, for a model trained with --classes; of several they take turns");
  program.option("--prompt", o.prompt, "Tokens that every event begins with, e.g. 812,40,7");
  program.option("--prompts", o.prompts, "Events of tokens to complete: event i begins as event i of this file, which is begun anew at its end").input_file();
  program.option("--prompt-tokens", o.prompt_tokens, "Take only the first so many tokens of each event of --prompts; 0: all").range(0, 65535);
  program.option("--batch", o.batch, "Events that a thread works on at once; changes the speed and the memory, not the result").range(1, 65536).no_effect();
  program.example("bl-generate --model gpt.h5 --n 10000 --seed 3 | bl-tokenize --with tok.h5 --decode --out generated.bl", "ten thousand jets");
  program.example("bl-generate --model gpt.h5 --n 10000 --temperature 0.9 --top-p 0.95 --out tokens.bl", "with a cut on rare tokens");
  program.example("bl-generate --model gpt.h5 --n 1000 --class QCD,Tbqq --out tokens.bl", "500 of each class");
  program.example("bl-generate --model gpt.h5 --n 1000 --prompts test_tokens.bl --prompt-tokens 5 --out completed.bl",
                  "the rest of jets of which the five hardest constituents are given");
  program.note("Order",
               "Ids that cannot be drawn are left out (start, and 0 where training never saw it), then come temperature, stop threshold, top-k and top-p. "
               "docs/generate.md defines them.");
  program.note("Random numbers", "Event i is a function of the model, the options and (seed, i): --n, --batch and --threads do not change it.");
  return program.run(argc, argv, [&](stage::Context& context) {
    try {
      run(context, o);
    } catch (const std::bad_alloc&) {
      fail(Exit::failed, "out of memory: lower --batch or --threads");
    }
  });
}
