// The consumer's end of a stream: one DEALER for each producer. Numbers in brackets are sentences of PROTOCOL.md.
#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <thread>

#include "base/error.hpp"
#include "base/log.hpp"
#include "base/signals.hpp"
#include "transport/zmq.hpp"
#include "transport/zmq_link.hpp"

namespace bl::transport {
namespace {

using namespace link;
using wire::Frame;
using wire::Header;
using wire::Kind;

double seconds(milliseconds t) { return static_cast<double>(t.count()) / 1000; }

class ZmqSource final : public Source {
 public:
  explicit ZmqSource(const std::vector<Endpoint>& endpoints) {
    check(!endpoints.empty(), "a source reads from an endpoint");
    for (const auto& e : endpoints) {
      timeout_ = std::max(timeout_, e.timeout);
      strict_ = strict_ && e.strict_order;
      name_ += (name_.empty() ? "" : ",") + e.text.substr(0, e.text.find('?'));
      connect(e);
    }
    sigset_t all, old;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &old);  // signals are for the calling thread
    thread_ = std::thread([this] { run(); });
    ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  }

  ~ZmqSource() override {
    if (relayed_) relayed_->set_poke(nullptr);
    {
      const std::lock_guard lock(mutex_);
      quit_ = true;
    }
    wake_.set();
    thread_.join();
  }

  std::optional<Frame> read() override {
    for (;;) {
      if (relayed_ && relayed_->drain && !relayed_->drain()) stop();
      std::unique_lock lock(mutex_);
      if (stop_) return std::nullopt;
      if (error_) throw Error(*error_);
      if (!ready_.empty()) {
        Frame frame = std::move(ready_.front());
        ready_.pop_front();
        hungry_ = false;
        hello_read_ = true;
        return frame;
      }
      if (ended_) return std::nullopt;
      demand();
      if (signals::pending() != 0) {
        lock.unlock();
        signals::throw_if_pending();
      }
      if (!poked_) {
        waiting_ = true;
        changed_.wait(lock);
        waiting_ = false;
      }
      poked_ = false;
    }
  }

  bool ready() override {
    if (relayed_ && relayed_->drain && !relayed_->drain()) stop();
    const std::lock_guard lock(mutex_);
    if (!ready_.empty() || error_ || ended_ || stop_) return true;
    demand();
    return false;
  }

  void acknowledge(std::uint64_t, std::uint64_t seq) override {
    {
      const std::lock_guard lock(mutex_);
      ack_box_.push_back(seq);
    }
    wake_.set();
  }

  void close() override {
    std::unique_lock lock(mutex_);
    if (stop_ || !ended_) return;
    closing_ = true;
    wake_.set();
    while (!closed_ && !error_) {
      if (signals::pending() != 0) {
        lock.unlock();
        signals::throw_if_pending();
      }
      waiting_ = true;
      changed_.wait(lock);
      waiting_ = false;
    }
  }

  void stop() noexcept override {
    try {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    } catch (...) {
    }
    wake_.set();
  }

  void abort(std::string_view why) noexcept override {
    try {
      std::unique_lock lock(mutex_);
      if (closed_ || stop_ || abort_) return;
      abort_ = why.substr(0, kMaxReason);
      wake_.set();
      changed_.wait_for(lock, milliseconds(500), [&] { return abort_sent_; });
    } catch (...) {
    }
  }

  std::shared_ptr<Relayed> relayed() override {
    if (!relayed_) {
      relayed_ = relay_shared_;
      relayed_->set_poke([this] {
        const std::lock_guard lock(mutex_);
        poked_ = true;
        if (waiting_) changed_.notify_all();
      });
      const std::lock_guard lock(mutex_);
      relay_ = true;
    }
    return relayed_;
  }

 private:
  struct Link {
    Endpoint endpoint;
    std::string name;
    zmq::socket_t socket, monitor;
    enum class State { opening, open, over } state = State::opening;
    std::uint64_t nonce = random_id();
    bool greeted = false;  // a HELLO has come in this or an earlier session
    bool granted = false, answered = false, extra = false, stop_sent = false, end_acked = false;
    bool shared = false, subset = false;
    std::uint64_t unacked = 0;  // batches of this session that we hold
    std::uint64_t frames_in = 0, frames_out = 0;
    std::optional<wire::End> end;  // of this session
    bool final = false, partial = false;
    int damaged = 0;
    Clock::time_point heard, sent, tried;
  };

