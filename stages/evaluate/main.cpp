// bl-evaluate: numbers, figures and a page on what a model does.
#include <cerrno>
#include <cstdio>

#include "base/log.hpp"
#include "evaluate/evaluation.hpp"
#include "report/folder.hpp"
#include "stage/program.hpp"

namespace {

using namespace bl;

struct Kind {
  const char* name;
  evaluate::Evaluation (*run)(const evaluate::Settings&, stage::Context&);
};
constexpr Kind kKinds[] = {
    {"generation", evaluate::generation},         {"tokens", evaluate::tokens}, {"classification", evaluate::classification},
    {"learning-curve", evaluate::learning_curve}, {"loss", evaluate::loss},
};

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    fail(Exit::write, "cannot write standard output: {}", errno_text(errno));
}

}  // namespace

int main(int argc, char** argv) {
  stage::Program program("bl-evaluate", "Measure what a model does: metrics with errors, figures, and one page that shows them");
  evaluate::Settings s;
  std::vector<std::string> kinds;
  for (const auto& kind : kKinds) kinds.emplace_back(kind.name);
  program.reads_files(
      "streams of jets (particles/1) or of a tagger's scores (scores/1), learning curves (JSON), metrics of training (JSON lines); NAME=FILE names one");
  program.option("--what", s.what, "What to evaluate; may be given as the first word").one_of(kinds).required().first_word();
  program.option("--out", s.out, "Folder of the report: report.html, report.json, figures/; evaluations of several kinds may share it").output_file();
  program.option("--reference", s.reference, "generation, tokens: true jets, a stream of particles/1 (tokens: or --in)").input_file();
  program.option("--bins", s.bins, "generation: bins of the divergences").range(2, 1000);
  program.option("--replicas", s.replicas, "generation: random halves of the reference for floors and errors").range(2, 10000);
  program.option("--max-jets", s.max_jets, "generation, tokens: draw so many jets (of either side); 0: take all").range(0, 1e9);
  program
      .option(
          "--draws", s.draws,
          "generation: rows drawn for FPD and for W1 by JetNet's recipe; KPD draws a tenth, COV and MMD 1 of 500. Fewer are faster, but published values are "
          "of 50,000")
      .range(1000, 1e7);
  program.option("--tokenizer", s.tokenizers, "tokens: files of bl-tokenize --fit; NAME=FILE,… names them");
  program
      .option(
          "--classifiers", s.classifiers,
          "Networks trained on constituents. generation: to tell generated jets from true ones (auto: deep-sets); tokens: to tell processes apart before and "
          "after, minutes (auto: none)")
      .one_of({"auto", "none", "deep-sets", "transformer", "both"});
  program.option("--classes", s.classes,
                 "tokens: what classifiers tell apart: NAME=PROCESS+PROCESS or PROCESS, e.g. top=Tbqq,qcd=q+g; default: every process of the stream");
  program.option("--seeds", s.seeds, "generation, tokens: trainings of every classifier").range(1, 1000);
  program.option("--efficiencies", s.efficiencies, "classification: signal efficiencies at which the background rejection is given");
  program.option("--weights", s.weights, "classification: count every jet by its weight, not once");
  program.option("--method", s.method, "learning-curve: mode that the others are compared with");
  program.example("bl-evaluate generation --reference jets.bl --in generated.bl --out report/", "are generated jets like true ones?");
  program.example("bl-evaluate tokens --reference jets.bl --tokenizer small=tok512.h5,large=tok8192.h5 --out report/", "what do tokens keep of a jet?");
  program.example("bl-evaluate tokens --reference jets.bl --tokenizer tok.h5 --classifiers both --seeds 5 --out report/",
                  "and what do they keep for a classifier?");
  program.example("bl-evaluate classification --in scores.bl --out report/", "accuracy, ROC curves and rejection of a tagger");
  program.example("bl-evaluate classification --in full=full1.bl,full=full2.bl,scratch=scratch1.bl --out compared/",
                  "compare taggers; files of one name are its seeds");
  program.example("bl-evaluate learning-curve --in curve.json --out report/", "how many labelled jets does pre-training save?");
  program.example("bl-evaluate loss --in train.jsonl --out report/", "loss curves of bl-train --metrics train.jsonl");
  return program.run(argc, argv, [&](stage::Context& context) {
    if (s.out.empty()) fail(Exit::usage, "--out FOLDER is required: where the report goes");
    report::require_writable(s.out, s.what, context.force());
    for (const auto& kind : kKinds) {
      if (s.what != kind.name) continue;
      evaluate::Evaluation result = kind.run(s, context);
      for (const auto& warning : result.warnings) log::warn("{}", warning);
      print(result.text);
      for (const auto& warning : report::write_report(s.out, result.section, result.numbers, context.force())) log::warn("{}", warning);
    }
  });
}
