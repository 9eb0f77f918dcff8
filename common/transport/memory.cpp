#include "transport/memory.hpp"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/signals.hpp"

namespace bl::transport {
namespace {

using Clock = std::chrono::steady_clock;

// What the two ends share. Everything under one mutex: this is for tests, not for speed.
struct Channel {
  std::mutex mutex;
  std::condition_variable changed;
  bool writer = false, reader = false;  // an end is, or was, open
  bool writer_gone = false, reader_gone = false;
  std::deque<wire::Frame> frames;
  std::map<std::uint64_t, std::uint64_t> flying;  // seq -> bytes: written, not acknowledged
  std::uint64_t flying_bytes = 0;
  std::deque<std::uint64_t> acknowledged;
  std::optional<wire::End> end;
  bool confirmed = false, stopped = false, hungry = false;
  std::optional<std::string> abort_down, abort_up;
};

std::mutex g_mutex;
std::map<std::string, std::weak_ptr<Channel>> g_channels;

std::shared_ptr<Channel> channel_named(const std::string& name, bool writer, const std::string& text) {
  const std::lock_guard lock(g_mutex);
  auto channel = g_channels[name].lock();
  // a channel that both ends have had is of an earlier stream
  const auto had_both = [](Channel& c) {
    const std::lock_guard held(c.mutex);
    return c.writer && c.reader;
  };
  if (!channel || had_both(*channel)) g_channels[name] = channel = std::make_shared<Channel>();
  const std::lock_guard held(channel->mutex);
  bool& mine = writer ? channel->writer : channel->reader;
  if (mine) fail(Exit::usage, "endpoint '{}' already has a {}", text, writer ? "writer" : "reader");
  mine = true;
  return channel;
}

// Waits in slices, so that a signal is seen; until: a condition under the mutex. False after `timeout`.
template <class F>
bool wait(Channel& c, std::unique_lock<std::mutex>& lock, const F& until, std::chrono::milliseconds timeout = std::chrono::hours(24 * 365)) {
  const auto limit = Clock::now() + timeout;
  while (!until()) {
    signals::throw_if_pending();
    if (Clock::now() >= limit) return false;
    c.changed.wait_for(lock, std::chrono::milliseconds(20));
  }
  return true;
}

class MemorySource final : public Source {
 public:
  explicit MemorySource(const Endpoint& e) : endpoint_(e), channel_(channel_named(e.address, false, e.text)) { name_ = e.text; }
  ~MemorySource() override {
    const std::lock_guard lock(channel_->mutex);
    channel_->reader_gone = true;
    channel_->changed.notify_all();
  }

  std::optional<wire::Frame> read() override {
    Channel& c = *channel_;
    std::unique_lock lock(c.mutex);
    if (done_ || c.stopped) return std::nullopt;
    c.hungry = true;
    c.changed.notify_all();
    if (!wait(
            c, lock, [&] { return c.writer; }, endpoint_.timeout))
      fail(Exit::upstream, "no writer opened {}", name_);
    wait(c, lock, [&] { return !c.frames.empty() || c.end || c.abort_down || c.writer_gone; });
    if (c.abort_down) fail(Exit::upstream, "{}: the writer gave up: {}", name_, *c.abort_down);
    c.hungry = false;
    if (!c.frames.empty()) {
      auto frame = std::move(c.frames.front());
      c.frames.pop_front();
      if (frame.kind == wire::Kind::batch) {
        ++sum_.batches;
        sum_.events += frame.count;
        sum_.digest += wire::end_term(frame.seq, hash64(frame.body.data(), frame.body.size()));
      }
      c.changed.notify_all();
      return frame;
    }
    if (!c.end) fail(Exit::upstream, "{}: the writer went away after {} batches without END", name_, sum_.batches);
    if (*c.end != sum_)
      fail(Exit::input, "{}: END counts {} batches with {} events, but {} with {} were read", name_, c.end->batches, c.end->events, sum_.batches, sum_.events);
    done_ = true;
    return std::nullopt;
  }

  bool ready() override {
    const std::lock_guard lock(channel_->mutex);
    const Channel& c = *channel_;
    channel_->hungry = channel_->hungry || c.frames.empty();
    channel_->changed.notify_all();
    return done_ || c.stopped || !c.frames.empty() || c.end || c.abort_down || c.writer_gone;
  }

  void acknowledge(std::uint64_t, std::uint64_t seq) override {
    Channel& c = *channel_;
    const std::lock_guard lock(c.mutex);
    const auto at = c.flying.find(seq);
    if (at == c.flying.end()) return;
    c.flying_bytes -= at->second;
    c.flying.erase(at);
    c.acknowledged.push_back(seq);
    c.changed.notify_all();
  }

