// bl-train: learns to predict hidden tokens, or the next ones.
#include <sched.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <new>
#include <numeric>
#include <system_error>

#include "base/files.hpp"
#include "base/log.hpp"
#include "base/signals.hpp"
#include "dist/launch.hpp"
#include "models/classifier.hpp"
#include "stage/program.hpp"
#include "tokens/code_vectors.hpp"
#include "train/input.hpp"
#include "train/train.hpp"

namespace {

using namespace bl;

struct Settings {
  std::string objective = "masked-token", save, resume, checkpoint, masks = "redraw", precision = "f32", embedding = "random", tokenizer, optimizer = "adamw",
              schedule = "cosine";
  std::vector<std::string> groups, classes;
  int positions = 0, epochs = 0, dim = 64, layers = 3, heads = 4, feed_forward = 4, batch = 256, accumulate = 1, shard = 32, lanes = 8;
  std::int64_t max_steps = 0, warmup = -1, patience = 0, checkpoint_every = 0;
  double dropout = 0.05, rate = 1e-3, beta1 = 0.9, beta2 = 0.0, momentum = 0.9, clip = 1.0, decay = 0.01, ema = 0.0, validation = 0.1;
  bool types = false, extras = false, collect = false, nesterov = false, find_rate = false, weights_only = false;
};

models::TrainerConfig trainer_config(const Settings& s, std::uint64_t seed, bool one_pass) {
  models::TrainerConfig c;
  c.seed = seed;
  c.epochs = one_pass ? 0 : static_cast<std::uint64_t>(s.epochs > 0 ? s.epochs : 10);
  c.max_steps = static_cast<std::uint64_t>(s.max_steps);
  c.batch = static_cast<std::uint32_t>(s.batch);
  c.shard = static_cast<std::uint32_t>(s.shard);
  c.lanes = static_cast<std::uint32_t>(s.lanes);
  c.accumulate = static_cast<std::uint32_t>(s.accumulate);
  c.optimizer = nn::optimizer_named(s.optimizer);
  c.beta1 = s.beta1;
  c.beta2 = s.beta2;
  c.momentum = s.momentum;
  c.nesterov = s.nesterov;
  c.rate = s.rate;
  c.schedule = nn::schedule_named(s.schedule);
  const bool own_rise = c.schedule == nn::Schedule::Kind::one_cycle;  // its warm-up is a share of all steps
  c.warmup = s.warmup >= 0 ? static_cast<std::uint64_t>(s.warmup) : own_rise ? 0 : 100;
  c.groups = nn::parse_groups(s.groups);
  c.clip = s.clip;
  c.decay = s.decay;
  c.ema = s.ema;
  c.validation = s.validation;
  c.patience = static_cast<std::uint64_t>(s.patience);
  c.precision = nn::precision_named(s.precision);
  c.validate();
  return c;
}

models::EncoderConfig encoder_config(const Settings& s, const train::TokenFacts& facts) {
  models::EncoderConfig c;
  c.vocabulary = facts.vocabulary;
  c.mask_id = facts.mask_id;
  c.positions = facts.positions;
  c.types = s.types ? 11 : 0;  // categories 0 … 10 of tokens/1
  c.dim = static_cast<std::uint32_t>(s.dim);
  c.layers = static_cast<std::uint32_t>(s.layers);
  c.heads = static_cast<std::uint32_t>(s.heads);
  c.feed_forward = static_cast<std::uint32_t>(s.feed_forward);
  c.dropout = s.dropout;
  c.validate();
  return c;
}

models::GptConfig gpt_config(const Settings& s, const train::TokenFacts& facts) {
  models::GptConfig c;
  c.vocabulary = facts.start_id + 2;
  c.positions = s.positions > 0 ? static_cast<std::uint32_t>(s.positions) : facts.positions + 1;
  c.classes = static_cast<std::uint32_t>(s.classes.size());
  c.dim = static_cast<std::uint32_t>(s.dim);
  c.layers = static_cast<std::uint32_t>(s.layers);
  c.heads = static_cast<std::uint32_t>(s.heads);
  c.feed_forward = static_cast<std::uint32_t>(s.feed_forward);
  c.dropout = s.dropout;
  c.validate();
  return c;
}

void check_options(const Settings& s) {
  const Settings d;
  const auto only = [&](bool changed, const char* flag, const char* objective) {
    if (changed && s.objective != objective) fail(Exit::usage, "{} belongs to --objective {}, not to {}", flag, objective, s.objective);
  };
  only(s.types, "--types", "masked-token");
  only(s.extras, "--extras", "masked-token");
  only(s.masks != d.masks, "--masks", "masked-token");
  only(s.positions != d.positions, "--positions", "next-token");
  only(!s.classes.empty(), "--classes", "next-token");
  only(s.embedding != d.embedding, "--embedding", "next-token");
  if ((s.embedding == "codebook") == s.tokenizer.empty())
    fail(Exit::usage, "--embedding codebook and --tokenizer FILE, the codebook of the tokens, belong together");
  for (std::size_t i = 0; i < s.classes.size(); ++i)
    if (std::find(s.classes.begin(), s.classes.begin() + static_cast<std::ptrdiff_t>(i), s.classes[i]) != s.classes.begin() + static_cast<std::ptrdiff_t>(i))
      fail(Exit::usage, "--classes names '{}' twice", s.classes[i]);
}

// Most memory that the process has held so far, in bytes; 0 where the system does not say. Not getrusage: its figure
// begins with that of the process that started this one.
std::uint64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (std::uint64_t kib = 0; word == "VmHWM:" && status >> kib) return kib * 1024;
  return 0;
}