  // A batch that was delivered by a producer and is not acknowledged yet: where to send the acknowledgement.
  struct Pending {
    std::uint64_t body_hash = 0;
    std::vector<std::pair<std::size_t, std::uint64_t>> from;  // link, session
  };

  // ---- calling thread ----

  void connect(const Endpoint& e) {
    Link l;
    l.endpoint = e;
    l.name = e.text.substr(0, e.text.find('?'));
    l.socket = zmq::socket_t(context_, zmq::socket_type::dealer);
    common_options(l.socket);
    const std::string identity = fmt::format("b{:016x}.{}", uid_, links_.size());
    l.socket.set(zmq::sockopt::routing_id, identity);
    l.socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(wire::kMaxBody));
    if (!e.key.empty()) {
      const auto keys = read_keys(e, false);
      l.socket.set(zmq::sockopt::curve_serverkey, keys.server);
      l.socket.set(zmq::sockopt::curve_publickey, keys.public_key);
      l.socket.set(zmq::sockopt::curve_secretkey, keys.secret_key);
      const auto monitor = fmt::format("inproc://monitor.{}", links_.size());
      if (::zmq_socket_monitor(l.socket.handle(), monitor.c_str(), ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) != 0)
        fail(Exit::failed, "{}: {}", e.text, ::zmq_strerror(::zmq_errno()));
      l.monitor = zmq::socket_t(context_, zmq::socket_type::pair);
      l.monitor.set(zmq::sockopt::linger, 0);
      l.monitor.connect(monitor);
    }
    const auto address = address_of(e, false);
    if (address.find('[') != std::string::npos) l.socket.set(zmq::sockopt::ipv6, true);
    try {
      l.socket.connect(address);
    } catch (const zmq::error_t& error) {
      fail(Exit::usage, "endpoint '{}' cannot be read from: {}", e.text, error.what());
    }
    l.heard = Clock::now();
    links_.push_back(std::move(l));
  }

  // The caller waits: with the mutex held.
  void demand() {
    if (hungry_) return;
    hungry_ = true;
    wake_.set();
  }

  // ---- the thread that owns the sockets ----

  void run() {
    try {
      loop();
    } catch (const Error& e) {
      give_up(e);
    } catch (const std::exception& e) {
      give_up(Error(Exit::failed, fmt::format("{}: {}", name_, e.what())));
    }
    for (auto& l : links_) {
      l.monitor.close();
      l.socket.close();
    }
    const std::lock_guard lock(mutex_);
    abort_sent_ = closed_ = true;
    changed_.notify_all();
  }

