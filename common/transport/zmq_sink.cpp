// The producer's end of a link: a ROUTER that binds. Numbers in brackets are sentences of PROTOCOL.md.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <deque>
#include <set>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "base/error.hpp"
#include "base/signals.hpp"
#include "transport/zmq.hpp"
#include "transport/zmq_link.hpp"

namespace bl::transport {
namespace {

using namespace link;
using wire::Frame;
using wire::Header;
using wire::Kind;

// True when somebody listens on the socket file; a file that nobody listens on is removed.
bool socket_taken(const std::string& path, const std::string& text) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return false;
  if (!S_ISSOCK(info.st_mode)) fail(Exit::write, "endpoint '{}': '{}' exists and is no socket: remove it or choose another path", text, path);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail(Exit::write, "endpoint '{}': cannot make a socket: {}", text, errno_text(errno));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const bool taken = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno != ECONNREFUSED;
  ::close(fd);
  if (!taken) ::unlink(path.c_str());
  return taken;
}

class ZmqSink final : public Sink {
 public:
  explicit ZmqSink(const Endpoint& endpoint) : endpoint_(endpoint), socket_(context_, zmq::socket_type::router) {
    name_ = endpoint.text.substr(0, endpoint.text.find('?'));
    bind();
    sigset_t all, old;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &old);  // signals are for the calling thread
    thread_ = std::thread([this] { run(); });
    ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  }

  ~ZmqSink() override {
    if (!finished_ && !stopped_ && !aborted_) abort("the writer stopped without finishing");
    if (relayed_) relayed_->drain = nullptr;
    {
      const std::lock_guard lock(mutex_);
      quit_ = true;
    }
    wake_.set();
    thread_.join();
    // Ours, not one that somebody else put there since.
    struct stat info {};
    if (file_inode_ != 0 && ::lstat(endpoint_.address.c_str(), &info) == 0 && info.st_ino == file_inode_) ::unlink(endpoint_.address.c_str());
  }

  void write(const Frame& frame) override {
    drain();
    if (stopped_) return;
    if (frame.kind == Kind::hello) {
      {
        const std::lock_guard lock(mutex_);
        hello_box_ = frame;
      }
      stream_ = frame.stream;
      wake_.set();
      return;
    }
    check(frame.kind == Kind::batch, "a sink writes HELLO and batches");
    Item item{header_of(frame), frame.body, frame.seq};
    std::uint64_t body_hash = 0;
    std::memcpy(&body_hash, item.header.data() + 32, sizeof body_hash);
    ++own_.batches;
    own_.events += frame.count;
    own_.digest += wire::end_term(frame.seq, body_hash);
    {
      const std::lock_guard lock(mutex_);
      ++unsent_;
      unsent_bytes_ += frame.body.size();
      box_.push_back(std::move(item));
    }
    wake_.set();
    wait([&] { return room(); });
  }

  void finish() override {
    if (finished_) return;
    drain();
    if (!stopped_) {
      {
        const std::lock_guard lock(mutex_);
        finishing_ = true;
        end_ = own_;
        total_ = relayed_ && relayed_->total >= 0 ? static_cast<std::uint64_t>(relayed_->total) : own_.batches;
      }
      wake_.set();
      wait([&] { return confirmed_; });
    }
    finished_ = true;
  }

  void abort(std::string_view why) noexcept override {
    if (finished_ || aborted_) return;
    aborted_ = true;
    try {
      std::unique_lock lock(mutex_);
      abort_reason_ = why.substr(0, kMaxReason);
      wake_.set();
      changed_.wait_for(lock, 2 * kGrace, [&] { return abort_sent_; });
    } catch (...) {
    }
  }

  void poll() override { drain(); }

  void relays(Source& source) override {
    relayed_ = source.relayed();
    if (!relayed_) return;
    relayed_->drain = [this] {
      drain();
      return !stopped_;
    };
    const std::lock_guard lock(mutex_);
    relay_box_ = relayed_;
  }