// One training: owns what a step, a checkpoint and a message need.
class Run {
 public:
  Run(const Settings& settings, stage::Context& context, dist::Communicator& ranks)
      : s_(settings), context_(context), ranks_(ranks), objective_(train::objective_named(settings.objective)), checkpoint_(settings.checkpoint) {
    if (checkpoint_.empty()) checkpoint_ = s_.save + ".part.h5";
  }

  void run() {
    try {
      train();
    } catch (const std::bad_alloc&) {
      fail(Exit::failed, "out of memory {}, with {} MB in use at most: lower --batch, --threads, --dim or --layers, or use a smaller input",
           doing_.empty() ? fmt::format("in step {}", trainer_->steps()) : doing_, peak_memory() / 1'000'000);
    }
  }

 private:
  void train() {
    if (s_.save.empty() && !s_.find_rate) fail(Exit::usage, "--save is required: the file for the trained model; see bl-train --help");
    check_options(s_);
    if (first() && !s_.save.empty()) refuse_overwrite(s_.save, context_.force());
    train::Input reader(context_, ranks_);
    const bool one_pass = !reader.replayable() && !s_.collect && !s_.find_rate;
    if (one_pass && s_.epochs > 1)
      fail(Exit::usage, "--epochs {}: '{}' can be read once only; write it to a file first, or hold its events in memory with --collect", s_.epochs,
           reader.where());
    start(reader, one_pass);
    if (s_.find_rate) {
      find_rate(reader);
      return;
    }
    if (one_pass) {
      try {
        stream(reader);
      } catch (const Interrupted&) {
        // perhaps while it waited for input: what was learned so far is kept
        if (trainer_->steps() > 0) save(checkpoint_, true);
        ranks_.barrier();
        throw;
      }
    } else {
      repeat(reader);
    }
    finish();
  }

