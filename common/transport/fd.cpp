#include "transport/fd.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "base/signals.hpp"
#include "wire/hello.hpp"

namespace bl::transport {
namespace {

constexpr int kPipeSize = 1 << 20;  // the 64 KiB default falls to a tenth of the throughput

bool is_pipe(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 && S_ISFIFO(info.st_mode);
}

// An anonymous pipe has one inode for both ends, and its mode is visible from either: the sticky bit on it means "the
// reader has had enough". A named FIFO is left alone, its mode would stay behind in the file system.
bool is_anonymous_pipe(int fd) {
  char target[64] = {};
  const ssize_t n = ::readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), target, sizeof target - 1);
  return n > 0 && std::string_view(target).substr(0, 5) == "pipe:";
}

void wait_for(int fd, short events) {
  pollfd fds[2] = {{fd, events, 0}, {signals::fd(), POLLIN, 0}};
  for (;;) {
    signals::throw_if_pending();
    const int n = ::poll(fds, signals::fd() >= 0 ? 2 : 1, -1);
    if (n < 0 && errno == EINTR) continue;
    if (fds[0].revents != 0) return;
  }
}

class FdSource : public Source {
 public:
  FdSource(int fd, std::string name, bool owns) : fd_(fd), owns_(owns) {
    name_ = std::move(name);
    struct stat info {};
    regular_ = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    replayable_ = regular_ && owns;
    if (is_pipe(fd)) ::fcntl(fd, F_SETPIPE_SZ, kPipeSize);  // best effort: an unprivileged limit may refuse
  }
  ~FdSource() override {
    if (owns_ && fd_ >= 0) ::close(fd_);
  }

  std::optional<wire::Frame> read() override {
    if (done_) return std::nullopt;
    alignas(64) std::byte bytes[wire::kHeader];
    const std::size_t got = fill(bytes, wire::kHeader);
    if (got == 0 && !hello_) fail(Exit::upstream, "{} is empty: its writer failed or was never started", name_);
    if (got == 0) fail(Exit::upstream, "{} ended after {} batches without END: its writer failed or the file is cut short", name_, total_.batches);
    if (got < wire::kHeader) {
      if (!hello_ && (got < 4 || std::memcmp(bytes, "BLF1", 4) != 0)) fail(Exit::input, "{}: not a beamline stream ({} bytes)", name_, got);
      fail(Exit::upstream, "{} is cut short in a header after {} batches", name_, total_.batches);
    }
    const auto header = wire::read_header(bytes, name_);
    Buffer body(static_cast<std::size_t>(header.length));
    if (fill(body.edit(), body.size()) < body.size()) fail(Exit::upstream, "{} is cut short in {} {}", name_, wire::name_of(header.kind), header.seq);
    std::byte pad[64];
    const std::size_t padding = wire::padded(header.length) - static_cast<std::size_t>(header.length);
    if (fill(pad, padding) < padding) fail(Exit::upstream, "{} is cut short after {} {}", name_, wire::name_of(header.kind), header.seq);
    for (std::size_t i = 0; i < padding; ++i)
      if (pad[i] != std::byte{0}) fail(Exit::input, "{}: the padding after {} {} is damaged", name_, wire::name_of(header.kind), header.seq);
    wire::check_body(header, body, name_);

    wire::Frame frame{header.kind, header.flags, header.stream, header.seq, header.schema, header.count, std::move(body)};
    if (!hello_ && frame.kind != wire::Kind::hello && frame.kind != wire::Kind::abort)
      fail(Exit::input, "{}: starts with {} instead of HELLO", name_, wire::name_of(frame.kind));
    switch (frame.kind) {
      case wire::Kind::hello:
        if (hello_) fail(Exit::input, "{}: a second HELLO after {} batches; join streams with --in a.bl,b.bl, not with cat", name_, total_.batches);
        hello_ = true;
        return frame;
      case wire::Kind::batch:
        ++total_.batches;
        total_.events += frame.count;
        total_.digest += wire::end_term(frame.seq, header.body_hash);
        return frame;
      case wire::Kind::abort: fail(Exit::upstream, "{}: the writer gave up: {}", name_, wire::read_abort(frame));
      case wire::Kind::end: {
        const auto end = wire::read_end(frame, name_);
        if (end != total_)
          fail(Exit::input, "{}: END counts {} batches with {} events, but {} with {} were read{}", name_, end.batches, end.events, total_.batches,
               total_.events, end.batches == total_.batches && end.events == total_.events ? " (and their digest differs)" : "");
        if (regular_ && fill(bytes, 1) != 0) fail(Exit::input, "{}: bytes follow END; join streams with --in a.bl,b.bl, not with cat", name_);
        done_ = true;
        return std::nullopt;
      }
      default: fail(Exit::input, "{}: {} does not belong in a file or pipe", name_, wire::name_of(frame.kind));
    }
  }

