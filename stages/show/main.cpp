// bl-show: what is in a stream, a tokenizer or a model.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "schema/schema.hpp"
#include "show/artefact.hpp"
#include "show/show.hpp"
#include "stage/program.hpp"

namespace {

// A pager or `head` that closes its end is no failure worth a message: leave as any Unix tool does.
[[noreturn]] void write_failed() {
  if (errno == EPIPE) std::_Exit(128 + SIGPIPE);
  bl::fail(bl::Exit::write, "cannot write standard output: {}", bl::errno_text(errno));
}
void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) write_failed();
}
void flush() {
  if (std::fflush(stdout) != 0) write_failed();
}

}  // namespace

int main(int argc, char** argv) {
  bl::stage::Program program("bl-show", "What a stream, a tokenizer or a model holds");
  bool json = false, csv = false, digest = false;
  int events = -1;
  std::vector<std::string> schemas;
  for (const auto* s : bl::schema::all()) schemas.push_back(s->id());
  program.reads(schemas).positional();
  program.option("--json", json, "Print everything as one JSON object");
  program.option("--csv", csv, "Print the events as CSV: every one, or the first --events");
  program.option("--digest", digest, "Print only an order-free digest of the payload: the same whatever the batching, the transport and the history");
  program.option("--events", events, "Number of events to print; -1: the first 3, or all of them as CSV").range(-1, 1e9);
  program.example("bl-show events.bl", "schema, history, counts, ranges and the first events");
  program.example("bl-show --digest events.bl", "compare two streams by what they hold");
  program.example("bl-show --csv events.bl > events.csv", "all events for a spreadsheet");
  program.example("bl-show --json model.h5", "configuration and weights of a model");
  return program.run(argc, argv, [&](bl::stage::Context& context) {
    if (int{json} + int{csv} + int{digest} > 1) bl::fail(bl::Exit::usage, "--json, --csv and --digest exclude each other");
    if (bl::show::is_artefact(context.in())) {
      if (csv) bl::fail(bl::Exit::usage, "--csv prints events; '{}' is a tokenizer or model: use --json", context.in());
      const bl::show::Artefact artefact = bl::show::read_artefact(context.in());
      print(digest ? artefact.digest + "\n" : json ? artefact.json.dump(2) + "\n" : artefact.text);
      flush();
      return;
    }
    const auto reader = context.open_reader();
    bl::show::StreamSummary summary;
    summary.path = reader->where();
    summary.hello = reader->hello();
    summary.stream = reader->stream();
    const std::uint32_t keep = csv || digest ? 0 : events < 0 ? 3 : static_cast<std::uint32_t>(events);
    const std::uint64_t wanted = events < 0 ? UINT64_MAX : static_cast<std::uint64_t>(events);
    bool header = false;
    std::uint64_t printed = 0;
    while (const auto batch = reader->next()) {
      if (csv) {
        if (!header) print(bl::show::csv_header(*batch));
        header = true;
        const std::uint64_t here = std::min<std::uint64_t>(wanted - printed, batch->events);
        print(bl::show::csv_lines(*batch, static_cast<std::uint32_t>(here)));
        printed += here;
        reader->acknowledge(batch->seq);
        if (printed == wanted) {
          reader->stop();
          flush();
          return;
        }
        continue;
      }
      summary.add(*batch, keep);
      reader->acknowledge(batch->seq);
    }
    reader->close();
    if (digest) print(summary.digest.text() + "\n");
    else if (json) print(bl::show::to_json(summary, keep).dump(2) + "\n");
    else if (!csv) print(bl::show::to_text(summary, keep));
    flush();
  });
}