  void start(const train::Input& reader, bool one_pass) {
    one_pass_ = one_pass;
    facts_.objective = objective_;
    facts_.tokens = train::token_facts(reader.hello(), reader.where(), objective_);
    facts_.history = reader.hello().history;
    facts_.history.push_back(context_.history_entry());
    facts_.classes = s_.classes;
    const bool next = objective_ == train::Objective::next_token;
    if (!next) {
      train::Masking otherwise;
      otherwise.options.extras = s_.extras;
      otherwise.seed = context_.seed();
      masking_ = train::masking_of(reader.hello(), otherwise, s_.masks == "redraw");
      facts_.mask = {{"mode", models::name_of(masking_.options.mode)}, {"extras", masking_.options.extras}, {"redraw", masking_.redraw}};
    }
    const models::TrainerConfig config = trainer_config(s_, context_.seed(), one_pass);
    const std::uint32_t start_id = facts_.tokens.start_id;
    if (s_.resume.empty()) {
      doing_ = fmt::format("while making a model of dim {} with {} layers and {} ids", s_.dim, s_.layers, next ? start_id + 2 : facts_.tokens.vocabulary);
      if (next) trainer_.emplace(gpt_config(s_, facts_.tokens), config, pool(), ranks_);
      else trainer_.emplace(encoder_config(s_, facts_.tokens), config, pool(), ranks_);
      if (s_.embedding == "codebook") {
        const tokens::CodeVectors codes = tokens::code_vectors(s_.tokenizer, facts_.tokens.hash);
        models::embed_codebook(trainer_->params(), trainer_->gpt().parts(), codes.values, codes.width, config.seed);
      }
    } else {
      resume(reader, config);
    }
    const models::Texts settings = trainer_->settings();
    reads_.objective = objective_;
    reads_.vocabulary = next ? start_id : facts_.tokens.vocabulary;
    reads_.positions = models::number<std::uint32_t>(settings, "positions", "the model");
    if (!next) reads_.types = models::number<std::uint32_t>(settings, "types", "the model");
    reads_.classes = s_.classes;
    facts_.categories.resize(next ? reads_.vocabulary : 0);
    const std::size_t workers = context_.threads() * ranks_.size();
    if (workers > config.lanes) log::warn("only {} of {} threads can share a batch: raise --lanes", config.lanes, workers);
    cpu_set_t cores;
    if (ranks_.size() > 1 && ::sched_getaffinity(0, sizeof cores, &cores) == 0 && static_cast<std::size_t>(CPU_COUNT(&cores)) < context_.threads())
      log::warn("the launcher binds this rank to {} core(s), which its {} threads share: start with mpirun --bind-to none", CPU_COUNT(&cores),
                context_.threads());
    log::info("{} parameters; products: {}", trainer_->params().count(), nn::product_backend(config.precision));
    doing_.clear();
  }

  void resume(const train::Input& reader, const models::TrainerConfig& config) {
    doing_ = fmt::format("while reading the model '{}'", s_.resume);
    const train::Loaded loaded = train::load(s_.resume, objective_);
    if (loaded.tokenizer_hash != facts_.tokens.hash)
      fail(Exit::input, "'{}' was trained with the codebook {}, the tokens of '{}' come from {}: use the same tokenizer", s_.resume, loaded.tokenizer_hash,
           reader.where(), facts_.tokens.hash);
    try {
      trainer_.emplace(loaded.state, config, pool(), ranks_);
    } catch (const Error& e) {
      if (e.code() != Exit::input) throw;
      fail(Exit::input, "'{}': {}", s_.resume, e.what());
    }
    const models::Texts saved = trainer_->settings();
    const models::Texts wanted =
        objective_ == train::Objective::next_token ? gpt_config(s_, facts_.tokens).to_map() : encoder_config(s_, facts_.tokens).to_map();
    for (const auto& [key, value] : wanted)
      if (saved.at(key) != value) fail(Exit::usage, "the model '{}' has {} {}, the command line says {}", s_.resume, key, saved.at(key), value);
    if (loaded.classes != s_.classes)
      fail(Exit::usage, "the model '{}' has the classes {}, the command line says {}", s_.resume, fmt::join(loaded.classes, ","), fmt::join(s_.classes, ","));
    facts_.categories = loaded.categories;
    log::info("resumed '{}' after {} steps", s_.resume, trainer_->steps());
  }

  Pool& pool() {
    try {
      return context_.pool();
    } catch (const std::system_error& e) {
      fail(Exit::failed, "cannot start {} threads ({}): lower --threads", context_.threads(), e.what());
    }
  }

  void collect(train::Input& reader, train::Events& events) {
    doing_ = fmt::format("while reading the events of '{}'", reader.where());
    while (const auto batch = reader.next()) {
      context_.stop_if_asked();
      events.add(*batch);
      reader.acknowledge(batch->seq);
    }
    reader.close();
    learn_categories(events);
    trainer_->attach(events.examples(), events.masker(masking_));
    doing_.clear();
  }