  void stop() noexcept override {
    if (fd_ < 0 || !is_pipe(fd_)) return;
    struct stat info {};
    if (is_anonymous_pipe(fd_) && ::fstat(fd_, &info) == 0) ::fchmod(fd_, (info.st_mode & 0777) | S_ISVTX);
    ::close(fd_);
    fd_ = -1;
    done_ = true;
  }
  bool replayable() const override { return replayable_; }
  bool ready() override {
    if (regular_ || done_ || fd_ < 0) return true;
    pollfd p{fd_, POLLIN, 0};
    return ::poll(&p, 1, 0) == 1;
  }

 private:
  // Reads n bytes or up to the end of the file; returns how many there were.
  std::size_t fill(std::byte* out, std::size_t n) {
    std::size_t got = 0;
    while (got < n) {
      if (!regular_) wait_for(fd_, POLLIN);
      else signals::throw_if_pending();
      const ssize_t r = ::read(fd_, out + got, n - got);
      if (r < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (r < 0) fail(Exit::input, "cannot read {}: {}", name_, errno_text(errno));
      if (r == 0) break;
      got += static_cast<std::size_t>(r);
    }
    return got;
  }

  int fd_;
  bool owns_, regular_ = false, replayable_ = false, hello_ = false, done_ = false;
  wire::End total_;
};

class ConcatSource : public Source {
 public:
  explicit ConcatSource(const std::vector<Endpoint>& endpoints) {
    std::string ids;
    wire::Hello joined;
    nlohmann::json others = nlohmann::json::array();
    for (const auto& e : endpoints) {
      if (e.scheme != Scheme::file) fail(Exit::usage, "'{}' cannot be joined with files: only files are read one after the other", e.text);
      parts_.push_back(open_fd_source(e));
      const auto frame = parts_.back()->read();
      if (!frame) fail(Exit::upstream, "{} holds no HELLO", e.text);
      const auto hello = wire::read_hello(*frame, parts_.back()->name());
      ids += hex(frame->stream);
      if (parts_.size() == 1) {
        joined = hello;
      } else {
        if (hello.schema != joined.schema || hello.schema_hash != joined.schema_hash)
          fail(Exit::input, "{} holds '{}' and {} '{}': they cannot be read as one stream", parts_[0]->name(), joined.schema, e.text, hello.schema);
        for (const auto& [key, value] : hello.meta.items())
          if (joined.meta.contains(key) && (key == "tokenizer" || key == "mask") && joined.meta[key] != value)
            fail(Exit::input, "{} and {} differ in '{}': they cannot be read as one stream", parts_[0]->name(), e.text, key);
        others.push_back({{"path", e.text}, {"history", hello.history}});
      }
      schema_hash_ = frame->schema;
      if (!name_.empty()) name_ += ",";
      name_ += parts_.back()->name();
    }
    stream_ = hash64(ids);
    if (!joined.history.empty() && !others.empty()) joined.history.back()["joined_with"] = others;
    hello_ = wire::hello_frame(stream_, joined);
  }

  std::optional<wire::Frame> read() override {
    if (hello_.body.size() != 0) return std::exchange(hello_, wire::Frame{});
    while (at_ < parts_.size()) {
      if (auto frame = parts_[at_]->read()) {
        frame->stream = stream_;
        frame->seq = seq_++;
        return frame;
      }
      ++at_;
    }
    return std::nullopt;
  }
  void stop() noexcept override {}
  bool replayable() const override { return true; }

 private:
  std::vector<std::unique_ptr<Source>> parts_;
  std::size_t at_ = 0;
  std::uint64_t stream_ = 0, seq_ = 0, schema_hash_ = 0;
  wire::Frame hello_;
};

class FdSink final : public Sink {
 public:
  // Standard output.
  FdSink(int fd, std::string name) : fd_(fd), pipe_(is_pipe(fd)) {
    name_ = std::move(name);
    if (pipe_) ::fcntl(fd, F_SETPIPE_SZ, kPipeSize);
  }
  // A file.
  FdSink(const std::string& path, bool force) : file_(std::make_unique<AtomicFile>(path, force)) {
    name_ = path;
    fd_ = file_->fd();
    pipe_ = is_pipe(fd_);
  }
  ~FdSink() override { abort("the writer stopped without finishing"); }

  void write(const wire::Frame& frame) override {
    if (stopped_ || closed_) return;
    stream_ = frame.stream;
    const std::uint64_t body_hash = send(frame);
    if (stopped_) return;
    if (frame.kind == wire::Kind::batch) {
      ++total_.batches;
      total_.events += frame.count;
      total_.digest += wire::end_term(frame.seq, body_hash);
      if (acknowledged_) acknowledged_(frame.stream, frame.seq);
    }
  }

  void poll() override {
    // A reader that left while we were computing is noticed before the next batch is made.
    if (!pipe_ || stopped_ || closed_) return;
    pollfd p{fd_, 0, 0};
    if (::poll(&p, 1, 0) == 1 && (p.revents & POLLERR)) reader_left();
  }