  void give_up(const Error& e) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::make_shared<Error>(e);
    changed_.notify_all();
  }
  template <class... A>
  void fail_now(Exit code, fmt::format_string<A...> text, A&&... a) {
    failed_ = true;
    give_up(Error(code, fmt::format(text, std::forward<A>(a)...)));
  }

  void loop() {
    now_ = started_ = Clock::now();
    Clock::time_point last = now_;
    bool signal_seen = signals::fd() < 0;
    std::vector<zmq::pollitem_t> items;
    Clock::time_point quit_since{};
    for (;;) {
      items.clear();
      items.push_back({nullptr, wake_.fd(), ZMQ_POLLIN, 0});
      for (auto& l : links_) items.push_back({l.socket.handle(), 0, ZMQ_POLLIN, 0});
      const std::size_t signal_at = items.size();
      if (!signal_seen) items.push_back({nullptr, signals::fd(), ZMQ_POLLIN, 0});
      if (::zmq_poll(items.data(), static_cast<int>(items.size()), opening_ ? 20 : 100) < 0 && ::zmq_errno() != EINTR)
        fail(Exit::failed, "{}: {}", name_, ::zmq_strerror(::zmq_errno()));
      wake_.clear();
      now_ = Clock::now();
      if (now_ - last > kStall) {  // we were frozen: what the producers sent meanwhile is still to be read
        for (auto& l : links_) l.heard += now_ - last;
        started_ += now_ - last;
      }
      last = now_;
      if (!signal_seen && (items[signal_at].revents & ZMQ_POLLIN) != 0) {
        signal_seen = true;
        const std::lock_guard lock(mutex_);
        changed_.notify_all();
      }
      take_orders();
      Message m;
      for (std::size_t i = 0; i < links_.size(); ++i) {
        watch(links_[i]);
        for (int k = 0; k < 256 && receive(links_[i].socket, false, m, links_[i].name); ++k) handle(i, m);
      }
      acknowledge_now();
      if (!failed_) {
        feed();
        timers();
        look_for_end();
      }
      publish();
      if (quitting_) {
        if (quit_since == Clock::time_point{}) quit_since = now_;
        const bool told = std::none_of(links_.begin(), links_.end(), [](const Link& l) { return l.state == Link::State::open && l.stop_sent; });
        if (!stopping_ || told || now_ - quit_since > kGrace) break;
      }
    }
    // Where nobody answers there is nobody to wait for.
    for (auto& l : links_) l.socket.set(zmq::sockopt::linger, l.state == Link::State::opening ? 0 : static_cast<int>(kLinger.count()));
  }

  void take_orders() {
    std::unique_lock lock(mutex_);
    acks_.swap(ack_box_);
    wants_ = wants_ || (hello_read_ && hungry_);
    starving_ = hungry_ && ready_.empty();
    is_relay_ = relay_;
    stopping_ = stop_;
    closing_io_ = closing_;
    quitting_ = quit_;
    const auto why = abort_ && !abort_sent_ ? abort_ : std::nullopt;
    lock.unlock();
    if (!why) return;
    for (auto& l : links_)
      if (l.state == Link::State::open) {
        auto f = wire::abort_frame(uid_, *why);
        f.seq = l.nonce;
        tell(l, f);
      }
    lock.lock();
    abort_sent_ = true;
    changed_.notify_all();
  }

  bool tell(Link& l, const Frame& f) {
    l.sent = now_;
    if (f.kind != Kind::heartbeat) ++l.frames_out;
    return send(l.socket, nullptr, f);
  }

  static void new_session(Link& l) {
    l.state = Link::State::opening;
    l.nonce = random_id();
    l.tried = {};
    l.granted = l.answered = l.extra = l.stop_sent = l.end_acked = false;
    l.unacked = l.frames_in = l.frames_out = 0;
    l.end.reset();
    l.final = false;
  }

  void handle(std::size_t index, Message& m) {
    Link& l = links_[index];
    if (!m.header) {
      damaged(l, "a message that is no frame");
      return;
    }
    const Header& h = *m.header;
    l.heard = now_;
    if (l.state == Link::State::over) return;
    if (h.kind == Kind::hello && h.seq == l.nonce) {
      greeted(l, h, std::move(m.body));
      return;
    }
    if (h.kind == Kind::abort && (l.state == Link::State::open || h.seq == l.nonce)) {
      if (closing_io_ || stopping_) return;
      const Buffer body(m.body.data(), m.body.size());
      std::string why(m.body.to_string());
      if (hash64_differs(h, body)) why = "(its reason was damaged on the way)";
      fail_now(Exit::upstream, "{}: the writer gave up: {}", l.name, why);
      return;
    }
    if (h.kind == Kind::stop) {  // whatever the session: the producer needs nothing more from us
      l.state = Link::State::over;
      return;
    }
    if (l.state != Link::State::open) return;  // of an earlier session
    switch (h.kind) {
      case Kind::heartbeat:
        if (h.seq != l.nonce) break;
        if ((h.flags & kUnknown) != 0 || h.schema != l.frames_in) new_session(l);
        else heartbeat(l, h);
        break;
      case Kind::batch:
        ++l.frames_in;
        batch(index, h, std::move(m.body));
        break;
      case Kind::end:
        ++l.frames_in;
        end(l, h, std::move(m.body));
        break;
      default: break;
    }
  }

  void heartbeat(Link& l, const Header& h) {
    sharing(l, h.flags);
    if ((h.flags & kAnswer) == 0 || l.answered) return;
    l.answered = true;
    // What was released before the producer itself began, somebody must hold: a relay's sink, another reader, or we.
    if (is_relay_ || shared_ || safe_.size() >= h.count) return;
    const auto why =
        fmt::format("{} batches of the stream were acknowledged before this reader started, and released: rerun from the first stage", h.count - safe_.size());
    auto f = wire::abort_frame(uid_, why);
    f.seq = l.nonce;
    tell(l, f);
    fail_now(Exit::upstream, "{}: {}", l.name, why);
  }

  static bool hash64_differs(const Header& h, const Buffer& body) {
    try {
      wire::check_body(h, body, "");
      return false;
    } catch (const Error&) {
      return true;
    }
  }

  // A damaged frame is asked for again, by a new session; more than a few in a row are no accident of the line.
  void damaged(Link& l, std::string_view what) {
    if (++l.damaged >= kMaxDamaged)
      fail_now(Exit::input, "{}: {} arrived damaged {} times in a row: the producer's memory or the network is faulty", l.name, what, l.damaged);
    else new_session(l);
  }

  void greeted(Link& l, const Header& h, zmq::message_t&& body) {
    if (l.state == Link::State::open) {  // the answer to an OPEN that was repeated
      ++l.frames_in;
      return;
    }
    Buffer buffer = take(std::move(body));
    if (hash64_differs(h, buffer)) {
      damaged(l, "HELLO");
      return;
    }
    l.state = Link::State::open;
    l.frames_in = 1;
    if (!hello_) {
      hello_ = true;
      stream_ = h.stream;
      schema_ = h.schema;
      relay_shared_->released = h.count;
      out_.push_back(frame_of(h, std::move(buffer)));
    } else if (stream_ != h.stream || schema_ != h.schema) {
      if (l.greeted) fail_now(Exit::input, "{}: the writer came back with another stream: rerun this stage", l.name);
      else
        fail_now(Exit::input, "{} carries another stream than the other endpoints: only workers of one stage with the same input and options are read together",
                 l.name);
      return;
    } else if (!l.greeted) {
      relay_shared_->released = std::max(relay_shared_->released.load(), std::uint64_t{h.count});
    }
    l.greeted = true;
    sharing(l, h.flags);
  }

  static Frame frame_of(const Header& h, Buffer body) {
    Frame f{h.kind, 0, h.stream, h.seq, h.schema, h.count, std::move(body)};
    if (h.kind == Kind::hello) f.seq = f.count = 0;
    return f;
  }

  void sharing(Link& l, std::uint16_t flags) {
    l.shared = l.shared || (flags & kShared) != 0;
    l.subset = l.subset || (flags & kSubset) != 0;
    bool any_shared = false;
    for (const auto& other : links_) any_shared = any_shared || other.shared;
    shared_ = any_shared || (links_.size() == 1 && l.subset);
    if (shared_) relay_shared_->subset = true;
  }

  // Order can be restored only by a reader that gets the whole stream; a relay passes batches on as they come.
  bool ordered() const { return strict_ && !is_relay_ && !shared_; }

  void batch(std::size_t index, const Header& h, zmq::message_t&& body) {
    Link& l = links_[index];
    l.extra = false;
    if (h.stream != stream_ || (total_ && h.seq >= *total_)) {
      fail_now(Exit::input, "{}: batch {} does not belong to the stream", l.name, h.seq);
      return;
    }
    if (stopping_) return;
    if (safe_.contains(h.seq)) {  // sent again by a producer that was not told, or was started again
      tell(l, control(Kind::ack, 0, stream_, h.seq, l.nonce, 0));
      return;
    }
    Buffer buffer = take(std::move(body));
    if (hash64_differs(h, buffer)) {
      damaged(l, fmt::format("batch {}", h.seq));
      return;
    }
    l.damaged = 0;
    auto [at, is_new] = pending_.try_emplace(h.seq);
    Pending& p = at->second;
    std::erase_if(p.from, [&](const auto& f) { return f.first == index; });
    p.from.emplace_back(index, l.nonce);
    ++l.unacked;
    if (!is_new) {
      if (p.body_hash != h.body_hash)
        fail_now(Exit::input, "{}: batch {} came twice with different content: the stage that makes it is not reproducible", l.name, h.seq);
      return;
    }
    p.body_hash = h.body_hash;
    if (received_.insert(h.seq)) {
      ++sum_.batches;
      sum_.events += h.count;
      sum_.digest += wire::end_term(h.seq, h.body_hash);
    }
    waiting_order_.emplace(h.seq, frame_of(h, std::move(buffer)));
  }

  void end(Link& l, const Header& h, zmq::message_t&& body) {
    if (h.stream != stream_) return;
    Frame f = frame_of(h, take(std::move(body)));
    if (hash64_differs(h, f.body)) {
      damaged(l, "END");
      return;
    }
    const auto counts = wire::read_end(f, l.name);
    if (total_ && *total_ != h.seq) {
      fail_now(Exit::input, "{}: END says {} batches, another producer of the stream said {}", l.name, h.seq, *total_);
      return;
    }
    total_ = h.seq;
    l.end = counts;
    l.final = l.final || (h.flags & kFinal) != 0;
    l.partial = (h.flags & kPartial) != 0;
    relay_shared_->total = static_cast<std::int64_t>(h.seq);
  }

  void acknowledge_now() {
    for (const auto seq : acks_) {
      const auto at = pending_.find(seq);
      if (at == pending_.end()) continue;
      safe_.insert(seq);
      for (const auto& [index, nonce] : at->second.from) {
        Link& l = links_[index];
        if (l.state != Link::State::open || l.nonce != nonce) continue;  // it will be sent again, and acknowledged then
        if (l.unacked > 0) --l.unacked;
        tell(l, control(Kind::ack, 0, stream_, seq, l.nonce, 0));
      }
      pending_.erase(at);
    }
    acks_.clear();
  }

  // Releases what is in order, and asks for more.
  void feed() {
    while (!waiting_order_.empty()) {
      const auto first = waiting_order_.begin();
      const bool in_order = first->first == next_;
      if (ordered() && !in_order && !ended_io_) break;
      next_ = first->first + 1;
      out_.push_back(std::move(first->second));
      waiting_order_.erase(first);
    }
    if (stopping_) {
      for (auto& l : links_)
        if (l.state == Link::State::open && !l.stop_sent) {
          l.stop_sent = true;
          tell(l, control(Kind::stop, 0, stream_, l.nonce, 0, 0));
        }
      return;
    }
    if (!wants_) return;
    for (auto& l : links_) {
      if (l.state != Link::State::open) continue;
      if (!l.granted) {
        l.granted = true;
        const auto flags = static_cast<std::uint16_t>(kGrant | (is_relay_ ? kRelay : 0) | (safe_.size() == 0 ? kFresh : 0));
        tell(l, control(Kind::credit, flags, uid_, l.nonce, l.endpoint.bytes, l.endpoint.credit));
      }
      // Everything that this producer may send is here, and still the caller waits: without one more batch it could
      // wait for ever (for the batch that is next in order, or for what it needs before it can acknowledge anything).
      if (starving_ && out_.empty() && l.unacked > 0 && !l.extra) {
        l.extra = true;
        tell(l, control(Kind::credit, kExtra, uid_, l.nonce, 0, 1));
      }
    }
  }

  void timers() {
    Clock::time_point latest{};
    opening_ = false;
    bool all_over = true;
    for (auto& l : links_) {
      latest = std::max(latest, l.heard);
      if (l.state == Link::State::over) continue;
      all_over = false;
      if (l.state == Link::State::open && now_ - l.heard > kSilence) new_session(l);
      if (l.state == Link::State::opening) {
        opening_ = true;
        // libzmq keeps these for a producer that is not there yet: few, then
        if (now_ - l.tried >= (now_ - l.heard < 5 * kSilence ? kRetry : kSilence) && send(l.socket, nullptr, control(Kind::credit, kOpen, uid_, l.nonce, 0, 0)))
          l.tried = now_;
      } else if (now_ - l.sent >= kHeartbeat) {
        tell(l, control(Kind::heartbeat, 0, stream_, l.nonce, l.frames_out, 0));
      }
    }
    if (ended_io_ || stopping_) return;
    if (all_over) {  // the producers say that everything is finished
      over_ = true;
      return;
    }
    if (now_ - latest > (hello_ ? timeout_ + kSilence : timeout_)) {
      if (hello_)
        fail_now(Exit::upstream, "{}: the writer was lost after {} batches and did not come back within {} s", name_, sum_.batches, seconds(timeout_));
      else fail_now(Exit::upstream, "no writer answered at {} within {} s: start it, or give a longer ?timeout=", name_, seconds(timeout_));
    }
  }

  void look_for_end() {
    if (closing_io_) {
      finish_closing();
      return;
    }
    if (ended_io_ || stopping_ || !hello_) return;
    if (over_) {
      if (!is_relay_ && (!total_ || (!shared_ && received_.size() != *total_)))
        fail_now(Exit::upstream, "{}: the stream was finished before this reader had all of it", name_);
      else ended_io_ = true;
      return;
    }
    if (!total_ || !wants_) return;
    bool all_greeted = true, all_ended = true, final = false, partial = false;
    wire::End sum;
    for (const auto& l : links_) {
      all_greeted = all_greeted && l.greeted;
      all_ended = all_ended && (l.state != Link::State::open || l.end);
      if (l.state == Link::State::open && !l.answered) return;  // whether others share the stream decides what is missing
      final = final || l.final;
      partial = partial || l.partial;
      if (!l.end) continue;
      sum.batches += l.end->batches;
      sum.events += l.end->events;
      sum.digest += l.end->digest;
    }
    const bool complete = received_.size() == *total_;
    if (!complete && !final) return;
    if (settled_ == Clock::time_point{}) settled_ = now_;
    if (!all_greeted) {  // a producer that never showed up might hold another stream
      if (now_ - started_ > timeout_)
        for (const auto& l : links_)
          if (!l.greeted) {
            fail_now(Exit::upstream, "no writer answered at {} within {} s: start it, or give a longer ?timeout=", l.name, seconds(timeout_));
            return;
          }
      return;
    }
    if (!all_ended && now_ - settled_ < kGrace) return;
    if (complete && sum.batches == *total_ && sum != sum_) {
      fail_now(Exit::input, "{}: END counts {} events in {} batches, but {} in {} were read{}", name_, sum.events, sum.batches, sum_.events, sum_.batches,
               sum.events == sum_.events ? " (and their digest differs)" : "");
      return;
    }
    if (!complete && !is_relay_ && !shared_ && (partial || sum != sum_)) {
      fail_now(Exit::upstream,
               "{}: {} of {} batches are missing, the first is {}: they were acknowledged by an earlier process of this stage or given to another reader; "
               "rerun from the first stage",
               name_, *total_ - received_.size(), *total_, received_.first_missing());
      return;
    }
    ended_io_ = true;
    feed();
  }

  // "All batches of the stream are safe" to every producer; each answers STOP.
  void finish_closing() {
    if (closing_since_ == Clock::time_point{}) closing_since_ = now_;
    bool open = false, away = false, over = false;
    for (auto& l : links_) {
      if (l.state == Link::State::open && !l.end_acked && total_) {
        l.end_acked = true;
        tell(l, control(Kind::ack, kEndAck, stream_, *total_, l.nonce, 0));
      }
      open = open || l.state == Link::State::open;
      away = away || l.state == Link::State::opening;
      over = over || l.state == Link::State::over;
    }
    const auto waited = now_ - closing_since_;
    if ((!open && !away) || (!open && over && waited > kGrace) || waited > timeout_) closed_io_ = true;
  }

  void watch(Link& l) {
    if (!l.monitor) return;
    zmq::message_t event, address;
    while (l.monitor.recv(event, zmq::recv_flags::dontwait)) {
      if (event.more() && !l.monitor.recv(address, zmq::recv_flags::dontwait)) break;
      if (!l.greeted)
        fail_now(Exit::upstream, "{}: the writer refused our key: our public key needs an 'allow' line in its key file '{}' or the like", l.name,
                 l.endpoint.key);
    }
  }

  void publish() {
    const std::lock_guard lock(mutex_);
    for (auto& f : out_) ready_.push_back(std::move(f));
    out_.clear();
    ended_ = ended_ || ended_io_;
    closed_ = closed_ || closed_io_;
    if (waiting_ && (!ready_.empty() || ended_ || closed_ || error_)) changed_.notify_all();
  }

  zmq::context_t context_{1};
  const std::uint64_t uid_ = random_id();
  milliseconds timeout_{0};
  bool strict_ = true;
  std::vector<Link> links_;
  Wake wake_;
  std::thread thread_;
  std::shared_ptr<Relayed> relay_shared_ = std::make_shared<Relayed>(), relayed_;

  // shared
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Frame> ready_;
  std::vector<std::uint64_t> ack_box_;
  std::shared_ptr<Error> error_;
  std::optional<std::string> abort_;
  bool hello_read_ = false, hungry_ = false, waiting_ = false, poked_ = false, ended_ = false, stop_ = false, closing_ = false, closed_ = false,
       abort_sent_ = false, relay_ = false, quit_ = false;

  // the sockets' thread
  Clock::time_point now_, started_, settled_{}, closing_since_{};
  std::uint64_t stream_ = 0, schema_ = 0, next_ = 0;
  std::map<std::uint64_t, Pending> pending_;      // delivered to us, not acknowledged by the caller
  std::map<std::uint64_t, Frame> waiting_order_;  // of these: not yet in order
  SeqSet received_, safe_;
  wire::End sum_;  // of what was received, each batch once
  std::optional<std::uint64_t> total_;
  std::vector<std::uint64_t> acks_;
  std::deque<Frame> out_;
  bool hello_ = false, wants_ = false, starving_ = false, is_relay_ = false, shared_ = false, stopping_ = false, closing_io_ = false, quitting_ = false,
       ended_io_ = false, closed_io_ = false, over_ = false, failed_ = false, opening_ = true;
};

}  // namespace

std::unique_ptr<Source> open_zmq_source(const std::vector<Endpoint>& endpoints) { return std::make_unique<ZmqSource>(endpoints); }

}  // namespace bl::transport
