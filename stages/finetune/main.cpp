// bl-finetune: a tagger from a pre-trained model and labelled jets; and how much the pre-training was worth.
#include <fmt/ranges.h>

#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <new>
#include <numeric>
#include <optional>
#include <system_error>

#include "base/files.hpp"
#include "base/log.hpp"
#include "base/signals.hpp"
#include "finetune/curve.hpp"
#include "finetune/jets.hpp"
#include "finetune/pretrained.hpp"
#include "finetune/training.hpp"
#include "models/codebook.hpp"
#include "stage/program.hpp"
#include "tokens/code_vectors.hpp"
#include "tokens/jet_variables.hpp"

namespace {

using namespace bl;

const std::vector<std::string> kSchemas{"tokens/1", "tokens/2"};

struct Options {
  finetune::Settings training;
  std::string model, mode = "full", save, embedding = "random", tokenizer, validation_in, resume, checkpoint;
  std::vector<std::string> classes;
  bool jet_variables = false;
  double validation = 0.2;
  std::uint64_t max_jets = 0, checkpoint_every = 0;
  // learning curve
  std::vector<std::string> sizes, modes;
  std::string test, report;
  std::uint64_t seeds = 5;
};

void check_options(const Options& o) {
  const Options d;
  const bool curve = !o.sizes.empty();
  const auto only = [&](bool given, const char* flag) {
    if (given && !curve) fail(Exit::usage, "{} belongs to --learning-curve N,N,…", flag);
  };
  const auto never = [&](bool given, const char* flag, const char* why) {
    if (given && curve) fail(Exit::usage, "{} has no meaning with --learning-curve: {}", flag, why);
  };
  only(!o.test.empty(), "--test");
  only(!o.report.empty(), "--report");
  only(!o.modes.empty(), "--modes");
  only(o.seeds != d.seeds, "--seeds");
  never(!o.save.empty(), "--save", "it makes many taggers and keeps none");
  never(o.mode != d.mode, "--mode", "choose with --modes");
  never(o.jet_variables, "--jet-variables", "full+variables and scratch+variables are among --modes");
  never(o.embedding != d.embedding, "--embedding", "scratch-codebook is one of --modes");
  never(!o.validation_in.empty() || o.validation != d.validation, "--validation", "half as many jets as are trained on, 100 to 1000, stop a training");
  never(o.max_jets != 0, "--max-jets", "the numbers of jets are its own");
  never(!o.resume.empty(), "--resume", "the same command with the same --report goes on where it stopped");
  if (curve) {
    if (o.test.empty()) fail(Exit::usage, "--learning-curve needs --test FILE: labelled jets to judge the taggers by");
    if (o.report.empty()) fail(Exit::usage, "--learning-curve needs --report FILE: where its points are written");
    return;
  }
  if (o.save.empty()) fail(Exit::usage, "--save is required: the file for the tagger; see bl-finetune --help");
  if (o.embedding == "codebook") {
    if (o.mode != "scratch") fail(Exit::usage, "--embedding codebook belongs to --mode scratch: a pre-trained model has learned its embedding");
    if (o.tokenizer.empty()) fail(Exit::usage, "--embedding codebook needs --tokenizer FILE: the codebook of the tokens");
  } else if (!o.tokenizer.empty()) {
    fail(Exit::usage, "--tokenizer belongs to --embedding codebook, or to a --learning-curve");
  }
  if (!o.validation_in.empty() && o.validation != d.validation) fail(Exit::usage, "choose one: --validation for a fraction, or --validation-in for a file");
}

std::vector<std::size_t> sizes_of(const std::vector<std::string>& texts) {
  std::vector<std::size_t> sizes;
  for (const std::string& text : texts) {
    std::size_t n = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (error != std::errc() || end != text.data() + text.size() || n < 2 || n > 1'000'000'000)
      fail(Exit::usage, "--learning-curve: '{}' is not a number of jets, allowed is 2 to 1e9", text);
    if (std::ranges::find(sizes, n) != sizes.end()) fail(Exit::usage, "--learning-curve names {} jets twice", n);
    sizes.push_back(n);
  }
  std::ranges::sort(sizes);
  return sizes;
}

class Run {
 public:
  Run(const Options& options, stage::Context& context) : o_(options), context_(context), checkpoint_(options.checkpoint) {
    if (checkpoint_.empty()) checkpoint_ = o_.save + ".part.h5";
  }

  void run() {
    check_options(o_);
    if (!o_.save.empty()) refuse_overwrite(o_.save, context_.force());
    const std::vector<models::LabelClass> asked = models::parse_classes(o_.classes);
    if (asked.size() == 1) fail(Exit::usage, "--classes names '{}' alone: a tagger needs two classes or more", asked[0].name);
    pretrained_ = finetune::load_pretrained_file(o_.model);
    if (!o_.sizes.empty()) return curve(asked);

    const auto reader = context_.open_reader();
    finetune::Jets jets = read(*reader, asked, o_.jet_variables);
    std::optional<finetune::Jets> stopping;
    if (!o_.validation_in.empty()) {
      const auto other = context_.open_reader(o_.validation_in, kSchemas);
      stopping = read(*other, classes_, o_.jet_variables);
      finetune::refuse_common_events(jets, *stopping);
    }
    train(jets, stopping ? &*stopping : nullptr);
  }

 private:
  // All jets of a stream, with labels. `asked`: the classes, or none: those of the stream.
  finetune::Jets read(stage::Reader& reader, const std::vector<models::LabelClass>& asked, bool variables) {
    models::same_codebook(pretrained_.path, pretrained_.codebook, reader.hello().meta, reader.where());
    finetune::Jets jets(reader.where(), pretrained_.config);
    while (const auto batch = reader.next()) {
      context_.stop_if_asked();
      if (variables) jets.add_with_variables(*batch, context_.pool());
      else jets.add(*batch);
      reader.acknowledge(batch->seq);
    }
    reader.close();
    if (classes_.empty()) {
      const std::vector<models::LabelClass> own = jets.classes(reader.hello().meta);
      classes_ = asked.empty() ? own : asked;
      facts_.history = reader.hello().history;
    }
    jets.label(classes_);
    if (jets.dropped() > 0) log::info("{}: {} jets are of no class and are left out", jets.where(), jets.dropped());
    return jets;
  }

  void train(finetune::Jets& jets, const finetune::Jets* other) {
    finetune::Mode mode = finetune::mode_named(o_.mode);
    if (mode == finetune::Mode::scratch && o_.embedding == "codebook") mode = finetune::Mode::scratch_codebook;
    finetune::Split split = finetune::split_by_event(jets, classes_.size(), other != nullptr ? 0 : o_.validation, o_.max_jets, context_.seed());
    if (other != nullptr) split.stopping = jets.append(*other);
    if (split.training.empty())
      fail(Exit::input, "{}: no jet is left to train on: {} jets, {} of them stop the training", jets.where(), jets.size(), split.stopping.size());
    const models::TrainerConfig config = finetune::trainer_config(o_.training, mode, split.training.size(), context_.seed());
    tokens::CodeVectors vectors;
    if (mode == finetune::Mode::scratch_codebook) vectors = tokens::code_vectors(o_.tokenizer, pretrained_.codebook);

    finetune::Start start;
    facts_.tokenizer = pretrained_.tokenizer;
    facts_.codebook = pretrained_.codebook;
    facts_.classes = classes_;
    facts_.history.push_back(context_.history_entry());
    if (o_.resume.empty()) {
      std::optional<models::TrainedSetClassifier> variables;
      if (o_.jet_variables) {
        variables = finetune::train_on_variables(jets, split, classes_.size(), context_.seed(), context_.pool());
        models::SetRound kept;
        for (const models::SetRound& round : variables->history())
          if (round.best) kept = round;
        log::info("the head begins as a network on {}, of {} rounds: loss {:.4f}, stopping {:.4f}", fmt::join(tokens::jet_variable_names(), ", "), kept.round,
                  kept.training, kept.validation);
      }
      start = finetune::start(o_.training, mode, pretrained_, vectors, classes_.size(), config, variables ? &variables->model() : nullptr, context_.pool());
      tell(start.loaded);
    } else {
      resume(start, mode, config, jets, split);
    }
    trainer_ = start.trainer.get();
    facts_.report = {{"mode", finetune::name_of(mode)},
                     {"pretrained", pretrained_.hash},
                     {"training_jets", split.training.size()},
                     {"stopping_jets", split.stopping.size()},
                     {"weights", finetune::to_json(start.loaded)}};
    if (o_.jet_variables) facts_.report["jet_variables"] = tokens::jet_variable_names();
    log::info("{} jets to train on, {} to stop on; classes {}; batches of {}, at most {} epochs, {} without a better loss end it", split.training.size(),
              split.stopping.size(), fmt::join(models::names_of(classes_), ", "), config.batch, config.epochs, config.patience);

    trainer_->attach(jets.examples(), split.training, split.stopping);
    const std::uint64_t steps = trainer_->planned_steps() - std::min(trainer_->planned_steps(), trainer_->steps());
    Progress& progress = context_.progress();
    progress.total(progress.events() + steps * split.training.size() / trainer_->steps_per_epoch());
    started_ = progress.seconds();
    while (const auto advance = trainer_->advance()) {
      report(advance->step);
      if (advance->epoch) report(*advance->epoch);
      after_step();
    }
    finish(jets, split);
  }

  void tell(const models::LoadReport& report) {
    context_.progress().metric({{"weights", finetune::to_json(report)}});
    const std::string line = fmt::format("{} arrays ({} parameters) loaded, {} ({}) skipped, {} ({}) new", report.loaded.size(), report.loaded_parameters,
                                         report.skipped.size(), report.skipped_parameters, report.fresh.size(), report.fresh_parameters);
    log::info("'{}': {}", pretrained_.path, line);
    for (const auto& [what, names] :
         {std::pair<const char*, const std::vector<std::string>&>{"loaded", report.loaded}, {"skipped", report.skipped}, {"new", report.fresh}})
      if (!names.empty()) log::info("{}: {}", what, fmt::join(names, ", "));
    if (context_.progress().drawing()) std::fprintf(stderr, "%s: %s\n", pretrained_.path.c_str(), line.c_str());
  }

  void resume(finetune::Start& start, finetune::Mode mode, const models::TrainerConfig& config, const finetune::Jets& jets, const finetune::Split& split) {
    const models::State state = finetune::load_tagger(o_.resume, facts_);
    try {
      start.trainer = std::make_unique<models::Trainer>(state, config, context_.pool());
    } catch (const Error& e) {
      if (e.code() != Exit::input) throw;
      fail(Exit::input, "'{}': {}", o_.resume, e.what());
    }
    const models::Texts saved = start.trainer->settings();
    if (saved.contains("variables") != o_.jet_variables)
      fail(Exit::usage, "the tagger '{}' {} jet variables: go on {} --jet-variables", o_.resume, o_.jet_variables ? "does not read" : "reads",
           o_.jet_variables ? "without" : "with");
    std::unique_ptr<finetune::VariablesNetwork> variables;
    if (o_.jet_variables) variables = finetune::untrained_on_variables(jets, split, classes_.size());
    for (const auto& [key, value] : finetune::classifier_config(o_.training, mode, pretrained_.config, classes_.size(), variables.get()).to_map())
      if (saved.at(key) != value) fail(Exit::usage, "the tagger '{}' has {} {}, the command line says {}", o_.resume, key, saved.at(key), value);
    log::info("resumed '{}' after {} steps", o_.resume, start.trainer->steps());
  }

  void report(const models::StepResult& r) {
    tokens_ += r.tokens;
    loss_ = std::isnan(loss_) ? r.loss : 0.9 * loss_ + 0.1 * r.loss;
    Progress& p = context_.progress();
    p.add(r.events, r.tokens * sizeof(std::int32_t));
    const double rate = static_cast<double>(tokens_) / std::max(p.seconds() - started_, 1e-3);
    p.note(fmt::format("loss {:.4f}{}, {:.0f} tokens/s", loss_, std::isnan(validation_) ? "" : fmt::format(", stopping {:.4f}", validation_), rate));
    if (trainer_->steps() % 10 == 0)
      p.metric({{"step", trainer_->steps()},
                {"epoch", trainer_->epoch()},
                {"loss", r.loss},
                {"gradient_norm", r.gradient_norm},
                {"rate", r.rate},
                {"tokens_per_second", rate}});
  }

  void report(const models::EpochResult& e) {
    nlohmann::json line = {{"epoch_done", e.epoch}, {"step", trainer_->steps()}, {"training_loss", e.training_loss}};
    if (trainer_->validation_events() > 0) {
      validation_ = e.validation_loss;
      line["validation_loss"] = e.validation_loss;
      line["best"] = e.best;
    }
    context_.progress().metric(line);
    log::info("epoch {}: loss {:.4f}, stopping {:.4f}{}", e.epoch + 1, e.training_loss, e.validation_loss, e.best ? " (best)" : "");
  }

  void after_step() {
    const int asked = signals::pending();
    const bool due = o_.checkpoint_every > 0 && trainer_->steps() % o_.checkpoint_every == 0;
    if (asked != 0 || due) finetune::save_tagger(checkpoint_, true, trainer_->state(), facts_);
    if (asked == 0) return;
    log::warn("stopped after {} steps; go on with --resume {}", trainer_->steps(), checkpoint_);
    throw Interrupted(asked);
  }

  void finish(const finetune::Jets& jets, const finetune::Split& split) {
    const models::State state = trainer_->state();
    nlohmann::json last = {{"steps", trainer_->steps()}, {"epochs", trainer_->epoch()}};
    if (!split.stopping.empty()) {
      // By the weights that are kept.
      const auto model = models::load_classifier(state);
      const auto logits = models::ClassifierScorer(*model, context_.pool()).logits(jets.examples(), split.stopping);
      std::size_t right = 0;
      for (std::size_t i = 0; i < split.stopping.size(); ++i) {
        const auto row = std::span(logits).subspan(i * classes_.size(), classes_.size());
        right += std::ranges::max_element(row) - row.begin() == jets.examples().labels[split.stopping[i]];
      }
      last["stopping_loss"] = trainer_->best_validation();
      last["stopping_accuracy"] = static_cast<double>(right) / static_cast<double>(split.stopping.size());
    }
    facts_.report.update(last);
    finetune::save_tagger(o_.save, context_.force(), state, facts_);
    std::error_code ignored;
    if (o_.checkpoint_every > 0 || o_.resume == checkpoint_) std::filesystem::remove(checkpoint_, ignored);
    context_.progress().metric(last);
    log::info("'{}': {}", o_.save, last.dump());
    if (context_.progress().drawing()) {
      context_.progress().finish();
      if (last.contains("stopping_accuracy"))
        std::fprintf(stderr, "%s: %.4f of %zu stopping jets are given their class, after %llu epochs\n", o_.save.c_str(),
                     last["stopping_accuracy"].get<double>(), split.stopping.size(), static_cast<unsigned long long>(trainer_->epoch()));
    }
  }

  void curve(const std::vector<models::LabelClass>& asked) {
    finetune::Plan plan;
    plan.sizes = sizes_of(o_.sizes);
    plan.first_seed = context_.seed();
    plan.seeds = o_.seeds;
    std::vector<std::string> names = o_.modes;
    if (names.empty()) names = {"full", "frozen", "scratch", "scratch-codebook", "jet-variables"};
    for (const std::string& name : names) {
      plan.modes.push_back(finetune::mode_named(name));
      if (std::ranges::count(plan.modes, plan.modes.back()) > 1) fail(Exit::usage, "--modes names '{}' twice", name);
    }
    const auto has = [&](finetune::Mode mode) { return std::ranges::find(plan.modes, mode) != plan.modes.end(); };
    const bool codebook = has(finetune::Mode::scratch_codebook), variables = std::ranges::any_of(plan.modes, finetune::reads_variables);
    if (codebook && o_.tokenizer.empty())
      fail(Exit::usage, "the mode scratch-codebook needs --tokenizer FILE, the codebook of the tokens: give it, or leave the mode out of --modes");
    tokens::CodeVectors vectors;
    if (codebook) vectors = tokens::code_vectors(o_.tokenizer, pretrained_.codebook);

    const auto reader = context_.open_reader();
    const finetune::Jets labelled = read(*reader, asked, variables);
    const auto test_reader = context_.open_reader(o_.test, kSchemas);
    const finetune::Jets test = read(*test_reader, classes_, variables);
    finetune::refuse_common_events(labelled, test);
    // The largest sample of every seed, before any time is spent.
    for (std::uint64_t s = 0; s < plan.seeds; ++s)
      finetune::draw(labelled, classes_, plan.sizes.back(), finetune::stopping_jets(plan.sizes.back()), plan.first_seed + s);

    const finetune::Settings& t = o_.training;
    nlohmann::json settings = {{"model", pretrained_.hash},
                               {"labelled", labelled.digest()},
                               {"test", test.digest()},
                               {"head", t.head},
                               {"blocks", t.blocks},
                               {"optimizer", t.optimizer},
                               {"schedule", t.schedule},
                               {"precision", t.precision},
                               {"groups", t.groups},
                               {"epochs", t.epochs},
                               {"batch", t.batch},
                               {"shard", t.shard},
                               {"patience", t.patience},
                               {"warmup", t.warmup},
                               {"frozen_epochs", t.frozen_epochs},
                               {"rate", t.rate},
                               {"trunk_rate", t.trunk_rate},
                               {"dropout", t.dropout},
                               {"head_dropout", t.head_dropout},
                               {"decay", t.decay},
                               {"clip", t.clip},
                               {"ema", t.ema}};
    facts_.history.push_back(context_.history_entry());
    const nlohmann::json head = {
        {"classes", models::names_of(classes_)}, {"test_jets", test.size()}, {"codebook", pretrained_.codebook}, {"history", facts_.history}};
    finetune::Curve curve(o_.report, head, settings);
    if (std::filesystem::exists(o_.report)) curve.go_on(context_.force());
    const std::size_t before = curve.points().size();
    if (before > 0) log::info("'{}' holds {} points, which are kept", o_.report, before);

    Progress& progress = context_.progress();
    const double all = finetune::total_work(plan, curve, t);
    progress.total(progress.events() + static_cast<std::uint64_t>(all));
    const std::size_t points = plan.modes.size() * plan.sizes.size() * plan.seeds;
    double worked = 0, shown = 0;
    const auto done = [&](const finetune::Point& p) {
      progress.metric({{"point", finetune::to_json(p)}});
      progress.note(fmt::format("{} of {} points; {} with {} jets: AUC {:.4f}", curve.points().size(), points, finetune::name_of(p.mode), p.jets, p.auc));
      log::info("{} with {} jets, seed {}: accuracy {:.4f}, AUC {:.4f} after {} epochs, {:.1f} s", finetune::name_of(p.mode), p.jets, p.seed, p.accuracy, p.auc,
                p.epochs, p.seconds);
    };
    const auto on_work = [&](double amount) {
      worked += amount;
      const double whole = std::floor(worked - shown);
      shown += whole;
      progress.add(static_cast<std::uint64_t>(whole), 0);
    };
    finetune::run_curve(
        plan, t, {&pretrained_, &vectors, &labelled, &test, classes_}, context_.threads(), curve, done, [&] { context_.stop_if_asked(); }, on_work);
    progress.finish();
    std::fputs(curve.table(context_.seed()).c_str(), stdout);
    if (std::fflush(stdout) != 0) fail(Exit::write, "cannot write the table to standard output: {}", errno_text(errno));
  }

  const Options& o_;
  stage::Context& context_;
  std::string checkpoint_;
  finetune::Pretrained pretrained_;
  std::vector<models::LabelClass> classes_;
  finetune::TaggerFacts facts_;
  models::Trainer* trainer_ = nullptr;
  double loss_ = std::nan(""), validation_ = std::nan(""), started_ = 0;
  std::uint64_t tokens_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  stage::Program program("bl-finetune", "Train a tagger on labelled jets, beginning with a pre-trained model");
  Options o;
  finetune::Settings& t = o.training;
  program.reads(kSchemas);
  program.option("--model", o.model, "Pre-trained model that bl-train --objective next-token wrote").required().input_file();
  program
      .option("--mode", o.mode, "full: all of it is trained; frozen: the new head alone; gradual: the head alone at first; scratch: all, from random weights")
      .one_of({"full", "frozen", "gradual", "scratch"});
  program.option("--save", o.save, "File for the tagger; required but for --learning-curve").output_file();
  program.option("--classes", o.classes, "What is told apart: NAME=PROCESS+PROCESS or PROCESS, e.g. top=Tbqq,qcd=q+g; default: every process of the stream");
  program.option("--head", t.head, "How the states of a jet's tokens become one answer").one_of(models::head_names());
  program.option("--blocks", t.blocks, "class-attention: blocks of the head").range(1, 100);
  program.option("--jet-variables", o.jet_variables,
                 "The head reads log pT, mass, number of constituents, tau21 and tau32 beside the tokens, and begins as a network trained on them alone");
  program.option("--validation", o.validation, "Fraction of the events whose jets stop the training instead of being trained on").range(0, 0.9);
  program.option("--validation-in", o.validation_in, "File of labelled jets that stop the training, instead").input_file();
  program.option("--max-jets", o.max_jets, "Use so many jets of --in, as many of each class; drawn by the seed; 0: all").range(0, 1e9);
  program.option("--embedding", o.embedding, "scratch: what the embedding of tokens begins with, random numbers or the codebook's vectors")
      .one_of({"random", "codebook"});
  program.option("--tokenizer", o.tokenizer, "Tokenizer of the tokens, for an embedding from its codebook").input_file();
  program.option("--lr", t.rate, "Largest learning rate of the head").range(1e-12, 1e3);
  program.option("--trunk-lr", t.trunk_rate, "The trunk's rate in units of --lr; -1: 0.3, from scratch 1").range(-1, 1e3);
  program.option(
      "--group", t.groups,
      "PATTERN:SETTING,… for parameters whose name matches (gpt/… trunk, tagger/… head): rate=X, decay=X, warmup=N, freeze, freeze=FRACTION, thaw=STEP; "
      "repeated");
  program.option("--frozen-epochs", t.frozen_epochs, "gradual: epochs of the head alone; -1: a fifth of --epochs").range(-1, 1e6);
  program.option("--dropout", t.dropout, "Of the trunk; -1: 0.1, none where it is frozen").range(-1, 0.99);
  program.option("--head-dropout", t.head_dropout, "Of what the last layer reads").range(0, 0.99);
  program.option("--epochs", t.epochs, "Passes over the jets at most; 0: as many as make 30,000 jets, 8 to 50").range(0, 1e6);
  program.option("--patience", t.patience, "Stop after so many epochs without a better stopping loss; 0: never; -1: a fourth of the epochs, at least 3")
      .range(-1, 1e9);
  program.option("--batch", t.batch, "Jets of a step; 0: a twelfth of them, 16 to 256").range(0, 1e6);
  program.option("--shard", t.shard, "Jets that a thread works on at once: changes the speed and the last bits").range(1, 1e6);
  program.option("--optimizer", t.optimizer, "As in bl-train").one_of(nn::optimizer_names());
  program.option("--schedule", t.schedule, "Of the learning rate, as in bl-train").one_of(nn::schedule_names());
  program.option("--warmup", t.warmup, "Steps of rising rate; -1: a tenth of all, 100 at most").range(-1, 1e9);
  program.option("--decay", t.decay, "Weight decay of the matrices").range(0, 10);
  program.option("--clip", t.clip, "Largest norm of the gradient; 0: no limit").range(0, 1e9);
  program.option("--ema", t.ema, "Average the weights: share of the old average kept each step; 0: no average").range(0, 0.999999);
  program.option("--precision", t.precision, "Of matrix products in training: bf16 is up to twice as fast on processors that have it").one_of({"f32", "bf16"});
  program.option("--resume", o.resume, "Go on from this checkpoint, to the bits of a run without interruption").input_file();
  program.option("--checkpoint", o.checkpoint, "File for checkpoints; default: the name of --save with .part.h5 behind it").output_file().no_effect();
  program.option("--checkpoint-every", o.checkpoint_every, "Steps between checkpoints; 0: only when asked to stop").range(0, 1e12).no_effect();
  program.option("--learning-curve", o.sizes,
                 "Instead of one tagger: train with these numbers of jets, e.g. 100,1000,10000, in every mode and for several seeds");
  program.option("--modes", o.modes,
                 "Of the curve: full, frozen, scratch, scratch-codebook, jet-variables, which are the default; gradual, full+variables, scratch+variables");
  program.option("--seeds", o.seeds, "Of the curve: trainings of each mode and size; their seeds begin with --seed").range(1, 1000);
  program.option("--test", o.test, "Of the curve: labelled jets that judge the taggers, of other events").input_file();
  program.option("--report", o.report, "Of the curve: JSON file of its points; one that is there is gone on with").output_file();
  program.example("bl-finetune --model gpt.h5 --mode full --in labelled.bl --save tagger.h5", "one class for each process of the stream");
  program.example("bl-finetune --model gpt.h5 --classes top=Tbqq,qcd=q+g --max-jets 1000 --in labelled.bl --save tagger.h5",
                  "top jets against quarks and gluons");
  program.example("bl-finetune --model gpt.h5 --mode frozen --head mean --in labelled.bl --save tagger.h5", "the head alone");
  program.example("bl-finetune --model gpt.h5 --jet-variables --in labelled.bl --save both.h5", "a head that reads mass and tau21 too");
  program.example("bl-finetune --model gpt.h5 --mode scratch --embedding codebook --tokenizer tok.h5 --in labelled.bl --save scratch.h5",
                  "what the codebook alone is worth");
  program.example(
      "bl-finetune --model gpt.h5 --tokenizer tok.h5 --in labelled.bl --test test.bl --learning-curve 100,1000,10000 --seeds 5 --report curve.json --threads 4",
      "what the pre-training is worth");
  program.note(
      "Modes of a learning curve",
      "jet-variables is a small dense network on log pT, mass, number of constituents, tau21 and tau32, without any token; full+variables and "
      "scratch+variables read both, as with --jet-variables. scratch-codebook needs --tokenizer. docs/finetune.md says how jets are drawn and counted.");
  program.note("Signals", "SIGTERM and SIGINT save a checkpoint after the current step and end with 128 + signal; a learning curve keeps its finished points.");
  return program.run(argc, argv, [&](stage::Context& context) {
    try {
      Run(o, context).run();
    } catch (const std::bad_alloc&) {
      fail(Exit::failed, "out of memory: lower --batch, --threads or the number of jets");
    }
  });
}
