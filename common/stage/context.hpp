// What a running stage sees: its streams, seed, threads and progress; and the shapes of a stage (produce, transform,
// consume) as loops that own reading, checking, acknowledging, writing, END and ABORT.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/pool.hpp"
#include "base/progress.hpp"
#include "base/rng.hpp"
#include "data/batch.hpp"
#include "wire/hello.hpp"

namespace bl::stage {

class Context;

// A stream being read. Every batch is decoded and checked against its schema before next() returns it.
class Reader {
 public:
  ~Reader();
  const wire::Hello& hello() const;
  std::string schema() const;        // id, e.g. "tokens/1"
  const std::string& where() const;  // name for messages
  std::uint64_t stream() const;
  bool replayable() const;              // a file: can be opened and read again
  std::optional<Batch> next();          // nullopt after a valid END; throws Exit::input, Exit::upstream
  bool ready();                         // next() will not wait
  void acknowledge(std::uint64_t seq);  // the batch and all that was made from it is safe
  void close();                         // after the end: our own output is complete and safe, confirm END upstream
  void stop() noexcept;                 // enough: upstream ends in order, without an error

  struct Impl;
  explicit Reader(std::unique_ptr<Impl> impl);

 private:
  friend class Writer;
  std::unique_ptr<Impl> impl_;
};

// A stream being written. Batches are checked against the schema before they leave.
class Writer {
 public:
  ~Writer();                       // without finish(): ABORT, and no file under the final name
  void write(const Batch& batch);  // batch.seq must be set, each number once
  void finish();                   // END; returns when the data are safe (fsync + rename, or confirmed downstream)
  void abort(std::string_view why) noexcept;
  bool wanted() const;  // false once the reader has had enough: stop producing, finish() is then quiet
  void on_acknowledged(std::function<void(std::uint64_t seq)> call);
  // Every batch is made from the one of `reader` with its seq, and that one is acknowledged only when ours is: the stage
  // may then be killed and started again. Called before the first batch is read.
  void relays(Reader& reader);

  struct Impl;
  explicit Writer(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

class Context {
 public:
  // Settings of the run
  const std::string& name() const;
  std::uint64_t seed() const;
  std::size_t threads() const;
  bool force() const;
  const std::string& in() const;                   // the endpoint of --in
  const std::vector<std::string>& inputs() const;  // for reads_files(): every path, globs not expanded
  const std::string& out() const;
  Rng rng() const;  // keyed by seed and stage name
  Pool& pool();
  Progress& progress();
  void stop_if_asked() const;  // throws Interrupted after SIGINT or SIGTERM: call it in long loops

  // Records a file that the result depends on (path and hash) in the history; called for every input_file() option.
  void depends_on(const std::string& path);
  // This stage's history entry as it will be appended.
  nlohmann::json history_entry() const;

  // Streams
  std::unique_ptr<Reader> open_reader();  // --in, any of the declared schemas
  std::unique_ptr<Reader> open_reader(const std::string& endpoint, const std::vector<std::string>& schemas);
  // --out. `from`: the HELLO of the input (its history and metadata are carried on), or nullptr at a source.
  // meta: merged over the input's metadata.
  std::unique_ptr<Writer> open_writer(std::string_view schema, const Reader* from, const nlohmann::json& meta = nlohmann::json::object());
  std::unique_ptr<Writer> open_writer_to(const std::string& endpoint, std::string_view schema, const Reader* from,
                                         const nlohmann::json& meta = nlohmann::json::object());

  // Shapes
  // next: the next batch (seq is set here), or nullopt at the end.
  void produce(std::string_view schema, const nlohmann::json& meta, const std::function<std::optional<Batch>()>& next);
  // kernel: one batch in, one out, same seq; called from several threads at once when --threads > 1 (must not share
  // mutable state). meta: called once with the input's HELLO, returns what to merge into the metadata; may throw.
  void transform(std::string_view schema, const std::function<Batch(Batch)>& kernel, const std::function<nlohmann::json(const wire::Hello&)>& meta = nullptr);
  // fold: called in stream order for every batch; return false to stop early (upstream then ends in order).
  void consume(const std::function<bool(const Batch&)>& fold, const std::function<void(const Reader&)>& opened = nullptr);

  struct Impl;
  explicit Context(Impl& impl) : impl_(impl) {}

 private:
  Impl& impl_;
};

}  // namespace bl::stage