  void learn_categories(const train::Events& events) {
    for (std::size_t i = 0; i < facts_.categories.size(); ++i)
      if (events.categories()[i] != 0) facts_.categories[i] = events.categories()[i];
  }

  void find_rate(train::Input& reader) {
    train::Events events(reads_);
    collect(reader, events);
    models::RateSearch search;
    context_.progress().total(context_.progress().events() + search.steps * trainer_->training_events() / trainer_->steps_per_epoch());
    const models::RateTable table = trainer_->find_rate(search, [&](const models::RateTrial& trial) {
      context_.stop_if_asked();
      context_.progress().add(trainer_->training_events() / trainer_->steps_per_epoch(), 0);
      context_.progress().metric({{"rate", trial.rate}, {"loss", trial.loss}, {"smoothed_loss", trial.smoothed}});
    });
    if (!first()) return;
    fmt::print("{:>10} {:>10} {:>10}\n", "rate", "loss", "smoothed");
    const std::size_t n = table.trials.size(), every = std::max<std::size_t>(1, search.steps / 40);
    for (std::size_t i = 0; i < n; i += every) fmt::print("{:10.2e} {:10.4f} {:10.4f}\n", table.trials[i].rate, table.trials[i].loss, table.trials[i].smoothed);
    if (!(table.suggested > 0)) fail(Exit::failed, "no rate to suggest: the loss never fell by a hundredth in {} steps; try another --batch or model", n);
    context_.progress().metric({{"suggested_rate", table.suggested}});
    fmt::print("suggested: --lr {:.1e}\n", table.suggested);
  }

  // Many epochs over events in memory.
  void repeat(train::Input& reader) {
    train::Events events(reads_);
    collect(reader, events);
    log::info("{} events to train on, {} to validate with, {} steps an epoch", trainer_->training_events(), trainer_->validation_events(),
              trainer_->steps_per_epoch());
    const std::uint64_t steps = trainer_->planned_steps() - std::min(trainer_->planned_steps(), trainer_->steps());
    context_.progress().total(context_.progress().events() + steps * trainer_->training_events() / trainer_->steps_per_epoch());
    started_ = context_.progress().seconds();
    while (const auto advance = trainer_->advance()) {
      report(advance->step);
      if (advance->epoch) report(*advance->epoch);
      after_step();
    }
  }

  // One pass: every event is seen once and forgotten, except those for validation.
  void stream(train::Input& reader) {
    constexpr std::size_t most_kept = 20'000;
    const Rng split(context_.seed(), "validation");
    train::Events events(reads_), kept(reads_);
    std::uint64_t ordinal = 0;
    bool more = true;
    while (more) {
      auto batch = reader.next();
      more = batch.has_value();
      if (more) {
        std::vector<std::uint32_t> learn, check;
        for (std::uint32_t e = 0; e < batch->events; ++e) {
          const bool validate = kept.size() + check.size() < most_kept && split.uniform(ordinal + e, 0) < s_.validation;
          (validate ? check : learn).push_back(e);
        }
        ordinal += batch->events;
        events.add(select(*batch, learn));
        learn_categories(events);
        if (!check.empty()) kept.add(select(*batch, check));
        reader.acknowledge(batch->seq);
      }
      // Full batches now, what is left at the end.
      const std::size_t size = static_cast<std::size_t>(s_.batch) * static_cast<std::size_t>(s_.accumulate);
      std::size_t first = 0;
      while (events.size() - first >= size || (!more && first < events.size())) {
        std::vector<std::uint32_t> list(std::min(size, events.size() - first));
        std::iota(list.begin(), list.end(), static_cast<std::uint32_t>(first));
        first += list.size();
        report(trainer_->step(events.examples(), list, events.masker(masking_)));
        after_step();
        if (s_.max_steps > 0 && trainer_->steps() >= static_cast<std::uint64_t>(s_.max_steps)) {
          reader.stop();
          return validate(kept);
        }
      }
      if (first > 0) events.drop(first);
    }
    reader.close();
    if (ordinal == 0) fail(Exit::input, "'{}' has no event to train on", reader.where());
    validate(kept);
  }

