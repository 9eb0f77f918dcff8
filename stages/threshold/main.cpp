// bl-threshold: where to cut on a score, fitted in a control region; then what a signal region holds beyond the cut.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "base/files.hpp"
#include "base/log.hpp"
#include "stage/program.hpp"
#include "threshold/fit.hpp"
#include "threshold/report.hpp"

namespace {

using namespace bl;
using namespace bl::threshold;

struct Settings {
  bool fit = false, no_weights = false;
  std::string save, with, score = "mean_logp", objective = "youden", orientation = "auto", report, table, model_name, channel = "-";
  double background_efficiency = 0.01, min_background = 10;
  std::vector<std::string> signal, background;
  int replicas = 200, bins = 4, top = 10;
};

// Where the report goes: a folder, or one JSON file.
std::vector<std::string> report_files(const std::string& report) {
  if (report.empty()) return {};
  if (report.back() == '/' || std::filesystem::is_directory(report)) {
    std::vector<std::string> files;
    for (const char* name : {"report.json", "report.txt", "table.csv", "anomalies.csv", "histogram.csv"})
      files.push_back((std::filesystem::path(report) / name).string());
    return files;
  }
  return {report};
}

// Names that are taken are refused before the work, not after it.
void refuse_taken(const Settings& s, const stage::Context& context) {
  for (const auto& path : report_files(s.report)) refuse_overwrite(path, context.force());
  if (!s.table.empty()) refuse_overwrite(s.table, context.force());
  if (s.fit) refuse_overwrite(s.save, context.force());
}

void save_report(const Settings& s, const Report& report, const Events& events, const stage::Context& context) {
  const auto files = report_files(s.report);
  const std::string table = dark_machines_csv(report, s.model_name, s.channel);
  if (files.size() == 1) write_file(files[0], to_json(report, events).dump(1) + "\n", context.force());
  if (files.size() > 1) {
    std::error_code error;
    std::filesystem::create_directories(s.report, error);
    if (error) fail(Exit::write, "cannot make the folder '{}': {}", s.report, error.message());
    const std::string contents[] = {to_json(report, events).dump(1) + "\n", to_text(report, events, events.size()), table, anomalies_csv(report, events),
                                    histogram_csv(report, events)};
    for (std::size_t i = 0; i < files.size(); ++i) write_file(files[i], contents[i], context.force());
  }
  if (!s.table.empty()) write_file(s.table, table, context.force());
}

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    fail(Exit::write, "cannot write standard output: {}", errno_text(errno));
}

void run_fit(const Settings& s, stage::Context& context) {
  if (s.save.empty()) fail(Exit::usage, "--fit needs --save FILE for the threshold");
  if (context.out() != "-") fail(Exit::usage, "--fit writes no events: leave out --out, and apply the threshold with --with {}", s.save);
  if (s.replicas == 0) fail(Exit::usage, "--fit needs --bootstrap 1 or more: a threshold without an error is not worth keeping");
  Events events;
  Digest digest;
  std::string where;
  wire::Hello hello;
  context.consume(
      [&](const Batch& batch) {
        context.stop_if_asked();
        events.add(batch, where);
        digest.add(batch);
        return true;
      },
      [&](const stage::Reader& reader) {
        where = reader.where();
        hello = reader.hello();
      });
  FitOptions options;
  options.score = s.score;
  options.objective = *stats::objective_named(s.objective);
  options.background_efficiency = s.background_efficiency;
  if (s.orientation != "auto") options.side = s.orientation == "low" ? stats::Side::low : stats::Side::high;
  options.weighted = !s.no_weights;
  options.min_background = s.min_background;
  options.replicas = static_cast<std::size_t>(s.replicas);
  const auto truth = events.size() > 0 ? resolve_truth(events, s.signal, s.background, where) : std::nullopt;
  std::vector<std::string> warnings;
  Threshold threshold = threshold::fit(events, truth, options, context.rng(), context.pool(), where, warnings);
  for (const auto& w : warnings) log::warn("{}", w);
  threshold.origin = origin_of(hello, find_score(events.scores, threshold.score, where));
  threshold.digest = digest.text();
  threshold.seed = context.seed();
  threshold.history = hello.history;
  threshold.history.push_back(context.history_entry());
  Report report = make_report(events, truth, threshold, true, {options.replicas, static_cast<std::size_t>(s.bins)}, context.rng(), context.pool());
  report.notes.insert(report.notes.end(), warnings.begin(), warnings.end());
  write_file(s.save, to_json(threshold).dump(1) + "\n", context.force());
  save_report(s, report, events, context);
  print(to_text(report, events, 0));
}