  void finish() override {
    if (closed_) return;
    if (!stopped_) send(wire::end_frame(stream_, total_));
    closed_ = true;
    if (file_) {
      if (stopped_) file_->discard();
      else file_->commit();
      return;
    }
    if (!stopped_ && !pipe_ && ::fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) fail(Exit::write, "cannot write {}: {}", name_, errno_text(errno));
    if (::close(fd_) != 0 && !stopped_) fail(Exit::write, "cannot write {}: {}", name_, errno_text(errno));
  }

  void abort(std::string_view why) noexcept override {
    if (closed_) return;
    closed_ = true;
    if (file_ && !pipe_) {
      file_->discard();
      return;
    }
    if (stopped_ || !hello_sent_) return;
    try {
      // Best effort and never blocking: a reader that does not read sees the missing END instead.
      std::byte header[wire::kHeader];
      const auto frame = wire::abort_frame(stream_, why);
      wire::write_header(frame, header);
      std::string bytes(reinterpret_cast<const char*>(header), wire::kHeader);
      bytes += why;
      bytes.append(wire::padded(frame.body.size()) - frame.body.size(), '\0');
      if (!mid_frame_) {
        ::fcntl(fd_, F_SETFL, ::fcntl(fd_, F_GETFL) | O_NONBLOCK);
        [[maybe_unused]] const auto n = ::write(fd_, bytes.data(), bytes.size());
      }
    } catch (...) {
    }
    if (!file_) ::close(fd_);
  }

 private:
  std::uint64_t send(const wire::Frame& frame) {
    static constexpr char zeros[64] = {};
    alignas(64) std::byte header[wire::kHeader];
    wire::write_header(frame, header);
    iovec parts[3] = {{header, wire::kHeader},
                      {const_cast<std::byte*>(frame.body.data()), frame.body.size()},
                      {const_cast<char*>(zeros), wire::padded(frame.body.size()) - frame.body.size()}};
    std::size_t first = 0;
    mid_frame_ = false;
    while (first < 3) {
      if (parts[first].iov_len == 0) {
        ++first;
        continue;
      }
      if (pipe_) wait_for(fd_, POLLOUT);
      else signals::throw_if_pending();
      ssize_t n = ::writev(fd_, parts + first, static_cast<int>(3 - first));
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n < 0 && errno == EPIPE) {
        reader_left();
        break;
      }
      if (n < 0) fail(Exit::write, "cannot write {}: {}", name_, errno_text(errno));
      mid_frame_ = true;
      hello_sent_ = true;
      while (n > 0 && first < 3) {
        const auto step = std::min(static_cast<std::size_t>(n), parts[first].iov_len);
        parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + step;
        parts[first].iov_len -= step;
        n -= static_cast<ssize_t>(step);
        if (parts[first].iov_len == 0) ++first;
      }
    }
    mid_frame_ = false;
    std::uint64_t body_hash = 0;
    std::memcpy(&body_hash, header + 32, sizeof body_hash);
    return body_hash;
  }

  void reader_left() {
    struct stat info {};
    if (::fstat(fd_, &info) == 0 && (info.st_mode & S_ISVTX)) {
      stopped_ = true;
      return;
    }
    closed_ = true;
    if (file_) file_->discard();
    fail(Exit::downstream, "the reader of {} went away after {} batches", name_, total_.batches);
  }

  std::unique_ptr<AtomicFile> file_;
  int fd_ = -1;
  bool pipe_ = false, closed_ = false, mid_frame_ = false, hello_sent_ = false;
  std::uint64_t stream_ = 0;
  wire::End total_;
};

}  // namespace

std::unique_ptr<Source> open_fd_source(const Endpoint& endpoint) {
  if (endpoint.scheme == Scheme::standard) {
    if (::isatty(STDIN_FILENO) == 1) fail(Exit::usage, "no input: give --in FILE, or pipe a stream into standard input");
    return std::make_unique<FdSource>(STDIN_FILENO, "standard input", false);
  }
  const int fd = ::open(endpoint.address.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(Exit::input, "cannot read '{}': {}", endpoint.address, errno_text(errno));
  struct stat info {};
  if (::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
    ::close(fd);
    fail(Exit::input, "cannot read '{}': it is a folder", endpoint.address);
  }
  return std::make_unique<FdSource>(fd, endpoint.address, true);
}

std::unique_ptr<Source> open_concat_source(const std::vector<Endpoint>& endpoints) { return std::make_unique<ConcatSource>(endpoints); }

std::unique_ptr<Sink> open_fd_sink(const Endpoint& endpoint, const SinkOptions& options) {
  if (endpoint.scheme == Scheme::standard) {
    if (::isatty(STDOUT_FILENO) == 1)
      fail(Exit::usage, "the output is binary and standard output is a terminal: give --out FILE, or pipe it into the next stage");
    return std::make_unique<FdSink>(STDOUT_FILENO, "standard output");
  }
  return std::make_unique<FdSink>(endpoint.address, options.force);
}

}  // namespace bl::transport