  void close() override {
    const std::lock_guard lock(channel_->mutex);
    channel_->confirmed = done_;
    channel_->changed.notify_all();
  }
  void stop() noexcept override {
    const std::lock_guard lock(channel_->mutex);
    channel_->stopped = true;
    channel_->changed.notify_all();
  }
  void abort(std::string_view why) noexcept override {
    const std::lock_guard lock(channel_->mutex);
    if (!done_ && !channel_->stopped) channel_->abort_up = why;
    channel_->changed.notify_all();
  }

 private:
  Endpoint endpoint_;
  std::shared_ptr<Channel> channel_;
  wire::End sum_;
  bool done_ = false;
};

class MemorySink final : public Sink {
 public:
  explicit MemorySink(const Endpoint& e) : endpoint_(e), channel_(channel_named(e.address, true, e.text)) { name_ = e.text; }
  ~MemorySink() override {
    if (!finished_) abort("the writer stopped without finishing");
    const std::lock_guard lock(channel_->mutex);
    channel_->writer_gone = true;
    channel_->changed.notify_all();
  }

  void write(const wire::Frame& frame) override {
    Channel& c = *channel_;
    poll();
    if (stopped_) return;
    std::unique_lock lock(c.mutex);
    stream_ = frame.stream;
    if (frame.kind == wire::Kind::batch) {
      if (!wait(
              c, lock, [&] { return c.reader; }, endpoint_.timeout))
        fail(Exit::downstream, "no reader opened {}", name_);
      const std::uint64_t bytes = frame.body.size();
      while (!(c.flying.empty() || (c.flying.size() < endpoint_.credit && c.flying_bytes + bytes <= endpoint_.bytes) || (c.hungry && c.frames.empty()) ||
               c.stopped || c.abort_up || c.reader_gone)) {
        signals::throw_if_pending();
        c.changed.wait_for(lock, std::chrono::milliseconds(20));
        hand_over(lock);
      }
      lock.unlock();
      poll();
      if (stopped_) return;
      lock.lock();
      c.flying.emplace(frame.seq, bytes);
      c.flying_bytes += bytes;
      ++own_.batches;
      own_.events += frame.count;
      own_.digest += wire::end_term(frame.seq, hash64(frame.body.data(), frame.body.size()));
    }
    c.frames.push_back(frame);
    c.hungry = false;
    c.changed.notify_all();
    hand_over(lock);
  }

  void finish() override {
    if (finished_) return;
    Channel& c = *channel_;
    poll();
    std::unique_lock lock(c.mutex);
    c.end = own_;
    c.changed.notify_all();
    const auto limit = Clock::now() + endpoint_.timeout;
    while (!stopped_ && !(c.confirmed && c.flying.empty())) {
      signals::throw_if_pending();
      if (!c.reader && Clock::now() > limit) fail(Exit::downstream, "no reader opened {}", name_);
      c.changed.wait_for(lock, std::chrono::milliseconds(20));
      hand_over(lock);
      if (c.confirmed) continue;
      lock.unlock();
      poll();
      lock.lock();
    }
    hand_over(lock);
    finished_ = true;
  }

  void abort(std::string_view why) noexcept override {
    if (finished_) return;
    finished_ = true;
    const std::lock_guard lock(channel_->mutex);
    if (!channel_->stopped) channel_->abort_down = why;
    channel_->changed.notify_all();
  }

  void poll() override {
    std::unique_lock lock(channel_->mutex);
    hand_over(lock);
    if (channel_->stopped) stopped_ = true;
    if (stopped_) return;
    if (channel_->abort_up) fail(Exit::downstream, "the reader of {} failed: {}", name_, *channel_->abort_up);
    if (channel_->reader_gone && !channel_->confirmed) fail(Exit::downstream, "the reader of {} went away after {} batches", name_, own_.batches);
  }

 private:
  // Passes acknowledgements to the caller, without the mutex: it may call back into another stream.
  void hand_over(std::unique_lock<std::mutex>& lock) {
    std::deque<std::uint64_t> acknowledged;
    acknowledged.swap(channel_->acknowledged);
    lock.unlock();
    if (acknowledged_)
      for (const auto seq : acknowledged) acknowledged_(stream_, seq);
    lock.lock();
  }

  Endpoint endpoint_;
  std::shared_ptr<Channel> channel_;
  wire::End own_;
  std::uint64_t stream_ = 0;
  bool finished_ = false;
};

}  // namespace

std::unique_ptr<Source> open_memory_source(const Endpoint& endpoint) { return std::make_unique<MemorySource>(endpoint); }
std::unique_ptr<Sink> open_memory_sink(const Endpoint& endpoint, const SinkOptions&) { return std::make_unique<MemorySink>(endpoint); }

}  // namespace bl::transport