 private:
  struct Item {
    HeaderBytes header;
    Buffer body;
    std::uint64_t seq = 0;
  };

  struct Peer {
    std::uint64_t uid = 0, nonce = 0;
    bool hello = false, granted = false, relay = false, extra = false, stopped = false, done = false;
    std::uint32_t window = 0;
    std::uint64_t window_bytes = 0;
    std::map<std::uint64_t, std::uint64_t> flying;  // seq -> bytes: sent, not acknowledged
    std::uint64_t flying_bytes = 0;
    std::set<std::uint64_t> mine;  // must go to this consumer and no other [keepers]
    std::uint64_t acked = 0;
    Clock::time_point heard, sent, greeted;
    std::uint64_t frames_in = 0, frames_out = 0;  // of this session, heartbeats apart
    int end_sent = 0;                             // 1: END, 2: END with kFinal

    bool can_take(std::uint64_t bytes) const {
      if (!granted || stopped || done) return false;
      if (extra || flying.empty()) return true;  // one batch passes whatever its size
      return flying.size() < window && flying_bytes + bytes <= window_bytes;
    }
  };

  struct Lost {
    std::set<std::uint64_t> mine;
    std::uint64_t acked = 0;
    Clock::time_point since;
  };

  // ---- calling thread ----

  void bind() {
    if (!endpoint_.key.empty()) {
      auto keys = read_keys(endpoint_, true);
      gate_ = std::make_unique<Gate>(context_, std::move(keys.allowed));
      socket_.set(zmq::sockopt::curve_server, true);
      socket_.set(zmq::sockopt::curve_secretkey, keys.secret_key);
    } else if (!endpoint_.insecure && !on_loopback(endpoint_)) {
      fail(Exit::usage,
           "endpoint '{}' would accept anybody on the network: give ?key=FILE to encrypt and to name who may connect, bind to 127.0.0.1, or give "
           "?insecure=1 to allow it",
           endpoint_.text);
    }
    common_options(socket_);
    socket_.set(zmq::sockopt::router_mandatory, true);
    socket_.set(zmq::sockopt::router_handover, true);
    socket_.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(kMaxReason));
    const auto address = address_of(endpoint_, true);
    if (address.find('[') != std::string::npos) socket_.set(zmq::sockopt::ipv6, true);
    const bool ipc = endpoint_.scheme == Scheme::ipc;
    if (ipc && socket_taken(endpoint_.address, endpoint_.text))
      fail(Exit::write, "endpoint '{}' is taken: another process listens there; end it or choose another path", endpoint_.text);
    const mode_t mask = ipc ? ::umask(0177) : 0;  // the socket file is for this user alone
    int error = 0;
    try {
      socket_.bind(address);
    } catch (const zmq::error_t& e) {
      error = e.num();
    }
    if (ipc) ::umask(mask);
    switch (error) {
      case 0: break;
      case EADDRINUSE: fail(Exit::write, "endpoint '{}' is taken: another process listens there ('ss -ltnp' shows which); choose another port", endpoint_.text);
      case EACCES:
      case EPERM: fail(Exit::write, "endpoint '{}': {}: choose a port above 1023, or a folder that you may write to", endpoint_.text, errno_text(error));
      case ENOENT: fail(Exit::write, "endpoint '{}': the folder of the path does not exist: create it first", endpoint_.text);
      case EADDRNOTAVAIL:
      case ENODEV:
      case EINVAL:
        fail(Exit::usage, "endpoint '{}' cannot be bound ({}): the writer of a stream gives an address of its own machine, e.g. tcp://127.0.0.1:5555",
             endpoint_.text, error == ENODEV ? "no such interface" : errno_text(error));
      default: fail(Exit::write, "endpoint '{}' cannot be bound: {}", endpoint_.text, ::zmq_strerror(error));
    }
    struct stat info {};
    if (ipc && ::lstat(endpoint_.address.c_str(), &info) == 0) file_inode_ = info.st_ino;
    if (!ipc) name_ = socket_.get(zmq::sockopt::last_endpoint);  // the port that was chosen for port 0
  }

  // Hands acknowledgements to the caller, takes over what the thread found.
  void drain() {
    std::deque<std::uint64_t> acked;
    {
      const std::lock_guard lock(mutex_);
      acked.swap(acked_box_);
      if (stop_box_) stopped_ = true;
      if (!stopped_ && error_) throw Error(*error_);
    }
    if (acknowledged_)
      for (const auto seq : acked) acknowledged_(stream_, seq);
  }

  bool room() const { return unsent_ <= kAhead || unsent_bytes_ <= kAheadBytes; }  // with the mutex held

  // Waits until `ready` holds (called with the mutex held) or the reader has had enough; handles acknowledgements.
  void wait(const std::function<bool()>& ready) {
    for (;;) {
      drain();
      if (stopped_) return;
      std::unique_lock lock(mutex_);
      if (ready()) {
        if (acked_box_.empty()) return;
        continue;
      }
      if (signals::pending() != 0) {
        lock.unlock();
        signals::throw_if_pending();
      }
      if (!acked_box_.empty() || error_ || stop_box_) continue;
      waiting_ = true;
      changed_.wait(lock);
      waiting_ = false;
    }
  }

  // ---- the thread that owns the socket ----

  void run() {
    try {
      loop();
    } catch (const Error& e) {
      give_up(e);
    } catch (const std::exception& e) {
      give_up(Error(Exit::failed, fmt::format("{}: {}", name_, e.what())));
    }
    socket_.close();
    gate_.reset();
    const std::lock_guard lock(mutex_);
    abort_sent_ = true;
    changed_.notify_all();
  }

  void give_up(const Error& e) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::make_shared<Error>(e);
    changed_.notify_all();
    if (relay_) relay_->poke();
  }

  void loop() {
    now_ = Clock::now();
    alone_since_ = now_;
    Clock::time_point last = now_;
    bool signal_seen = signals::fd() < 0;
    for (;;) {
      zmq::pollitem_t items[4] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}, {nullptr, wake_.fd(), ZMQ_POLLIN, 0}, {}, {}};
      int n = 2;
      const int gate_at = gate_ ? n++ : -1, signal_at = signal_seen ? -1 : n++;
      if (gate_at >= 0) items[gate_at] = {gate_->socket().handle(), 0, ZMQ_POLLIN, 0};
      if (signal_at >= 0) items[signal_at] = {nullptr, signals::fd(), ZMQ_POLLIN, 0};
      if (::zmq_poll(items, n, 100) < 0 && ::zmq_errno() != EINTR) fail(Exit::failed, "{}: {}", name_, ::zmq_strerror(::zmq_errno()));
      wake_.clear();
      now_ = Clock::now();
      if (now_ - last > kStall) {  // we were frozen: what the peers did meanwhile is still to be read
        for (auto& [id, p] : peers_) p.heard = now_;
        for (auto& [uid, l] : lost_) l.since += now_ - last;
        alone_since_ += now_ - last;
      }
      last = now_;
      if (gate_) gate_->answer();
      if (signal_at >= 0 && (items[signal_at].revents & ZMQ_POLLIN) != 0) {
        signal_seen = true;
        const std::lock_guard lock(mutex_);
        changed_.notify_all();
      }
      const bool quit = take_orders();
      Message m;
      for (int i = 0; i < 1000 && receive(socket_, true, m, name_); ++i) handle(m);
      if (!failed_) {
        dispatch();
        end_phase();
        timers();
      }
      publish();
      if (quit) {
        for (auto& [id, p] : peers_)
          if (!p.done && !p.stopped && !aborting_) tell(id, p, control(Kind::stop, 0, stream_id_, p.nonce, 0, 0));  // [over]
        socket_.set(zmq::sockopt::linger, static_cast<int>(kLinger.count()));
        return;
      }
    }
  }

  bool take_orders() {
    std::unique_lock lock(mutex_);
    std::deque<Item> box;
    box.swap(box_);
    if (hello_box_) {
      hello_ = std::move(hello_box_);
      hello_box_.reset();
      stream_id_ = hello_->stream;
      alone_since_ = std::max(alone_since_, now_);
    }
    if (relay_box_) relay_ = std::move(relay_box_);
    finishing_io_ = finishing_;
    total_io_ = total_;
    end_io_ = end_;
    const bool abort_now = abort_reason_ && !aborting_;
    const bool quit = quit_;
    if (abort_now) {
      aborting_ = abort_reason_;
      aborting_since_ = now_;
    }
    lock.unlock();
    for (auto& item : box) {
      const auto seq = item.seq;
      if (complete_) {
        acked_.push_back(seq);
        continue;
      }
      queue_.insert(seq);
      items_.insert_or_assign(seq, std::move(item));
    }
    if (relay_ && !subset_ && relay_->subset) {
      subset_ = true;
      announce_sharing();
    }
    if (hello_)
      for (auto& [id, p] : peers_)
        if (!p.hello && p.nonce != 0) greet(id, p);
    if (abort_now)
      for (auto& [id, p] : peers_)
        if (!p.done && !p.stopped) send(socket_, &id, abort_to(p));
    // Consumers that start together with us may not have connected yet: open() tells them, so that they need not wait
    // for a producer that is gone. A user who interrupts waits for nobody.
    if (aborting_ && (started_ || peers_.size() >= endpoint_.peers || signals::pending() != 0 || now_ - aborting_since_ > kGrace)) {
      lock.lock();
      abort_sent_ = true;
      changed_.notify_all();
    }
    return quit;
  }

  Frame abort_to(const Peer& p) const {
    auto f = wire::abort_frame(stream_id_, *aborting_);
    f.seq = p.nonce;
    return f;
  }

  std::uint64_t released_before() const { return relay_ ? relay_->released.load() : 0; }
  std::uint16_t sharing() const { return static_cast<std::uint16_t>((shared_ ? kShared : 0) | (subset_ ? kSubset : 0)); }

  // Sends a frame of the session; heartbeats are not counted. False when the peer is gone.
  bool tell(const std::string& id, Peer& p, const Frame& f) {
    p.sent = now_;
    if (f.kind != Kind::heartbeat) ++p.frames_out;
    return send(socket_, &id, f);
  }

  void greet(const std::string& id, Peer& p) {
    Frame f = *hello_;
    f.seq = p.nonce;
    f.flags = sharing();
    f.count = static_cast<std::uint32_t>(std::min<std::uint64_t>(std::max(released_before(), released_), 0xffffffffu));
    p.hello = true;
    p.greeted = now_;
    p.end_sent = 0;
    tell(id, p, f);
  }

  void announce_sharing() {
    for (auto& [id, p] : peers_)
      if (p.hello) heartbeat(id, p, 0);
  }

  bool heartbeat(const std::string& id, Peer& p, std::uint16_t flags) {
    const auto released = static_cast<std::uint32_t>(std::min<std::uint64_t>(released_before(), 0xffffffffu));
    return tell(id, p, control(Kind::heartbeat, static_cast<std::uint16_t>(flags | sharing()), stream_id_, p.nonce, p.frames_out, released));
  }

  void handle(const Message& m) {
    if (!m.header) return;  // not one of ours: it gets no answer
    const Header& h = *m.header;
    auto found = peers_.find(m.identity);
    if (h.kind == Kind::credit && (h.flags & kOpen) != 0) {
      open(m.identity, h);
      return;
    }
    const std::uint64_t nonce = h.kind == Kind::ack ? h.schema : h.seq;
    if (found == peers_.end() || found->second.nonce != nonce) {
      send(socket_, &m.identity, control(Kind::heartbeat, kUnknown, stream_id_, nonce, 0, 0));
      return;
    }
    Peer& p = found->second;
    p.heard = now_;
    if (h.kind != Kind::heartbeat) ++p.frames_in;
    switch (h.kind) {
      case Kind::heartbeat:
        // Frames were lost on a connection that broke and came back: the consumer opens a new session.
        if (h.schema != p.frames_in) send(socket_, &m.identity, control(Kind::heartbeat, kUnknown, stream_id_, nonce, 0, 0));
        break;
      case Kind::credit:
        if ((h.flags & kGrant) != 0) grant(m.identity, p, h);
        if ((h.flags & kExtra) != 0) p.extra = true;
        break;
      case Kind::ack:
        if (h.stream != stream_id_) break;
        if ((h.flags & kEndAck) != 0) end_acknowledged(m.identity, p, h.seq);
        else acknowledged_by(p, h.seq);
        break;
      case Kind::stop:
        p.stopped = true;
        any_stopped_ = true;
        give_back(p, false);
        tell(m.identity, p, control(Kind::stop, 0, stream_id_, p.nonce, 0, 0));
        break;
      case Kind::abort: {
        if (p.done) break;
        std::string why(m.body.to_string());
        if (hash64_differs(h, m.body)) why = "(its reason was damaged on the way)";
        fail_now(Exit::downstream, fmt::format("the reader of {} failed: {}", name_, why));
        break;
      }
      default: break;
    }
  }

  static bool hash64_differs(const Header& h, const zmq::message_t& body) {
    try {
      wire::check_body(h, Buffer(body.data(), body.size()), "");
      return false;
    } catch (const Error&) {
      return true;
    }
  }

  void open(const std::string& id, const Header& h) {
    auto [at, is_new] = peers_.try_emplace(id);
    Peer& p = at->second;
    if (is_new || p.nonce != h.seq) {
      if (!is_new) {
        if (p.granted && !p.relay && !p.done && !p.stopped) keep_for(p);
        else give_back(p, false);
      }
      p = Peer{};
      p.uid = h.stream;
      p.nonce = h.seq;
    }
    p.heard = now_;
    if (aborting_) send(socket_, &id, abort_to(p));
    else if (!hello_) heartbeat(id, p, 0);
    else if (!p.hello || now_ - p.greeted >= kRetry) greet(id, p);  // OPENs that waited for us come all at once
  }

  void grant(const std::string& id, Peer& p, const Header& h) {
    p.window = h.count;
    p.window_bytes = h.schema;
    p.relay = (h.flags & kRelay) != 0;
    // A consumer that was killed and started again is back before its silence was noticed: ask who is still there.
    std::vector<std::string> gone;
    for (auto& [other, q] : peers_)
      if (other != id && !q.done && !q.stopped && !heartbeat(other, q, 0)) gone.push_back(other);
    const std::uint64_t uid = p.uid;
    for (const auto& other : gone) lose(other, "its connection broke");
    if (failed_) return;
    if (dispossessed_.contains(uid)) {
      refuse(id, p, "was silent for too long and its batches went to another reader; rerun the pipeline");
      return;
    }
    if (!p.relay) {
      if (const auto lost = lost_.find(uid); lost != lost_.end()) {  // it is back, and holds what it acknowledged
        p.acked = lost->second.acked;
        p.mine.swap(lost->second.mine);
        lost_.erase(lost);
      } else if ((h.flags & kFresh) != 0) {
        for (auto it = lost_.begin(); it != lost_.end();) {
          if (it->second.acked != 0) {
            refuse(
                id, p,
                fmt::format("is a restarted reader that needs {} batches which were acknowledged before and released; rerun the producer", it->second.acked));
            return;
          }
          dispossessed_.insert(it->first);
          queue_.insert(it->second.mine.begin(), it->second.mine.end());
          it = lost_.erase(it);
        }
      }
    }
    p.granted = true;
    const auto readers = static_cast<std::size_t>(std::count_if(peers_.begin(), peers_.end(), [](const auto& e) { return e.second.granted; })) + lost_.size();
    if (readers > 1 && !shared_) {
      shared_ = true;
      announce_sharing();
    }
    if (readers >= endpoint_.peers) started_ = true;
    heartbeat(id, p, kAnswer);
  }

  void refuse(const std::string& id, Peer& p, const std::string& why) {
    auto f = wire::abort_frame(stream_id_, fmt::format("this process {}", why));
    f.seq = p.nonce;
    send(socket_, &id, f);
    fail_now(Exit::downstream, fmt::format("a reader of {} {}", name_, why));
  }

  // Batches of a session that ended go back to the head of the queue, for any consumer.
  void give_back(Peer& p, bool only_mine) {
    for (const auto seq : p.mine)
      if (items_.contains(seq)) queue_.insert(seq);
    p.mine.clear();
    if (only_mine) return;
    for (const auto& [seq, bytes] : p.flying)
      if (items_.contains(seq)) queue_.insert(seq);
    p.flying.clear();
    p.flying_bytes = 0;
  }

  // A consumer that keeps what it acknowledged (not a relay) is not replaced by another: it is waited for.
  void keep_for(Peer& p) {
    if (p.acked == 0 && p.flying.empty() && p.mine.empty()) return;  // it holds nothing of ours
    auto& lost = lost_[p.uid];
    lost.acked += p.acked;
    lost.since = now_;
    for (const auto seq : p.mine)
      if (items_.contains(seq)) lost.mine.insert(seq);
    for (const auto& [seq, bytes] : p.flying)
      if (items_.contains(seq)) lost.mine.insert(seq);
    p.flying.clear();
  }

  void lose(const std::string& id, const std::string& why) {
    const auto at = peers_.find(id);
    if (at == peers_.end()) return;
    Peer p = std::move(at->second);
    peers_.erase(at);
    if (p.done || p.stopped || !p.granted) return;
    if (!endpoint_.resend) {
      fail_now(Exit::downstream, fmt::format("a reader of {} was lost ({}) and on-loss=fail is set", name_, why));
      return;
    }
    if (p.relay) give_back(p, false);
    else keep_for(p);
  }

  void acknowledged_by(Peer& p, std::uint64_t seq) {
    if (const auto f = p.flying.find(seq); f != p.flying.end()) {
      p.flying_bytes -= f->second;
      p.flying.erase(f);
      ++p.acked;
    }
    release(seq);
  }

  void release(std::uint64_t seq) {
    if (items_.erase(seq) == 0) return;
    queue_.erase(seq);
    for (auto& [id, q] : peers_) q.mine.erase(seq);
    for (auto& [uid, l] : lost_) l.mine.erase(seq);
    ++released_;
    acked_.push_back(seq);
  }

  // "The stream has `total` batches and all of them are safe": nothing that we still hold is needed.
  void end_acknowledged(const std::string& id, Peer& p, std::uint64_t total) {
    complete_ = true;
    (void)total;
    p.done = true;
    p.flying.clear();
    while (!items_.empty()) release(items_.begin()->first);
    std::erase_if(lost_, [](const auto& l) { return l.second.acked == 0; });
    tell(id, p, control(Kind::stop, 0, stream_id_, p.nonce, 0, 0));
  }

  void dispatch() {
    if (!hello_ || !started_ || aborting_) return;
    std::vector<std::string> gone;
    for (auto& [id, p] : peers_) {
      while (!p.mine.empty()) {
        const auto seq = *p.mine.begin();
        const auto item = items_.find(seq);
        if (item == items_.end()) {
          p.mine.erase(p.mine.begin());
          continue;
        }
        if (!p.can_take(item->second.body.size())) break;
        p.mine.erase(p.mine.begin());
        if (!send_batch(id, p, item->second)) {
          gone.push_back(id);
          break;
        }
      }
    }
    for (const auto& id : gone) lose(id, "its connection broke");
    while (!queue_.empty() && !failed_) {
      const auto item = items_.find(*queue_.begin());
      if (item == items_.end()) {
        queue_.erase(queue_.begin());
        continue;
      }
      auto best = peers_.end();
      for (auto p = peers_.begin(); p != peers_.end(); ++p)
        if (p->second.can_take(item->second.body.size()) && (best == peers_.end() || p->second.flying.size() < best->second.flying.size())) best = p;
      if (best == peers_.end()) return;
      queue_.erase(queue_.begin());
      const std::string id = best->first;
      if (!send_batch(id, best->second, item->second)) lose(id, "its connection broke");
    }
  }

  bool send_batch(const std::string& id, Peer& p, const Item& item) {
    const auto bytes = item.body.size();
    if (!(p.flying.empty() || (p.flying.size() < p.window && p.flying_bytes + bytes <= p.window_bytes))) p.extra = false;
    p.flying.emplace(item.seq, bytes);
    p.flying_bytes += bytes;
    p.sent = now_;
    ++p.frames_out;
    return send(socket_, &id, item.header, item.body);
  }

  void end_phase() {
    if (!finishing_io_ || aborting_) return;
    bool all_sent = queue_.empty();
    for (auto& [id, p] : peers_) all_sent = all_sent && p.mine.empty();
    for (auto& [uid, l] : lost_) all_sent = all_sent && l.mine.empty();
    const int due = items_.empty() ? 2 : all_sent ? 1 : 0;
    bool waiting = false;
    for (auto& [id, p] : peers_) {
      if (!p.hello || p.stopped || p.done) continue;
      waiting = true;
      if (p.end_sent >= due) continue;
      auto f = wire::end_frame(stream_id_, end_io_);
      f.seq = total_io_;
      f.flags = static_cast<std::uint16_t>((due == 2 ? kFinal : 0) | (released_before() != 0 ? kPartial : 0));
      p.end_sent = due;
      tell(id, p, f);
    }
    if (items_.empty() && complete_ && !waiting && lost_.empty()) confirmed_io_ = true;
  }

  void timers() {
    std::vector<std::pair<std::string, const char*>> gone;
    for (auto& [id, p] : peers_) {
      if (now_ - p.heard > kSilence) gone.emplace_back(id, "it was silent for 1.5 s");
      else if (now_ - p.sent >= kHeartbeat && !heartbeat(id, p, 0)) gone.emplace_back(id, "its connection broke");
    }
    for (const auto& [id, why] : gone) lose(id, why);
    if (confirmed_io_ || failed_ || aborting_) return;
    for (const auto& [uid, l] : lost_)
      if (now_ - l.since > endpoint_.timeout) {
        fail_now(Exit::downstream, fmt::format("the reader of {} was lost with {} acknowledged batches and did not come back within {} s", name_, l.acked,
                                               seconds(endpoint_.timeout)));
        return;
      }
    const auto present = std::count_if(peers_.begin(), peers_.end(), [](const auto& e) { return !e.second.done && !e.second.stopped; });
    const std::size_t wanted = started_ ? 1 : endpoint_.peers;
    if (static_cast<std::size_t>(present) >= wanted || !lost_.empty() || !hello_ || any_stopped_ || (complete_ && !finishing_io_)) alone_since_ = now_;
    if (now_ - alone_since_ > endpoint_.timeout) {
      const double s = seconds(endpoint_.timeout);
      if (started_) fail_now(Exit::downstream, fmt::format("no reader of {} came back within {} s", name_, s));
      else if (wanted == 1) fail_now(Exit::downstream, fmt::format("no reader connected to {} within {} s: start one, or give a longer ?timeout=", name_, s));
      else
        fail_now(Exit::downstream,
                 fmt::format("{} of {} readers connected to {} within {} s: start them all, or give a longer ?timeout=", present, wanted, name_, s));
    }
  }

  static double seconds(milliseconds t) { return static_cast<double>(t.count()) / 1000; }

  void fail_now(Exit code, const std::string& why) {
    failed_ = true;
    give_up(Error(code, why));
  }

  void publish() {
    // Every reader has had enough: nobody wants what is still to come.
    bool stopped = any_stopped_ && !complete_;
    for (auto& [id, p] : peers_) stopped = stopped && (p.stopped || !p.hello);
    std::size_t unsent = 0, bytes = 0;
    const auto count = [&](const std::set<std::uint64_t>& seqs) {
      unsent += seqs.size();
      for (const auto seq : seqs)
        if (const auto item = items_.find(seq); item != items_.end()) bytes += item->second.body.size();
    };
    count(queue_);
    for (auto& [id, p] : peers_) count(p.mine);
    for (auto& [uid, l] : lost_) count(l.mine);
    bool poke = false;
    {
      const std::lock_guard lock(mutex_);
      poke = !acked_.empty() || (stopped && !stop_box_);
      acked_box_.insert(acked_box_.end(), acked_.begin(), acked_.end());
      acked_.clear();
      for (const auto& item : box_) bytes += item.body.size();
      unsent_ = unsent + box_.size();
      unsent_bytes_ = bytes;
      stop_box_ = stop_box_ || stopped;
      confirmed_ = confirmed_ || confirmed_io_;
      if (waiting_ && (room() || confirmed_ || poke || stop_box_ || error_)) changed_.notify_all();
    }
    if (poke && relay_) relay_->poke();
  }

  const Endpoint endpoint_;
  zmq::context_t context_{1};
  zmq::socket_t socket_;
  std::unique_ptr<Gate> gate_;
  Wake wake_;
  std::thread thread_;

  // calling thread
  ino_t file_inode_ = 0;
  std::uint64_t stream_ = 0;
  wire::End own_;
  bool finished_ = false, aborted_ = false;
  std::shared_ptr<Relayed> relayed_;

  // shared
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> box_;
  std::deque<std::uint64_t> acked_box_;
  std::optional<Frame> hello_box_;
  std::shared_ptr<Relayed> relay_box_;
  std::optional<std::string> abort_reason_;
  std::shared_ptr<Error> error_;
  std::size_t unsent_ = 0, unsent_bytes_ = 0;  // written, not sent: in box_ or waiting for credit
  bool waiting_ = false, finishing_ = false, confirmed_ = false, stop_box_ = false, abort_sent_ = false, quit_ = false;
  wire::End end_;
  std::uint64_t total_ = 0;

  // the socket's thread
  Clock::time_point now_, alone_since_, aborting_since_;
  std::unordered_map<std::string, Peer> peers_;   // by routing id
  std::unordered_map<std::uint64_t, Lost> lost_;  // by uid: keepers that are waited for
  std::unordered_set<std::uint64_t> dispossessed_;
  std::map<std::uint64_t, Item> items_;  // written, not acknowledged
  std::set<std::uint64_t> queue_;        // of these: to be sent, lowest first
  std::vector<std::uint64_t> acked_;
  std::optional<Frame> hello_;
  std::optional<std::string> aborting_;
  std::shared_ptr<Relayed> relay_;
  wire::End end_io_;
  std::uint64_t stream_id_ = 0, released_ = 0, total_io_ = 0;
  bool started_ = false, shared_ = false, subset_ = false, complete_ = false, any_stopped_ = false, finishing_io_ = false, confirmed_io_ = false,
       failed_ = false;
};

}  // namespace

std::unique_ptr<Sink> open_zmq_sink(const Endpoint& endpoint, const SinkOptions&) { return std::make_unique<ZmqSink>(endpoint); }

}  // namespace bl::transport
