#include "stage/context.hpp"

#include <unistd.h>

#include <sys/stat.h>

#include <chrono>
#include <thread>

#include "base/hash.hpp"
#include "base/signals.hpp"
#include "schema/schema.hpp"
#include "stage/impl.hpp"
#include "wire/batch.hpp"

namespace bl::stage {

struct Reader::Impl {
  std::shared_ptr<transport::Source> source;
  wire::Hello hello;
  const schema::Schema* schema = nullptr;
  std::uint64_t stream = 0;
  Context::Impl* context = nullptr;
  bool ended = false;
};

Reader::Reader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Reader::~Reader() = default;
const wire::Hello& Reader::hello() const { return impl_->hello; }
std::string Reader::schema() const { return impl_->schema->id(); }
const std::string& Reader::where() const { return impl_->source->name(); }
std::uint64_t Reader::stream() const { return impl_->stream; }
bool Reader::replayable() const { return impl_->source->replayable(); }

std::optional<Batch> Reader::next() {
  auto& r = *impl_;
  if (r.ended) return std::nullopt;
  // Acknowledgements from downstream are what frees credit upstream: they are handled while we wait for input.
  for (int idle = 0; !r.source->ready(); ++idle) {
    signals::throw_if_pending();
    for (auto& sink : r.context->sinks) sink->poll();
    std::this_thread::sleep_for(std::chrono::microseconds(idle < 20 ? 50 : idle < 200 ? 500 : 2000));
  }
  auto frame = r.source->read();
  if (!frame) {
    r.ended = true;
    return std::nullopt;
  }
  if (frame->kind != wire::Kind::batch) fail(Exit::input, "{}: {} where a batch was expected", where(), wire::name_of(frame->kind));
  Batch batch = wire::decode(frame->body, frame->seq, where());
  if (batch.events != frame->count) fail(Exit::input, "{}: batch {} holds {} events, its header says {}", where(), frame->seq, batch.events, frame->count);
  if (const auto bad = schema::violation(*r.schema, batch)) fail(Exit::input, "{}: batch {}: {}", where(), batch.seq, *bad);
  if (r.context->progress) r.context->progress->add(batch.events, frame->body.size());
  return batch;
}

bool Reader::ready() { return impl_->source->ready(); }
void Reader::acknowledge(std::uint64_t seq) { impl_->source->acknowledge(impl_->stream, seq); }
void Reader::stop() noexcept {
  impl_->ended = true;
  impl_->source->stop();
}
void Reader::close() { impl_->source->close(); }

struct Writer::Impl {
  std::shared_ptr<transport::Sink> sink;
  const schema::Schema* schema = nullptr;
  std::uint64_t stream = 0;
  Progress* progress = nullptr;
  std::function<void(std::uint64_t)> acknowledged;
  ~Impl() {
    if (sink) sink->on_acknowledged(nullptr);  // the stream may outlive us
  }
};

Writer::Writer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Writer::~Writer() = default;

void Writer::write(const Batch& batch) {
  auto& w = *impl_;
  schema::check(*w.schema, batch, w.sink->name());
  wire::Frame frame;
  frame.kind = wire::Kind::batch;
  frame.stream = w.stream;
  frame.seq = batch.seq;
  frame.schema = w.schema->hash;
  frame.count = batch.events;
  frame.body = wire::encode(batch);
  if (w.progress) w.progress->add(batch.events, frame.body.size());
  w.sink->write(frame);
}
void Writer::finish() { impl_->sink->finish(); }
void Writer::abort(std::string_view why) noexcept { impl_->sink->abort(why); }
bool Writer::wanted() const {
  impl_->sink->poll();
  return !impl_->sink->stopped();
}
void Writer::on_acknowledged(std::function<void(std::uint64_t)> call) {
  impl_->acknowledged = std::move(call);
  impl_->sink->on_acknowledged([&w = *impl_](std::uint64_t, std::uint64_t seq) { w.acknowledged(seq); });
}

void Writer::relays(Reader& reader) { impl_->sink->relays(*reader.impl_->source); }

const std::string& Context::name() const { return impl_.program.name; }
std::uint64_t Context::seed() const { return impl_.program.seed; }
std::size_t Context::threads() const { return static_cast<std::size_t>(impl_.program.threads); }
bool Context::force() const { return impl_.program.force; }
const std::string& Context::in() const { return impl_.program.in; }
const std::vector<std::string>& Context::inputs() const { return impl_.program.inputs; }
const std::string& Context::out() const { return impl_.program.out; }
Rng Context::rng() const { return Rng(seed(), name()); }
Pool& Context::pool() {
  if (!impl_.pool) impl_.pool = std::make_unique<Pool>(threads());
  return *impl_.pool;
}
Progress& Context::progress() { return *impl_.progress; }
// NOLINTNEXTLINE(readability-convert-member-functions-to-static): a stage asks its context, whatever that looks at
void Context::stop_if_asked() const { signals::throw_if_pending(); }
void Context::depends_on(const std::string& path) { impl_.dependencies[path] = hex(hash_file(path)); }

nlohmann::json Context::history_entry() const {
  const auto& p = impl_.program;
  nlohmann::json options = nlohmann::json::object(), inputs = nlohmann::json::array();
  for (const auto& o : p.options)
    if (o.flag != "--seed" && (o.effect || o.role == Role::input_file || o.flag == "--in")) options[o.key()] = o.value();
  for (const auto& [path, hash] : impl_.dependencies) inputs.push_back({{"path", path}, {"hash", hash}});
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  return {{"stage", p.name}, {"version", BEAMLINE_VERSION}, {"options", options}, {"seed", p.seed}, {"inputs", inputs}, {"host", host}};
}

namespace {

// The part of a history entry that decides what a stage writes: not the host, not where files lie.
std::uint64_t identity(const Context::Impl& impl) {
  const auto& p = impl.program;
  nlohmann::json id = {p.name, BEAMLINE_VERSION, p.seed};
  for (const auto& o : p.options)
    if (o.effect) id.push_back({o.key(), o.value()});
  for (const auto& [path, hash] : impl.dependencies) id.push_back(hash);
  return hash64(id.dump());
}

}  // namespace

std::unique_ptr<Reader> Context::open_reader() { return open_reader(in(), impl_.program.reads); }

std::unique_ptr<Reader> Context::open_reader(const std::string& endpoint, const std::vector<std::string>& schemas) {
  auto r = std::make_unique<Reader::Impl>();
  r->source = transport::open_source(endpoint);
  Context::Impl::keep(impl_.sources, r->source);
  const auto frame = r->source->read();
  const std::string& where = r->source->name();
  if (!frame || frame->kind != wire::Kind::hello) fail(Exit::input, "{} does not start with HELLO", where);
  r->hello = wire::read_hello(*frame, where);
  r->stream = frame->stream;
  std::string why, wanted;
  for (const auto& id : schemas) {
    const auto& candidate = schema::get(id);
    const auto reason = schema::incompatible(candidate, r->hello.schema, r->hello.schema_hash);
    if (!reason) r->schema = &candidate;
    // the reason of the schema that has the right name says more than "expected something else"
    if (reason && (why.empty() || r->hello.schema.substr(0, r->hello.schema.rfind('/')) == candidate.name)) why = *reason;
    wanted += (wanted.empty() ? "" : " or ") + id;
  }
  if (!r->schema) {
    if (schemas.size() > 1 && why.find("expected") != std::string::npos) why = fmt::format("holds '{}', expected {}", r->hello.schema, wanted);
    fail(Exit::input, "{} {}", where, why);
  }
  r->context = &impl_;
  impl_.streams_read.push_back(hex(r->stream));
  struct stat info {};
  if (::stat(endpoint.c_str(), &info) == 0 && S_ISREG(info.st_mode)) impl_.progress->total_bytes(static_cast<std::uint64_t>(info.st_size));
  return std::make_unique<Reader>(std::move(r));
}

std::unique_ptr<Writer> Context::open_writer(std::string_view schema, const Reader* from, const nlohmann::json& meta) {
  return open_writer_to(out(), schema, from, meta);
}

std::unique_ptr<Writer> Context::open_writer_to(const std::string& endpoint, std::string_view schema, const Reader* from, const nlohmann::json& meta) {
  auto w = std::make_unique<Writer::Impl>();
  w->schema = &schema::get(schema);
  w->sink = transport::open_sink(endpoint, {force()});
  Context::Impl::keep(impl_.sinks, w->sink);
  wire::Hello hello;
  hello.schema = w->schema->id();
  hello.schema_hash = w->schema->hash;
  std::string ids;
  if (from) {
    hello.meta = from->hello().meta;
    hello.history = from->hello().history;
    ids = hex(from->stream());
  } else {
    for (const auto& id : impl_.streams_read) ids += id;
    w->progress = impl_.progress.get();  // a source: what it writes is its progress
  }
  hello.meta.update(meta);
  hello.history.push_back(history_entry());
  // The same inputs and options give the same stream id, so a stage that was killed and started again is recognised.
  w->stream = hash64(ids + std::string(schema), identity(impl_));
  w->sink->write(wire::hello_frame(w->stream, hello));
  return std::make_unique<Writer>(std::move(w));
}

void Context::produce(std::string_view schema, const nlohmann::json& meta, const std::function<std::optional<Batch>()>& next) {
  const auto writer = open_writer(schema, nullptr, meta);
  std::uint64_t seq = 0;
  while (writer->wanted()) {
    stop_if_asked();
    auto batch = next();
    if (!batch) break;
    batch->seq = seq++;
    writer->write(*batch);
  }
  writer->finish();
}

void Context::transform(std::string_view schema, const std::function<Batch(Batch)>& kernel, const std::function<nlohmann::json(const wire::Hello&)>& meta) {
  const auto reader = open_reader();
  const auto writer = open_writer(schema, reader.get(), meta ? meta(reader->hello()) : nlohmann::json::object());
  writer->on_acknowledged([&](std::uint64_t seq) { reader->acknowledge(seq); });
  writer->relays(*reader);
  const std::size_t width = threads();
  std::vector<Batch> group;
  bool more = true;
  while (more && writer->wanted()) {
    group.clear();
    // Only what is there already joins a group: waiting for more would stall on credit that these batches hold.
    while (group.size() < width && (group.empty() || reader->ready())) {
      auto batch = reader->next();
      if (!batch) {
        more = false;
        break;
      }
      group.push_back(std::move(*batch));
    }
    const auto work = [&](std::size_t i, std::size_t) {
      const std::uint64_t seq = group[i].seq;
      group[i] = kernel(std::move(group[i]));
      group[i].seq = seq;
    };
    if (width == 1) {
      if (!group.empty()) work(0, 0);
    } else {
      pool().run(group.size(), work);
    }
    for (const auto& batch : group) writer->write(batch);
  }
  if (!writer->wanted()) reader->stop();
  writer->finish();
  if (more) return;  // stopped early: there is no END to confirm
  reader->close();
}

void Context::consume(const std::function<bool(const Batch&)>& fold, const std::function<void(const Reader&)>& opened) {
  const auto reader = open_reader();
  if (opened) opened(*reader);
  while (const auto batch = reader->next()) {
    const bool more = fold(*batch);
    reader->acknowledge(batch->seq);
    if (!more) {
      reader->stop();
      return;
    }
  }
  reader->close();
}

}  // namespace bl::stage
