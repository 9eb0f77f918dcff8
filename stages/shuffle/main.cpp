// bl-shuffle: the events of a stream in random order.
#include <algorithm>
#include <numeric>

#include "schema/schema.hpp"
#include "stage/program.hpp"

int main(int argc, char** argv) {
  bl::stage::Program program("bl-shuffle", "The events of a stream in random order");
  std::uint64_t batch_events = 4096;
  std::vector<std::string> schemas;
  for (const auto* s : bl::schema::all()) schemas.push_back(s->id());
  program.reads(schemas).writes(schemas);
  program.option("--batch", batch_events, "Events a batch of the output").range(1, 1e6);
  program.note("Memory", "The whole stream is held in memory; the order is a function of the seed alone, whatever the batching of the input.");
  program.example("bl-shuffle --seed 7 --in a.bl,b.bl --out mixed.bl", "mix two files");
  return program.run(argc, argv, [&](bl::stage::Context& context) {
    const auto reader = context.open_reader();
    std::vector<bl::Batch> parts;
    while (auto batch = reader->next()) {
      reader->acknowledge(batch->seq);
      parts.push_back(std::move(*batch));
    }
    bl::Batch whole = bl::concat(parts);
    parts.clear();
    std::vector<std::uint32_t> order(whole.events);
    std::iota(order.begin(), order.end(), 0u);
    const bl::Rng rng = context.rng();
    for (std::uint32_t i = whole.events; i > 1; --i) std::swap(order[i - 1], order[rng.below(i, i, 0)]);
    const auto writer = context.open_writer(reader->schema(), reader.get());
    std::uint64_t seq = 0;
    for (std::size_t first = 0; first < order.size() && writer->wanted(); first += batch_events) {
      const std::size_t n = std::min<std::size_t>(batch_events, order.size() - first);
      bl::Batch out = bl::select(whole, std::span(order).subspan(first, n));
      out.seq = seq++;
      writer->write(out);
    }
    writer->finish();
    reader->close();
  });
}
