// bl-head: the first events of a stream. Once it has them, everything upstream ends in order.
#include "schema/schema.hpp"
#include "stage/program.hpp"

int main(int argc, char** argv) {
  bl::stage::Program program("bl-head", "The first events of a stream");
  std::uint64_t n = 10;
  std::vector<std::string> schemas;
  for (const auto* s : bl::schema::all()) schemas.push_back(s->id());
  program.reads(schemas).writes(schemas);
  program.option("--n", n, "Number of events to keep");
  program.example("bl-head --n 100 --in events.bl --out few.bl", "the first hundred events");
  program.example("bl-preprocess --in FILE.csv | bl-head --n 5 | bl-show", "look at five events without reading the whole file");
  return program.run(argc, argv, [&](bl::stage::Context& context) {
    const auto reader = context.open_reader();
    const auto writer = context.open_writer(reader->schema(), reader.get());
    writer->on_acknowledged([&](std::uint64_t seq) { reader->acknowledge(seq); });
    std::uint64_t left = n;
    while (left > 0 && writer->wanted()) {
      auto batch = reader->next();
      if (!batch) {
        writer->finish();
        reader->close();
        return;
      }
      if (batch->events > left) {
        const std::uint64_t seq = batch->seq;
        *batch = bl::slice(*batch, 0, static_cast<std::uint32_t>(left));
        batch->seq = seq;
      }
      left -= batch->events;
      writer->write(*batch);
    }
    reader->stop();
    writer->finish();
  });
}