  void validate(const train::Events& kept) {
    if (kept.size() == 0) return;
    std::vector<std::uint32_t> list(kept.size());
    std::iota(list.begin(), list.end(), 0u);
    last_validation_ = trainer_->evaluate(kept.examples(), list, kept.masker(masking_));
    context_.progress().metric({{"validation_loss", last_validation_}, {"validation_events", kept.size()}, {"step", trainer_->steps()}});
  }

  void report(const models::StepResult& r) {
    tokens_ += r.tokens;
    // A step's loss is noisy: what is shown is a running mean over about twenty.
    loss_ = std::isnan(loss_) ? r.loss : 0.95 * loss_ + 0.05 * r.loss;
    Progress& p = context_.progress();
    if (!one_pass_) p.add(r.events, r.tokens * sizeof(std::int32_t));  // events of a pipe were counted when they were read
    const double seconds = std::max(p.seconds() - started_, 1e-3), entropy = trainer_->unigram_entropy();
    std::string note = fmt::format("loss {:.3f} (unigram {:.3f})", loss_, entropy);
    if (!std::isnan(last_validation_)) note += fmt::format(", validation {:.3f}", last_validation_);
    p.note(note + fmt::format(", {:.0f} tokens/s", static_cast<double>(tokens_) / seconds));
    if (trainer_->steps() % 10 == 0)
      p.metric({{"step", trainer_->steps()},
                {"epoch", trainer_->epoch()},
                {"loss", r.loss},
                {"gradient_norm", r.gradient_norm},
                {"rate", r.rate},
                {"unigram_entropy", entropy},
                {"tokens_per_second", static_cast<double>(tokens_) / seconds}});
  }

  void report(const models::EpochResult& e) {
    nlohmann::json line = {
        {"epoch_done", e.epoch}, {"step", trainer_->steps()}, {"training_loss", e.training_loss}, {"unigram_entropy", trainer_->unigram_entropy()}};
    if (trainer_->validation_events() > 0) {
      last_validation_ = e.validation_loss;
      line["validation_loss"] = e.validation_loss;
      line["best"] = e.best;
    }
    context_.progress().metric(line);
    log::info("epoch {}: loss {:.4f}, validation {:.4f}{}, unigram entropy {:.4f}", e.epoch + 1, e.training_loss, e.validation_loss, e.best ? " (best)" : "",
              trainer_->unigram_entropy());
  }

  void after_step() {
    // The ranks stop after the same step, whichever of them was asked.
    int asked = signals::pending();
    if (ranks_.size() > 1) asked = std::ranges::max(ranks_.gather(asked));
    const bool due = s_.checkpoint_every > 0 && trainer_->steps() % static_cast<std::uint64_t>(s_.checkpoint_every) == 0;
    if (asked != 0 || due) save(checkpoint_, true);
    // A signal that comes after `asked` was read waits for the next step: nothing stops without a checkpoint.
    if (asked == 0) return;
    ranks_.barrier();
    log::warn("stopped after {} steps; go on with --resume {}", trainer_->steps(), checkpoint_);
    throw Interrupted(asked);
  }

  bool first() const { return ranks_.rank() == 0; }
  // All ranks have the same state, which is made sure of; the first writes it.
  void save(const std::string& path, bool force) {
    trainer_->check_ranks();
    if (!first()) return;
    models::State state = trainer_->state();
    if (s_.weights_only && path == s_.save)
      std::erase_if(state.arrays, [](const models::NamedArray& a) { return a.name.starts_with("training/") && a.name != "training/target_counts"; });
    train::save(path, force, state, facts_);
  }

  void finish() {
    save(s_.save, context_.force());
    if (!first()) return;
    std::error_code ignored;
    if (s_.checkpoint_every > 0 || s_.resume == checkpoint_) std::filesystem::remove(checkpoint_, ignored);
    const double entropy = trainer_->unigram_entropy();
    const std::uint64_t memory = peak_memory();
    context_.progress().metric({{"steps", trainer_->steps()}, {"loss", loss_}, {"unigram_entropy", entropy}, {"peak_memory_bytes", memory}});
    log::info("'{}': {} steps, loss {:.4f}, unigram entropy {:.4f}, peak memory {} MB", s_.save, trainer_->steps(), loss_, entropy, memory / 1'000'000);
    const double reached = std::isnan(last_validation_) ? loss_ : last_validation_;
    constexpr std::uint64_t enough = 200;  // before so many steps no model can be blamed
    if (reached >= entropy && trainer_->steps() >= enough)
      log::warn("the loss {:.3f} is not below the unigram entropy {:.3f}: the model knows no more than how often each token occurs", reached, entropy);
  }

