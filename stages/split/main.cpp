// bl-split: parts of a stream, each to its own file: at random by event, or by process.
#include <algorithm>
#include <charconv>
#include <map>

#include "base/files.hpp"
#include "schema/schema.hpp"
#include "stage/program.hpp"

namespace {

struct Part {
  std::string path;
  double fraction = 0;
};

// "train.bl=0.6"
Part parse_part(const std::string& text) {
  const auto eq = text.rfind('=');
  Part part;
  part.path = text.substr(0, eq);
  const char* end = text.data() + text.size();
  if (eq == std::string::npos || part.path.empty() || std::from_chars(text.data() + eq + 1, end, part.fraction).ptr != end || !(part.fraction > 0) ||
      part.fraction > 1)
    bl::fail(bl::Exit::usage, "--parts '{}' must be FILE=FRACTION with a fraction above 0 and at most 1, e.g. train.bl=0.6", text);
  return part;
}

}  // namespace

int main(int argc, char** argv) {
  bl::stage::Program program("bl-split", "Parts of a stream, each to its own file");
  std::vector<std::string> parts_text;
  std::string by_process;
  std::vector<std::string> schemas;
  for (const auto* s : bl::schema::all()) schemas.push_back(s->id());
  program.reads(schemas);
  program.option("--parts", parts_text, "FILE=FRACTION for each part; fractions add up to at most 1, the rest is dropped").output_file();
  program.option("--by-process", by_process, "Folder for one file a process, NAME.bl").output_file().no_effect();
  program.note("Which event goes where",
               "An event's part is a function of the seed, its event_id and its event_index. For jets (particles) it is a function of the seed and "
               "event_id alone, so that the jets of one event stay together.");
  program.example("bl-split --seed 3 --parts train.bl=0.6,cr.bl=0.2,sr.bl=0.2 --in background.bl", "training, control and signal regions");
  program.example("bl-split --by-process parts --in events.bl", "one file for each process");
  return program.run(argc, argv, [&](bl::stage::Context& context) {
    if (parts_text.empty() == by_process.empty()) bl::fail(bl::Exit::usage, "give either --parts FILE=FRACTION,… or --by-process FOLDER");
    std::vector<Part> parts;
    double sum = 0;
    for (const auto& text : parts_text) {
      parts.push_back(parse_part(text));
      sum += parts.back().fraction;
    }
    if (sum > 1 + 1e-9) bl::fail(bl::Exit::usage, "--parts: the fractions add up to {}, more than 1", sum);

    if (!by_process.empty()) bl::make_folder_of(by_process + "/any");

    const auto reader = context.open_reader();
    const bool jets = reader->schema().starts_with("particles/");
    struct Open {
      std::unique_ptr<bl::stage::Writer> writer;
      std::uint64_t seq = 0;
    };
    std::map<std::string, Open> open;
    const auto open_part = [&](const std::string& path) -> Open& {
      Open& o = open[path];
      if (!o.writer) o.writer = context.open_writer_to(path, reader->schema(), reader.get(), {{"part", path.substr(path.rfind('/') + 1)}});
      return o;
    };
    for (const auto& part : parts) open_part(part.path);

    const bl::Rng rng = context.rng();
    while (const auto batch = reader->next()) {
      const auto ids = batch->get<std::uint64_t>("event_id"), indices = batch->get<std::uint64_t>("event_index");
      std::map<std::string, std::vector<std::uint32_t>> chosen;
      for (std::uint32_t e = 0; e < batch->events; ++e) {
        if (!by_process.empty()) {
          std::string name = batch->text("process", e);
          std::replace(name.begin(), name.end(), '/', '_');
          chosen[by_process + "/" + (name.empty() ? "unnamed" : name) + ".bl"].push_back(e);
          continue;
        }
        const double u = rng.uniform(ids[e], jets ? 0 : indices[e] + 1);
        double edge = 0;
        for (const auto& part : parts) {
          edge += part.fraction;
          if (u < edge || (&part == &parts.back() && sum > 1 - 1e-9)) {
            chosen[part.path].push_back(e);
            break;
          }
        }
      }
      for (const auto& [path, events] : chosen) {
        Open& o = open_part(path);
        bl::Batch out = bl::select(*batch, events);
        out.seq = o.seq++;
        o.writer->write(out);
      }
      reader->acknowledge(batch->seq);
    }
    for (auto& [path, o] : open) o.writer->finish();
    reader->close();
  });
}
