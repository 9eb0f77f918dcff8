// bl-plan: checks a pipeline, draws it, and turns it into make rules.
#include <cstdio>
#include <filesystem>

#include "plan/make.hpp"
#include "plan/plan.hpp"
#include "stage/program.hpp"

namespace {

// The folder of this program, where its companions are.
std::string own_folder() { return std::filesystem::read_symlink("/proc/self/exe").parent_path().string(); }

// A path relative to where we are when it is below it: make targets and messages are shorter, and a plan can be moved.
std::string shortest(const std::string& path) {
  const auto relative = std::filesystem::proximate(path).string();
  return relative.substr(0, 2) == ".." ? path : relative;
}

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) bl::fail(bl::Exit::write, "cannot write to standard output");
}

}  // namespace

int main(int argc, char** argv) {
  bl::stage::Program program("bl-plan", "Check a pipeline, draw it, and turn it into make rules.");
  program.reads_files("a pipeline: TOML with tables [stage.NAME] and [edge.NAME], see docs/pipelines.md").positional();
  bool check = false, draw = false;
  std::string make, folder;
  program.option("--check", check, "Only check: programs, options, files, schemas, cycles and ports (always done first)");
  program.option("--graph", draw, "Print the graph as mermaid text");
  program.option("--make", make, "Write make rules to this file (NAME.mk) and the segments to the folder NAME beside it").output_file();
  program.option("--bin", folder, "Folder of the programs, searched before PATH; default: that of bl-plan").no_effect();
  program.example("bl-plan pipelines/anomaly.toml --check", "find what is wrong before anything runs");
  program.example("bl-plan pipelines/anomaly.toml --graph", "draw the pipeline");
  program.example("bl-plan pipelines/anomaly.toml --make build/plan/anomaly.mk", "what make -f Makefile.workflow run does");

  return program.run(argc, argv, [&](bl::stage::Context& context) {
    if (context.inputs().size() != 1) bl::fail(bl::Exit::usage, "give one pipeline file, e.g. bl-plan pipelines/anomaly.toml");
    if (folder.empty()) folder = own_folder();
    if (!check && !draw && make.empty()) check = true;
    auto plan = bl::plan::make_plan(bl::plan::read_pipeline(context.inputs()[0]), shortest(folder));
    if (draw) print(bl::plan::graph(plan));
    if (!make.empty()) {
      if (make.size() < 4 || make.substr(make.size() - 3) != ".mk") bl::fail(bl::Exit::usage, "--make {}: the file must be named NAME.mk", make);
      const std::string state = make.substr(0, make.size() - 3);
      const auto bl_run = bl::plan::find_program("bl-run", shortest(folder));
      if (!bl_run) bl::fail(bl::Exit::usage, "there is no bl-run in '{}' or on PATH: build it, or name its folder with --bin", folder);
      bl::plan::write_segments(plan, state);
      bl::plan::write_if_changed(make, bl::plan::make_rules(plan, state, *bl_run));
    }
    if (check) print(fmt::format("{}: {} stages in {} segments, no problems\n", plan.pipeline.path, plan.pipeline.stages.size(), plan.segments.size()));
  });
}
