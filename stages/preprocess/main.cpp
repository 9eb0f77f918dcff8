#include "preprocess/input.hpp"
#include "preprocess/run.hpp"
#include "stage/program.hpp"

int main(int argc, char** argv) {
  bl::stage::Program program("bl-preprocess", "Read collider events, select and transform them, write a stream.");
  bl::preprocess::Options o;
  auto formats = bl::preprocess::format_names();
  formats.insert(formats.begin(), "auto");
  program.reads_files(
      "Dark Machines and CMS text, LHC Olympics, JetNet, SPANet and jagged HDF5, or streams of objects/1 or particles/1; '-' is a stream on stdin");
  program.writes({"objects/1", "particles/1"}).parallel();
  program.option("--recipe", o.recipe, "TOML file: selection, cuts, order, transforms (docs/preprocess.md)").input_file();
  program.option("--format", o.format, "Format of the input, where its content does not tell").one_of(formats);
  program.option("--process", o.process, "Process name of every event, in place of the file's");
  program.option("--label", o.label, "Truth label of every event, in place of the file's");
  program.option("--names", o.names, "Names of the labels 0, 1, 2, …, where an HDF5 file does not name them");
  program.option("--select", o.select, "Keep events for which this holds, e.g. \"n_jets >= 4 && ht > 500\"");
  program.option("--btag-cut", o.btag_cut, "A b-tag discriminant at or above this is a b-tag");
  program.option("--skip-bad", o.skip_bad, "Skip up to this many lines or events with bad values, and count them");
  program.option("--save", o.save, "Store the fitted transforms in this file").output_file();
  program.option("--with", o.with, "Use the fitted transforms of this file").input_file();
  program.option("--invert", o.invert, "Put physical values back from the transformed features of a stream");
  program.example("bl-preprocess --in samples/darkmachines.csv --out events.bl", "read a text file");
  program.example("bl-preprocess --in a.h5,b.h5 --recipe pipelines/recipes/anomaly.toml --out events.bl", "several files, by a recipe");
  program.example("bl-preprocess --in events.bl --select \"n_bjets >= 2\" | bl-show", "cut on a stream");
  return program.run(argc, argv, [&](bl::stage::Context& context) { bl::preprocess::run(context, o); });
}
