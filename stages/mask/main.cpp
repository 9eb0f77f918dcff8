// bl-mask: which tokens of each event are hidden, as a column.
#include <nlohmann/json.hpp>

#include "base/files.hpp"
#include "base/log.hpp"
#include "mask/mask.hpp"
#include "models/tokenizer.hpp"
#include "stage/program.hpp"

int main(int argc, char** argv) {
  namespace models = bl::models;
  bl::stage::Program program("bl-mask", "Hide some tokens of each event and keep them as targets");
  std::string mode = "one", report;
  std::vector<std::string> types;
  double fraction = 0.15, from = 0.1, to = 1.0, radius = 1.0;
  int k = 1;
  std::int64_t ramp_events = 100'000;
  bool extras = false;
  program.reads({"tokens/1", "tokens/2"}).writes({"masked/1"}).parallel();
  program.option("--mode", mode, "Which tokens are hidden: see Modes").one_of(models::mask_modes());
  program.option("--fraction", fraction, "fraction: of the tokens of each event").range(0, 1);
  program.option("--from", from, "ramp: fraction at the first event").range(0, 1);
  program.option("--to", to, "ramp: fraction at the end of the ramp").range(0, 1);
  program.option("--ramp-events", ramp_events, "ramp: event_index at which the ramp ends").range(1, 1e15);
  program.option("--k", k, "hardest, softest, rank: particles hidden; knn: neighbours hidden beside the particle").range(1, 65535);
  program.option("--radius", radius, "radius: hide all within this distance in (eta, phi)").range(0, 100);
  program.option("--types", types, "type: categories hidden, of j,b,e-,e+,m-,m+,g,tau-,tau+,constituent");
  program.option("--extras", extras, "one, each, fraction, ramp: event-level tokens may be hidden too");
  program.option("--report", report, "Write the counts as JSON").output_file();
  program.note("Modes",
               "one: one particle at random. each: every particle in turn, the event is written once for each. fraction: a random share, at least "
               "one. ramp: a share that grows with event_index. hardest, softest: k particles by pt. rank: k at random, harder ones more often. knn: "
               "a particle and its k nearest. radius: a particle and all near it. type: all particles of the categories listed.");
  program.example("bl-mask --mode one --in tokens.bl --out masked.bl", "hide one particle of each event");
  program.example("bl-mask --mode fraction --fraction 0.3 --extras --in tokens.bl --out masked.bl", "hide 30 % of all tokens, event-level ones too");
  program.example("bl-mask --mode knn --k 3 --in tokens.bl | bl-show -", "hide a particle and its three nearest neighbours");
  return program.run(argc, argv, [&](bl::stage::Context& context) {
    bl::mask::Settings settings;
    settings.options = {models::mask_mode_named(mode), fraction, from, to, static_cast<std::uint32_t>(k), radius, {}, extras};
    settings.ramp_events = static_cast<std::uint64_t>(ramp_events);
    for (const auto& name : types) settings.options.types.push_back(models::category_named(name));
    if (!types.empty() && settings.options.mode != models::MaskMode::type) bl::fail(bl::Exit::usage, "--types belongs to --mode type, not to {}", mode);
    models::validate(settings.options);
    if (!report.empty()) bl::refuse_overwrite(report, context.force());
    const bl::Rng rng = context.rng();
    bl::mask::Counts counts;
    context.transform(
        "masked/1", [&](const bl::Batch& batch) { return bl::mask::apply(batch, settings, rng, counts); },
        [&](const bl::wire::Hello&) {
          return nlohmann::json{{"mask", bl::mask::metadata(settings, context.seed())}};
        });
    const auto summary = bl::mask::report(counts);
    if (!report.empty()) bl::write_file(report, summary.dump(1) + "\n", context.force());
    bl::log::info("{} of {} tokens hidden in {} events ({} read, {} without a target)", counts.masked.load(), counts.tokens.load(), counts.events_out.load(),
                  counts.events_in.load(), counts.without_target.load());
  });
}