  const Settings& s_;
  stage::Context& context_;
  dist::Communicator& ranks_;
  train::Objective objective_;
  train::Reads reads_;
  std::string checkpoint_;
  std::string doing_;  // what memory is needed for; empty: steps
  train::ModelFacts facts_;
  train::Masking masking_;
  std::optional<models::Trainer> trainer_;
  double loss_ = std::nan(""), last_validation_ = std::nan("");
  double started_ = 0;  // when training began, in seconds of the run
  std::uint64_t tokens_ = 0;
  bool one_pass_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  stage::Program program("bl-train", "Train a model to predict the hidden or the next tokens of events");
  Settings s;
  program.reads({"masked/1", "tokens/1", "tokens/2"});
  program.option("--objective", s.objective, "masked-token: hidden tokens from all others; next-token: each token, and the end, from those before it")
      .one_of({"masked-token", "next-token"});
  program.option("--save", s.save, "File for the trained model; required but for --find-rate").output_file();
  program.option("--resume", s.resume, "Go on from this model or checkpoint, to the bits of a run without interruption").input_file();
  program.option("--checkpoint", s.checkpoint, "File for checkpoints; default: the name of --save with .part.h5 behind it").output_file().no_effect();
  program.option("--checkpoint-every", s.checkpoint_every, "Steps between checkpoints; 0: only when asked to stop").range(0, 1e12).no_effect();
  program.option("--weights-only", s.weights_only, "Leave out of the file what only --resume needs: a quarter of the size").no_effect();
  program.option("--epochs", s.epochs, "Passes over a file; 0: ten, or the one pass that a pipe or socket allows").range(0, 1e6);
  program.option("--max-steps", s.max_steps, "Stop after so many steps; 0: no limit").range(0, 1e12);
  program.option("--collect", s.collect, "Hold the events of a pipe or socket in memory, for several epochs");
  program.option("--batch", s.batch, "Events of a step").range(1, 1e6);
  program.option("--accumulate", s.accumulate, "Batches of a step: the same result as a batch so many times as large").range(1, 1e6);
  program.option("--shard", s.shard, "Events that are worked on at once; changes the last bits of the result").range(1, 1e6);
  program.option("--lanes", s.lanes, "Threads, of all ranks, that can share a batch; changes the last bits of the result, and each needs memory for a gradient")
      .range(1, 256);
  program.option("--lr", s.rate, "Largest learning rate").range(0, 10);
  program.option("--find-rate", s.find_rate, "Only try learning rates: 200 steps from 1e-7 to 10, a table and a suggestion; no model is written");
  program.option("--schedule", s.schedule, "Learning rate after the warm-up; cosine and one-cycle need a known number of steps").one_of(nn::schedule_names());
  program.option("--warmup", s.warmup, "Steps in which the learning rate rises; -1: 100, with one-cycle 3/10 of all steps").range(-1, 1e9);
  program.option("--optimizer", s.optimizer, "How weights follow the gradient").one_of(nn::optimizer_names());
  program.option("--beta1", s.beta1, "adamw, lion: share of the old gradient in the direction of a step").range(0, 0.999999);
  program.option("--beta2", s.beta2, "adamw, lion: share of the old moment; 0: 0.999, with lion 0.99").range(0, 0.999999);
  program.option("--momentum", s.momentum, "sgd: share of the last step's direction").range(0, 0.999999);
  program.option("--nesterov", s.nesterov, "sgd: Nesterov's form of the momentum");
  program.option("--group", s.groups,
                 "PATTERN:SETTING,… for parameters whose name matches: rate=X (factor), decay=X, warmup=N, freeze, freeze=FRACTION of the layers; repeated");
  program.option("--clip", s.clip, "Largest norm of the gradient; 0: no limit").range(0, 1e9);
  program.option("--decay", s.decay, "Weight decay of the matrices").range(0, 10);
  program.option("--precision", s.precision, "Of matrix products: bf16 rounds their factors and sums in f32; weights and all else stay f32")
      .one_of({"f32", "bf16"});
  program.option("--ema", s.ema, "Average the weights: share of the old average kept each step, e.g. 0.999; 0: no average").range(0, 0.999999);
  program.option("--validation", s.validation, "Fraction of the events that is not trained on but measures the loss").range(0, 0.99);
  program.option("--patience", s.patience, "Stop after so many epochs without a better validation loss; 0: never").range(0, 1e9);
  program.option("--dim", s.dim, "Width of the model").range(1, 65536);
  program.option("--layers", s.layers, "Layers of the model").range(1, 1000);
  program.option("--heads", s.heads, "Attention heads; a divisor of --dim").range(1, 65536);
  program.option("--feed-forward", s.feed_forward, "Width of the feed-forward part, in units of --dim").range(1, 64);
  program.option("--dropout", s.dropout, "Probability of dropout").range(0, 0.99);
  program.option("--positions", s.positions, "next-token: rows of the longest sequence, start among them; 0: as many as the tokenizer writes, and one")
      .range(0, 65536);
  program.option("--classes", s.classes, "next-token: processes whose events the model tells apart, e.g. QCD,Tbqq; bl-generate --class then asks for one");
  program.option("--embedding", s.embedding, "next-token: what the embedding of tokens begins with, random numbers or the codebook's vectors")
      .one_of({"random", "codebook"});
  program.option("--tokenizer", s.tokenizer, "Tokenizer of the tokens, for an embedding from its codebook").input_file();
  program.option("--types", s.types, "masked-token: embed the category of each visible token too");
  program.option("--masks", s.masks, "masked-token, redraw: new masks every epoch, by the mode of the stream; keep: those of the stream in every epoch")
      .one_of({"redraw", "keep"});
  program.option("--extras", s.extras, "tokens/1: event-level tokens may be hidden too");
  program.example("bl-train --in masked.bl --save model.h5 --epochs 3 --threads 2 --seed 5", "three epochs over a file");
  program.example("bl-tokenize --with tok.h5 --in events.bl | bl-mask | bl-train --save model.h5", "one pass over a pipe");
  program.example("bl-train --objective next-token --in tokens.bl --save gpt.h5 --dim 256 --heads 8", "a generative model of OmniJet's size");
  program.example("bl-train --objective next-token --in tokens.bl --save gpt.h5 --classes QCD,Tbqq", "one that is told what kind of jet to make");
  program.example("bl-train --in masked.bl --find-rate", "which --lr to take");
  program.example("bl-train --in masked.bl --save model.h5 --group 'encoder/*:rate=0.1,freeze=0.5'", "half of the encoder frozen, the rest slower");
  program.example("bl-train --in masked.bl --save model.h5 --checkpoint-every 500", "after a crash: the same with --resume model.h5.part.h5");
  program.note("Masks",
               "masked/1 brings its masks; they are used in the first epoch and for validation, and drawn anew in later epochs unless --masks keep (modes "
               "each, ramp, knn and radius keep theirs always). tokens/1 gets masks of mode one.");
  program.note("Order",
               "From a file every epoch has its own order. A pipe is learned in the order of the stream: bl-shuffle mixes it. Weights of events are not used.");
  program.note("Signals", "SIGTERM and SIGINT save a checkpoint after the current step and end with 128 + signal.");
  program.note("Ranks",
               "mpirun -n 4 bl-train … divides each batch among four processes, on one machine or several; the result has the same bits as that of one. Rank 0 "
               "reads the input and writes all files; --resume must be readable by all. When a rank dies the job ends: go on with --resume. "
               "docs/ranks.md tells what several machines need.");
  try {
    const auto job = dist::join();
    program.member(job->rank());
    return job->leave(program.run(argc, argv, [&](stage::Context& context) { Run(s, context, *job).run(); }));
  } catch (const Error& e) {
    std::fprintf(stderr, "bl-train: error: %s\n", e.what());
    return static_cast<int>(e.code());
  }
}
