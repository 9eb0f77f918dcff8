// Source and Sink of frames. The rules are those of PROTOCOL.md: a stream ends with a counted END or an ABORT, anything
// else is an error; finish() reports, destructors do not.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "transport/endpoint.hpp"
#include "wire/frame.hpp"

namespace bl::transport {

struct Relayed;  // what the two ends of a relay tell each other; internal to sockets

class Source {
 public:
  virtual ~Source() = default;
  // HELLO first, then BATCH frames, then nullopt. nullopt comes only after END's count and digest agreed with what was
  // read. Throws Exit::upstream (no END, ABORT, peer lost), Exit::input (checksum, header), Interrupted.
  virtual std::optional<wire::Frame> read() = 0;
  // Everything made from batch (stream, seq) is safe downstream. On sockets this frees the producer's copy.
  virtual void acknowledge(std::uint64_t /*stream*/, std::uint64_t /*seq*/) {}
  // The reader's own output is complete and safe: confirms END upstream. Called after read() returned nullopt and all
  // batches were acknowledged.
  virtual void close() {}
  // The reader has had enough: the writer ends in order, without an error.
  virtual void stop() noexcept = 0;
  // The reader failed: tell upstream, best effort.
  virtual void abort(std::string_view /*why*/) noexcept {}
  // read() will not wait: a frame, the end, or an error is there. Files are always ready.
  virtual bool ready() { return true; }
  virtual bool replayable() const { return false; }  // can be opened again from the start
  // Called by Sink::relays; null where it makes no difference.
  virtual std::shared_ptr<Relayed> relayed() { return nullptr; }
  const std::string& name() const { return name_; }

 protected:
  std::string name_;  // for messages: "events.bl", "stdin", "tcp://…"
};

class Sink {
 public:
  virtual ~Sink() = default;
  // HELLO first, then batches. May block for credit. Throws Exit::write, Exit::downstream, Interrupted.
  virtual void write(const wire::Frame& frame) = 0;
  // END with count and digest; returns when the data are safe: fsync + rename, or END confirmed by every consumer.
  virtual void finish() = 0;
  virtual void abort(std::string_view why) noexcept = 0;
  // Handles what has arrived from downstream (acknowledgements, credit, stop) without blocking.
  virtual void poll() {}
  // Called from write(), poll() and finish() when a batch is safe downstream. Files and pipes: right after the write.
  void on_acknowledged(std::function<void(std::uint64_t stream, std::uint64_t seq)> call) { acknowledged_ = std::move(call); }
  // Called before the first batch is read: every batch written here is made from the one batch of `source` with the same
  // seq, and that one is acknowledged only from on_acknowledged. Such a stage holds nothing that would be lost with it:
  // it may be killed and started again. read() then handles this sink's acknowledgements while it waits. No effect
  // unless both are sockets.
  virtual void relays(Source& /*source*/) {}
  // The reader has had enough (bl-head): nothing more needs to be written, and finish() does not report an error.
  bool stopped() const { return stopped_; }
  const std::string& name() const { return name_; }

 protected:
  std::function<void(std::uint64_t, std::uint64_t)> acknowledged_;
  bool stopped_ = false;
  std::string name_;
};

struct SinkOptions {
  bool force = false;  // replace an existing file
};

// `text`: one endpoint, or several joined by commas, which are read as one stream.
std::unique_ptr<Source> open_source(std::string_view text);
std::unique_ptr<Sink> open_sink(std::string_view text, const SinkOptions& options);

}  // namespace bl::transport
