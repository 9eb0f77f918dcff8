#include "train/input.hpp"

#include <string_view>

#include "base/error.hpp"
#include "wire/batch.hpp"

namespace bl::train {
namespace {

// What rank 0 has for the others. The body of a batch follows.
struct Announcement {
  enum class Kind : std::uint64_t { batch, end, interrupted } kind = Kind::end;
  std::uint64_t seq = 0;
  std::uint64_t bytes = 0;  // of the body; interrupted: the signal
};

}  // namespace

Input::Input(stage::Context& context, dist::Communicator& ranks) : ranks_(ranks) {
  wire::Frame frame;
  if (ranks_.rank() == 0) {
    reader_ = context.open_reader();
    hello_ = reader_->hello();
    where_ = reader_->where();
    replayable_ = reader_->replayable();
  }
  if (ranks_.size() == 1) return;
  where_ = ranks_.broadcast(where_);
  replayable_ = ranks_.broadcast(replayable_);
  if (reader_) frame = wire::hello_frame(reader_->stream(), hello_);
  const auto bytes = ranks_.broadcast(std::uint64_t{frame.body.size()});
  if (!reader_) frame.body = Buffer(bytes);
  ranks_.broadcast(frame.body.edit(), bytes);
  if (!reader_) hello_ = wire::read_hello(frame, where_);
}

std::optional<Batch> Input::next() {
  if (ranks_.size() == 1) return reader_->next();
  Announcement a;
  std::optional<Batch> batch;
  Buffer body;
  if (reader_) {
    try {
      batch = reader_->next();
    } catch (const Interrupted& e) {
      ranks_.broadcast(Announcement{Announcement::Kind::interrupted, 0, static_cast<std::uint64_t>(e.signal())});
      throw;
    }
    if (batch) {
      body = wire::encode(*batch);
      a = {Announcement::Kind::batch, batch->seq, body.size()};
    }
  }
  a = ranks_.broadcast(a);
  if (a.kind == Announcement::Kind::interrupted) throw Interrupted(static_cast<int>(a.bytes));
  if (a.kind == Announcement::Kind::end) return std::nullopt;
  if (!reader_) body = Buffer(a.bytes);
  ranks_.broadcast(body.edit(), a.bytes);
  if (!reader_) batch = wire::decode(body, a.seq, where_);
  return batch;
}

void Input::acknowledge(std::uint64_t seq) {
  if (reader_) reader_->acknowledge(seq);
}
void Input::close() {
  if (reader_) reader_->close();
}
void Input::stop() noexcept {
  if (reader_) reader_->stop();
}

}  // namespace bl::train
