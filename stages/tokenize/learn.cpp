#include "tokenize/learn.hpp"

#include <cmath>
#include <filesystem>
#include <optional>
#include <system_error>

#include "base/log.hpp"
#include "base/signals.hpp"
#include "models/state_file.hpp"
#include "store/h5.hpp"

namespace bl::tokenize {
namespace {

constexpr std::string_view kCheckpoint = "vqvae-checkpoint";

models::VqVaeConfig network_of(const Learning& l, bool conditional, std::uint32_t codes) {
  models::VqVaeConfig c;
  c.conditional = conditional;
  c.codes = codes;
  c.latent = static_cast<std::uint32_t>(l.latent);
  c.dim = static_cast<std::uint32_t>(l.dim);
  c.layers = l.layers > 0 ? static_cast<std::uint32_t>(l.layers) : conditional ? 4 : 3;
  c.heads = static_cast<std::uint32_t>(l.heads);
  c.feed_forward = static_cast<std::uint32_t>(l.feed_forward);
  c.dropout = l.dropout;
  c.max_angle = l.max_angle;
  c.clip = l.outside == "clip";
  c.validate();
  return c;
}

models::VqVaeTraining training_of(const Learning& l, std::uint64_t seed) {
  models::VqVaeTraining t;
  t.seed = seed;
  t.epochs = static_cast<std::uint64_t>(l.epochs);
  t.max_steps = static_cast<std::uint64_t>(l.max_steps);
  t.batch = static_cast<std::uint32_t>(l.batch);
  t.rate = l.rate;
  t.decay = l.decay;
  t.clip = l.clip;
  t.validation = l.validation;
  t.weights.codebook = l.codebook_weight;
  t.weights.commitment = l.commitment_weight;
  t.weights.sync = l.sync;
  t.weights.estimator = l.estimator == "rotation" ? nn::Estimator::rotation : nn::Estimator::straight_through;
  t.ema = l.codebook == "gradient" ? 0 : l.ema;
  t.replace_after = l.replace_after;
  t.validate();
  return t;
}

models::State load_checkpoint(const std::string& path) { return models::read_state(store::Input(path), kCheckpoint); }

void save_checkpoint(const std::string& path, const models::State& state) {
  store::Output file(path, true);
  models::write_state(file, kCheckpoint, state);
  file.commit();
}

}  // namespace

void declare(stage::Program& program, Learning& l) {
  program.option("--latent", l.latent, "vqvae: numbers of a code").range(1, 64);
  program.option("--dim", l.dim, "vqvae: width of the network").range(1, 16384);
  program.option("--layers", l.layers, "vqvae: blocks or hidden layers of the encoder, and of the decoder (0: 4 conditional, 3 plain)").range(0, 100);
  program.option("--heads", l.heads, "vqvae-conditional: attention heads; a divisor of --dim").range(1, 16384);
  program.option("--feed-forward", l.feed_forward, "vqvae-conditional: width of the feed-forward part, in units of --dim").range(1, 64);
  program.option("--dropout", l.dropout, "vqvae-conditional: probability of dropout in the feed-forward part").range(0, 0.99);
  program.option("--max-angle", l.max_angle, "vqvae: largest distance of a constituent from the axis, in eta and in phi").range(1e-3, 3.1415);
  program.option("--outside", l.outside, "vqvae: constituents beyond --max-angle get no token, or are brought to the limit").one_of({"drop", "clip"});
  program.option("--epochs", l.epochs, "vqvae: passes over the jets").range(1, 1e6);
  program.option("--max-steps", l.max_steps, "vqvae: stop after so many steps; 0: no limit").range(0, 1e12);
  program.option("--batch", l.batch, "vqvae: jets of a step").range(1, 1e6);
  program.option("--lr", l.rate, "vqvae: largest learning rate of a one-cycle schedule").range(0, 10);
  program.option("--decay", l.decay, "vqvae: weight decay of the matrices").range(0, 10);
  program.option("--clip", l.clip, "vqvae: largest norm of the gradient; 0: no limit").range(0, 1e9);
  program.option("--validation", l.validation, "vqvae: fraction of the jets that is not trained on but measures the reconstruction").range(0, 0.99);
  program.option("--codebook", l.codebook, "vqvae: codes are moving averages of what chose them, or follow the gradient").one_of({"ema", "gradient"});
  program.option("--ema", l.ema, "vqvae: share of the old average that codes keep in each step").range(0.01, 0.999999);
  program.option("--codebook-weight", l.codebook_weight, "vqvae, --codebook gradient: factor of the loss that pulls codes to what chose them").range(0, 1e6);
  program.option("--commitment-weight", l.commitment_weight, "vqvae: factor of the loss that pulls the encoder to its codes").range(0, 1e6);
  program.option("--sync", l.sync, "vqvae, --codebook gradient: share of the reconstruction's gradient that codes get too").range(0, 100);
  program.option("--estimator", l.estimator, "vqvae: how the gradient passes the codebook").one_of({"straight-through", "rotation"});
  program.option("--replace-after", l.replace_after, "vqvae: steps without use before a code gets a new place; 0: never, -1: chosen by the size of a step")
      .range(-1, 1e9);
  program.option("--resume", l.resume, "vqvae: go on from this checkpoint, to the bits of a fit without interruption").input_file();
  program.option("--checkpoint", l.checkpoint, "vqvae: file for checkpoints; default: the name of --save with .part.h5 behind it").output_file().no_effect();
  program.option("--checkpoint-every", l.checkpoint_every, "vqvae: steps between checkpoints; 0: only when asked to stop").range(0, 1e12).no_effect();
}

models::Fitted learn(stage::Context& context, const models::FitOptions& options, const Learning& l, std::uint32_t codes, const models::FitSample& sample,
                     const std::string& save) {
  const models::VqVaeConfig network = network_of(l, options.kind == models::TokenizerKind::vqvae_conditional, codes);
  const models::VqVaeTraining training = training_of(l, context.seed());
  const std::string checkpoint = l.checkpoint.empty() ? save + ".part.h5" : l.checkpoint;
  const models::LearnedFit fit(options, network, sample);
  Pool& pool = context.pool();
  std::optional<models::VqVaeTrainer> trainer;
  if (l.resume.empty()) {
    trainer.emplace(network, training, pool);
  } else {
    try {
      trainer.emplace(load_checkpoint(l.resume), network, training, pool);
    } catch (const Error& e) {
      if (std::string_view(e.what()).find(l.resume) != std::string_view::npos) throw;
      fail(e.code(), "'{}': {}", l.resume, e.what());
    }
  }
  trainer->attach(fit.jets());
  log::info("{} jets to train on, {} to validate with, {} steps, codes without use for {} steps are replaced", trainer->training_jets(),
            trainer->validation_jets(), trainer->planned_steps(), trainer->replace_after());

  Progress& progress = context.progress();
  const std::uint64_t left = trainer->planned_steps() - std::min(trainer->planned_steps(), trainer->steps());
  progress.total(progress.events() + left * trainer->training_jets() / trainer->steps_per_epoch());
  const double started = progress.seconds();
  double loss = std::nan(""), validation = std::nan("");
  std::uint64_t constituents = 0;
  while (const auto advance = trainer->advance()) {
    const models::VqVaeStep& s = advance->step;
    constituents += s.constituents;
    loss = std::isnan(loss) ? s.reconstruction : 0.95 * loss + 0.05 * s.reconstruction;
    progress.add(s.jets, s.constituents * models::kVqFeatures * sizeof(float));
    const double rate = static_cast<double>(constituents) / std::max(progress.seconds() - started, 1e-3);
    progress.note(fmt::format("error {:.5f}{}, {} of {} codes, perplexity {:.0f}, {:.0f} constituents/s", loss,
                              std::isnan(validation) ? std::string() : fmt::format(", validation {:.5f}", validation), s.used, codes, s.perplexity, rate));
    if (trainer->steps() % 10 == 0)
      progress.metric({{"step", trainer->steps()},
                       {"loss", s.loss},
                       {"reconstruction", s.reconstruction},
                       {"quantisation", s.quantisation},
                       {"gradient_norm", s.gradient_norm},
                       {"rate", s.rate},
                       {"codes_used", s.used},
                       {"perplexity", s.perplexity},
                       {"replaced", s.replaced},
                       {"constituents_per_second", rate}});
    if (const auto& e = advance->epoch) {
      nlohmann::json line = {
          {"epoch_done", e->epoch}, {"step", trainer->steps()},    {"training_loss", e->loss}, {"training_reconstruction", e->reconstruction},
          {"codes_used", e->used},  {"perplexity", e->perplexity}, {"replaced", e->replaced}};
      if (trainer->validation_jets() > 0) {
        validation = e->validation;
        line["validation_reconstruction"] = validation;
        line["best"] = e->best;
      }
      progress.metric(line);
      log::info("epoch {}: error {:.5f}, validation {:.5f}{}, {} of {} codes, perplexity {:.1f}, {} replaced", e->epoch + 1, e->reconstruction, e->validation,
                e->best ? " (best)" : "", e->used, codes, e->perplexity, e->replaced);
    }
    const int asked = signals::pending();
    const bool due = l.checkpoint_every > 0 && trainer->steps() % static_cast<std::uint64_t>(l.checkpoint_every) == 0;
    if (asked != 0 || due) save_checkpoint(checkpoint, trainer->state());
    if (asked == 0) continue;
    log::warn("stopped after {} steps; go on with --resume {}", trainer->steps(), checkpoint);
    throw Interrupted(asked);
  }
  models::Fitted fitted = fit.finish(trainer->result(), pool);
  if (trainer->validation_jets() > 0)
    fitted.notes.push_back(fmt::format("{} steps; mean squared error of the scaled features on {} validation jets {:.6f}", trainer->steps(),
                                       trainer->validation_jets(), trainer->best_validation()));
  std::error_code ignored;
  if (l.checkpoint_every > 0 || l.resume == checkpoint) std::filesystem::remove(checkpoint, ignored);
  return fitted;
}

}  // namespace bl::tokenize
