// bl-run: runs a segment that bl-plan wrote, or all segments of a pipeline in their order.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/files.hpp"
#include "plan/make.hpp"
#include "plan/run.hpp"
#include "stage/program.hpp"

namespace {

std::string own_folder() { return std::filesystem::read_symlink("/proc/self/exe").parent_path().string(); }

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) bl::fail(bl::Exit::write, "cannot write to standard output");
}

void run_one(const bl::plan::Segment& segment, const std::string& done, const bl::plan::RunOptions& options) {
  const auto report = bl::plan::run_segment(segment, done, options);
  if (report.unchanged) {
    print(fmt::format("{}/{}: unchanged\n", segment.pipeline, segment.name));
    return;
  }
  print(fmt::format("{}/{}\n{}", segment.pipeline, segment.name, bl::plan::table(report)));
  if (report.signal != 0) throw bl::Interrupted(report.signal);
  if (report.root < 0) return;
  const int code = report.outcomes[static_cast<std::size_t>(report.root)].code;
  bl::fail(report.late.empty() ? static_cast<bl::Exit>(code) : bl::Exit::failed, "{}", bl::plan::verdict(report, segment));
}

}  // namespace

int main(int argc, char** argv) {
  bl::stage::Program program("bl-run", "Run a segment of a pipeline, or a whole pipeline, and say what came of it.");
  program.reads_files("a segment written by bl-plan (NAME.json), or a pipeline (NAME.toml)").positional();
  bl::plan::RunOptions options;
  std::string state = "build/plan", folder;
  program.option("--state", state, "For a pipeline: folder where segments and what they made are recorded").no_effect();
  program.option("--bin", folder, "For a pipeline: folder of the programs, searched before PATH; default: that of bl-run").no_effect();
  program.option("--settle", options.settle, "Seconds that the others get to end by themselves after one has failed").range(0, 3600).no_effect();
  program.option("--grace", options.grace, "Seconds between SIGTERM and SIGKILL").range(0, 86400).no_effect();
  program.note("Exit code", "That of the root cause: the first stage that ended with another code than 0, 5 (reader lost) and 6 (writer lost).");
  program.example("bl-run pipelines/anomaly.toml", "run what has changed since the last time");
  program.example("bl-run build/plan/anomaly/mask.json", "run one segment");

  return program.run(argc, argv, [&](bl::stage::Context& context) {
    if (context.inputs().size() != 1) bl::fail(bl::Exit::usage, "give one segment or pipeline, e.g. bl-run pipelines/anomaly.toml");
    const std::string file = context.inputs()[0];
    const std::filesystem::path path(file);
    if (path.extension() == ".json") {
      const auto json = nlohmann::json::parse(bl::read_file(file), nullptr, false);
      if (json.is_discarded()) bl::fail(bl::Exit::input, "{}: is not JSON: write it again with bl-plan --make", file);
      run_one(bl::plan::segment_from_json(json, file), (path.parent_path() / path.stem()).string() + ".done", options);
      return;
    }
    if (folder.empty()) folder = own_folder();
    auto plan = bl::plan::make_plan(bl::plan::read_pipeline(file), folder);
    const std::string place = state + "/" + path.stem().string();
    bl::plan::write_segments(plan, place);
    for (const auto& segment : plan.segments) {
      context.stop_if_asked();
      run_one(segment, place + "/" + segment.name + ".done", options);
    }
  });
}