void run_apply(const Settings& s, stage::Context& context) {
  if (!s.save.empty()) fail(Exit::usage, "--save belongs to --fit: --with only reads '{}'", s.with);
  const Threshold threshold = read_threshold(read_file(s.with), s.with);
  const auto reader = context.open_reader();
  const auto writer = context.open_writer("scores/1", reader.get(),
                                          {{"threshold",
                                            {{"score", threshold.score},
                                             {"orientation", stats::name_of(threshold.side)},
                                             {"threshold", threshold.threshold},
                                             {"control_region", threshold.digest}}}});
  writer->on_acknowledged([&](std::uint64_t seq) { reader->acknowledge(seq); });
  writer->relays(*reader);
  const std::string where = reader->where();
  const bool reporting = !s.report.empty() || !s.table.empty();
  std::vector<std::pair<std::uint64_t, Events>> parts;
  Digest digest;
  bool stopped = false;
  while (const auto batch = reader->next()) {
    context.stop_if_asked();
    Events part;
    part.add(*batch, where);
    std::vector<std::uint32_t> keep;
    if (batch->events > 0) {
      const ScoreColumn& column = find_score(part.scores, threshold.score, where);
      same_origin(threshold, origin_of(reader->hello(), column), where);
      const auto& score = *part.find(column.name);
      for (std::uint32_t i = 0; i < batch->events; ++i)
        if (stats::selects(threshold.side, threshold.threshold, score[i])) keep.push_back(i);
    }
    digest.add(*batch);
    parts.emplace_back(batch->seq, std::move(part));
    if (!writer->wanted()) {
      // The reader of our events has had enough; a report is about all of them all the same.
      stopped = !reporting;
      if (stopped) break;
      reader->acknowledge(batch->seq);
      continue;
    }
    Batch out = select(*batch, keep);
    out.seq = batch->seq;
    out.set("anomaly", {"event"}, std::vector<std::uint8_t>(out.events, 1));
    writer->write(out);
  }
  if (stopped) reader->stop();
  writer->finish();
  if (stopped) return;
  reader->close();
  if (!reporting && context.out() == "-") return;

  // Batches may arrive in any order; the errors of the report are drawn in the order of the events.
  std::stable_sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Events events;
  for (const auto& [seq, part] : parts) events.add(part, where);
  std::vector<std::string> notes;
  const auto truth = truth_of_region(events, threshold, s.signal, s.background, where, notes);
  Report report =
      make_report(events, truth, threshold, false, {static_cast<std::size_t>(s.replicas), static_cast<std::size_t>(s.bins)}, context.rng(), context.pool());
  report.notes.insert(report.notes.begin(), notes.begin(), notes.end());
  if (digest.events > 0 && digest.text() == threshold.digest) {
    report.notes.emplace_back("these are the events that the threshold was fitted on: every figure is too good");
    log::warn("{}", report.notes.back());
  }
  save_report(s, report, events, context);
  if (context.out() != "-") print(to_text(report, events, static_cast<std::size_t>(s.top)));
}

}  // namespace

int main(int argc, char** argv) {
  stage::Program program("bl-threshold", "Fit a cut on an anomaly score in a control region, and apply it in a signal region");
  Settings s;
  program.reads({"scores/1"}).writes({"scores/1"});
  program.option("--fit", s.fit, "Fit in the control region that --in reads, and write the threshold to --save");
  program.option("--save", s.save, "Threshold file to write").output_file();
  program.option("--with", s.with, "Threshold file to apply: the selected events go to --out").input_file();
  program.option("--score", s.score, "Score to cut on (docs/scores.md), or n_objects, ht, met");
  program.option("--objective", s.objective, "What the threshold maximises; the last one the signal efficiency at --background-efficiency")
      .one_of({"youden", "s-sqrt-b", "sic", "background-efficiency"});
  program.option("--background-efficiency", s.background_efficiency, "Largest background efficiency, for that objective").range(1e-9, 1);
  program.option("--min-background", s.min_background, "Background events that a cut must keep, for s-sqrt-b and sic").range(1, 1e12);
  program.option("--signal", s.signal, "Processes that are signal; default: label 1, or at --with those of the fit");
  program.option("--background", s.background, "Processes that are background; default: all others, or at --with those of the fit");
  program.option("--orientation", s.orientation, "End of the score where anomalies are; auto: where the control region's signal is")
      .one_of({"auto", "low", "high"});
  program.option("--no-weights", s.no_weights, "Count every event once, at the fit");
  program.option("--bootstrap", s.replicas, "Replicas for the errors").range(0, 100000);
  program.option("--bins", s.bins, "Bins of multiplicity in the report").range(1, 100);
  program.option("--report", s.report, "Report: a JSON file, or a folder (that exists, or ends in /) for report, list and tables").output_file();
  program.option("--table", s.table, "CSV of the Dark Machines challenge: Signal,Model,Chan,AUC,1e-2,1e-3,1e-4").output_file();
  program.option("--model-name", s.model_name, "Put before the scores' names in that table").no_effect();
  program.option("--channel", s.channel, "Channel in that table").no_effect();
  program.option("--top", s.top, "Anomalies to print").range(0, 1e9).no_effect();
  program.example("bl-threshold --fit --in cr.bl --save thr.json --signal 4top", "fit where the control region separates best");
  program.example("bl-threshold --with thr.json --in sr.bl --out anomalies.bl", "list what the signal region holds beyond the cut");
  program.example("bl-threshold --fit --in cr.bl --save thr.json --objective background-efficiency --background-efficiency 1e-3 --orientation low",
                  "without signal in the control region: keep one background event in a thousand");
  program.note("Blinding",
               "Labels of a signal region are looked at only with --with, when the threshold is already a file: there is no option "
               "that computes an AUC or an efficiency of a region without one, except for the control region during --fit.");
  return program.run(argc, argv, [&](stage::Context& context) {
    if (s.fit && !s.with.empty()) fail(Exit::usage, "--fit and --with exclude each other: fit in the control region first, then apply");
    if (!s.fit && s.with.empty())
      fail(Exit::usage, "give --fit with --save to fit a threshold in the control region, or --with to apply one in the signal region");
    refuse_taken(s, context);
    s.fit ? run_fit(s, context) : run_apply(s, context);
  });
}
