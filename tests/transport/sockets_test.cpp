// PROTOCOL.md, sentences 14 to 63: sockets, and streams in memory.
#include <sys/resource.h>

#include <fstream>

#include "base/files.hpp"
#include "base/hash.hpp"
#include "support.hpp"

namespace bl::test {
namespace {

const std::string kRole = STREAM_ROLE;

struct Place {
  Folder folder;
  std::string ipc(const std::string& name = "s", const std::string& options = "") const {
    return "ipc://" + (folder / name) + (options.empty() ? "" : "?" + options);
  }
};

// ---- opening a session ----

TEST(Protocol, S14_EitherStartsFirst) {
  for (const bool consumer_first : {true, false}) {
    Place place;
    auto consumer = [&] { return read_all(*open_source(place.ipc())); };
    std::future<Got> got;
    if (consumer_first) got = in_background(consumer);
    sleep_for(consumer_first ? 300ms : 0ms);
    const auto out = open_sink(place.ipc(), {});
    if (!consumer_first) {
      sleep_for(300ms);
      got = in_background(consumer);
    }
    write_all(*out, 20);
    EXPECT_EQ(got.get().seqs, counted(20));
  }
}

TEST(Protocol, S15_HelloAnswersOpenInEverySession) {
  Place place;
  const auto out = open_sink(place.ipc(), {});
  out->write(made_hello(kStream));
  RawConsumer raw(place.ipc());
  for (const std::uint64_t session : {11u, 12u, 13u}) {
    raw.open(5, session);
    const auto hello = raw.next();
    ASSERT_TRUE(hello);
    EXPECT_EQ(hello->kind, Kind::hello);
    EXPECT_EQ(hello->seq, session);
    EXPECT_EQ(hello->stream, kStream);
  }
}

TEST(Protocol, S16_ProducerThatStillLoads) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  auto got = in_background([&] { return read_all(*open_source(place.ipc("s", "timeout=400ms"))); });
  sleep_for(1200ms);  // three times the consumer's timeout
  write_all(*out, 3);
  EXPECT_EQ(got.get().seqs, counted(3));
}

TEST(Protocol, S17_NoBatchBeforeTheCallerAsks) {
  Place place;
  const auto out = open_sink(place.ipc(), {});
  out->write(made_hello(kStream));
  const auto loading = open_source(place.ipc()), busy = open_source(place.ipc());
  read_hello(*loading);
  read_hello(*busy);
  auto written = in_background([&] {
    write_batches(*out, 0, 40);
    out->finish();
  });
  // The one that asks gets everything but what the other was given: nothing, although it has been there from the start.
  EXPECT_EQ(read_some(*busy, 40).seqs, counted(40));
  auto rest = in_background([&] { return read_rest(*busy); });
  EXPECT_TRUE(read_rest(*loading).seqs.empty());
  rest.get();
  written.get();
}

TEST(Protocol, S18_WaitsForPeers) {
  Place place;
  const auto out = open_sink(place.ipc("s", "peers=2"), {});
  out->write(made_hello(kStream));
  RawConsumer first(place.ipc(), "bfirst"), second(place.ipc(), "bsecond");
  first.open(1, 1);
  ASSERT_TRUE(first.next());
  first.grant(8, 1 << 20, link::kRelay);
  out->write(made_batch(kStream, 0, 100));
  EXPECT_FALSE(first.next(300ms)) << "a batch left before the second consumer was there";
  second.open(2, 1);
  ASSERT_TRUE(second.next());
  second.grant(8, 1 << 20, link::kRelay);
  const auto batch = first.next(300ms);
  EXPECT_TRUE((batch && batch->kind == Kind::batch) || second.next(300ms));
}

TEST(Protocol, S19_NoConsumer) {
  Place place;
  const auto begin = Clock::now();
  auto o = outcome([&] { write_all(*open_sink(place.ipc("s", "timeout=300ms"), {}), 1); });
  EXPECT_TRUE(fails(o, Exit::downstream, place.ipc()));
  EXPECT_LT(Clock::now() - begin, 3s);
  o = outcome([&] { write_all(*open_sink(place.ipc("s", "timeout=300ms&peers=3"), {}), 1); });
  EXPECT_TRUE(fails(o, Exit::downstream, "0 of 3 readers"));
}

TEST(Protocol, S20_NoProducer) {
  Place place;
  const auto o = outcome([&] { read_all(*open_source(place.ipc("nobody", "timeout=300ms"))); });
  EXPECT_TRUE(fails(o, Exit::upstream, place.ipc("nobody")));
}

TEST(Protocol, S21_AddressTakenOrForeign) {
  Place place;
  const auto port = free_port();
  const auto out = open_sink("tcp://127.0.0.1:" + port, {});
  EXPECT_TRUE(fails(outcome([&] { open_sink("tcp://127.0.0.1:" + port, {}); }), Exit::write, "is taken"));
  const auto ipc = open_sink(place.ipc(), {});
  EXPECT_TRUE(fails(outcome([&] { open_sink(place.ipc(), {}); }), Exit::write, "is taken"));
  EXPECT_TRUE(fails(outcome([&] { open_sink("tcp://192.0.2.1:7000?insecure=1", {}); }), Exit::usage, "its own machine"));
  EXPECT_TRUE(fails(outcome([&] { open_sink(place.ipc("no/such/folder"), {}); }), Exit::write, "folder"));
  EXPECT_TRUE(fails(outcome([&] { open_sink("ipc://" + std::string(200, 'x'), {}); }), Exit::usage, "200 characters"));
}

TEST(Protocol, S22_SocketFile) {
  Place place;
  const std::string path = place.folder / "s";
  {
    const auto out = open_sink(place.ipc(), {});
    struct stat info {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777u, 0600u);
  }
  EXPECT_FALSE(std::filesystem::exists(path)) << "the socket file stayed behind";
  // left by a producer that was killed
  Process killed({kRole, "source", "-", place.ipc()}, place.folder / "log");
  while (!std::filesystem::exists(path)) sleep_for(5ms);
  killed.kill();
  ASSERT_TRUE(std::filesystem::exists(path));
  open_sink(place.ipc(), {});
  // something else
  write_file(path, "precious", true);
  EXPECT_TRUE(fails(outcome([&] { open_sink(place.ipc(), {}); }), Exit::write, "no socket"));
  EXPECT_EQ(content(path), "precious");
}

TEST(Protocol, S23_OffLoopbackNeedsKeyOrConsent) {
  EXPECT_TRUE(fails(outcome([&] { open_sink("tcp://*:" + free_port(), {}); }), Exit::usage, "insecure=1"));
  EXPECT_TRUE(fails(outcome([&] { open_sink("tcp://0.0.0.0:" + free_port(), {}); }), Exit::usage, "key=FILE"));
  EXPECT_NO_THROW(open_sink("tcp://*:" + free_port() + "?insecure=1", {}));
}

struct Curve {
  Place place;
  std::string port = free_port();
  struct Pair {
    std::string open, secret;
  };
  static Pair pair() {
    char open[41] = {}, secret[41] = {};
    ::zmq_curve_keypair(open, secret);
    return {open, secret};
  }
  std::string file(const std::string& name, const std::string& text, int mode = 0600) {
    const auto path = place.folder / name;
    write_file(path, text, true);
    std::filesystem::permissions(path, static_cast<std::filesystem::perms>(mode));
    return path;
  }
  Pair server = pair(), friendly = pair(), foreign = pair();
  std::string server_file = file("server", "# producer\npublic " + server.open + "\nsecret " + server.secret + "\nallow " + friendly.open + "\n");
  std::string friend_file = file("friend", "public " + friendly.open + "\nsecret " + friendly.secret + "\nserver " + server.open + "\n");
  std::string foreign_file = file("foreign", "public " + foreign.open + "\nsecret " + foreign.secret + "\nserver " + server.open + "\n");
  std::string endpoint(const std::string& key) const { return "tcp://127.0.0.1:" + port + "?timeout=800ms" + (key.empty() ? "" : "&key=" + key); }
};

TEST(Protocol, S24_EncryptedForAllowedKeys) {
  Curve c;
  const auto out = open_sink("tcp://*:" + c.port + "?timeout=5s&key=" + c.server_file, {});
  auto got = in_background([&] { return read_all(*open_source(c.endpoint(c.friend_file))); });
  write_all(*out, 50, 20000);
  const auto g = got.get();
  EXPECT_EQ(g.seqs, counted(50));
  EXPECT_EQ(g.altered, 0u);
}

TEST(Protocol, S25_RefusedKey) {
  Curve c;
  const auto out = open_sink(c.endpoint(c.server_file), {});
  out->write(made_hello(kStream));
  const auto begin = Clock::now();
  EXPECT_TRUE(
      fails(outcome([&] { read_all(*open_source("tcp://127.0.0.1:" + c.port + "?timeout=20s&key=" + c.foreign_file)); }), Exit::upstream, "refused our key"));
  EXPECT_LT(Clock::now() - begin, 5s);
  // without any key there is no answer either
  EXPECT_TRUE(fails(outcome([&] { read_all(*open_source(c.endpoint(""))); }), Exit::upstream, "no writer answered"));
}

TEST(Protocol, S26_KeyFiles) {
  Curve c;
  const auto bad = [&](const std::string& path) { return outcome([&] { open_sink(c.endpoint(path), {}); }); };
  EXPECT_TRUE(fails(bad(c.file("open", content(c.server_file), 0644)), Exit::usage, "chmod 600"));
  EXPECT_TRUE(fails(bad(c.file("short", "public " + c.server.open + "\nsecret abc\n")), Exit::usage, "line 2"));
  EXPECT_TRUE(fails(bad(c.file("word", "publik " + c.server.open + "\n")), Exit::usage, "publik"));
  EXPECT_TRUE(fails(bad(c.file("nobody", "public " + c.server.open + "\nsecret " + c.server.secret + "\n")), Exit::usage, "allow"));
  EXPECT_TRUE(fails(bad(c.place.folder / "absent"), Exit::usage, "absent"));
  EXPECT_TRUE(fails(outcome([&] { open_source(c.endpoint(c.server_file)); }), Exit::usage, "server"));
}

// ---- credit and acknowledgement ----

// Batches that arrive at a consumer by hand before it acknowledges anything.
std::size_t in_flight(const std::string& endpoint, std::uint32_t window, std::uint64_t bytes, std::size_t size, RawConsumer& raw, transport::Sink& out,
                      std::future<void>& writing) {
  (void)endpoint;
  out.write(made_hello(kStream));
  raw.open(1, 1);
  check(raw.next().has_value(), "HELLO");
  raw.grant(window, bytes, link::kRelay);
  writing = in_background([&out, size] { outcome([&] { write_batches(out, 0, 50, size); }); });
  std::size_t n = 0;
  while (raw.next(300ms)) ++n;
  return n;
}

TEST(Protocol, S27_CreditInBatches) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  RawConsumer raw(place.ipc());
  std::future<void> writing;
  EXPECT_EQ(in_flight(place.ipc(), 5, 1 << 30, 1000, raw, *out, writing), 5u);
  raw.ack(0);
  raw.ack(1);
  EXPECT_TRUE(raw.next());
  EXPECT_TRUE(raw.next());
  EXPECT_FALSE(raw.next(200ms)) << "more batches than were acknowledged";
  raw.send(wire::abort_frame(kStream, "the test is over"));
  raw.send(link::control(Kind::abort, 0, 1, 1, 0, 0));
  writing.get();
}

TEST(Protocol, S28_CreditInBytes) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  RawConsumer raw(place.ipc());
  std::future<void> writing;
  EXPECT_EQ(in_flight(place.ipc(), 100, 10500, 1000, raw, *out, writing), 10u);
  raw.send(link::control(Kind::abort, 0, 1, 1, 0, 0));
  writing.get();
  // each larger than the credit: one after the other
  auto large = open_sink(place.ipc("large"), {});
  RawConsumer other(place.ipc("large"));
  EXPECT_EQ(in_flight(place.ipc("large"), 100, 500, 1000, other, *large, writing), 1u);
  other.ack(0);
  EXPECT_TRUE(other.next());
  EXPECT_FALSE(other.next(200ms));
  other.send(link::control(Kind::abort, 0, 1, 1, 0, 0));
  writing.get();
}

TEST(Protocol, S29_OneMoreForACallerThatWaits) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  auto writing = in_background([&] { write_all(*out, 30); });
  const auto in = open_source(place.ipc("s", "credit=2"));
  read_hello(*in);
  std::vector<Frame> held;  // a shuffle: everything is read before anything is acknowledged
  while (auto f = in->read()) held.push_back(*f);
  ASSERT_EQ(held.size(), 30u);
  for (const auto& f : held) in->acknowledge(f.stream, f.seq);
  in->close();
  writing.get();
}

TEST(Protocol, S30_MemoryIsBoundedByCredit) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  out->write(made_hello(kStream));
  const auto in = open_source(place.ipc("s", "credit=3"));
  read_hello(*in);
  std::atomic<std::uint64_t> written = 0;
  auto writing = in_background([&] {
    for (std::uint64_t seq = 0; seq < 50; ++seq) {
      out->write(made_batch(kStream, seq, link::kAheadBytes, true));
      ++written;
    }
    out->finish();
  });
  const auto first = in->read();
  sleep_for(300ms);
  EXPECT_LE(written, 3 + link::kAhead);
  in->acknowledge(first->stream, first->seq);
  read_rest(*in);
  writing.get();
  // and in processes of their own: 400 MiB through a slow sink; the sanitizers are slow and keep freed memory
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const std::string batches = "batches=40";
#else
  const std::string batches = "batches=400";
#endif
  Process source({kRole, "source", "-", place.ipc("big"), batches, "bytes=1048576", "fixed=1", "rss=1"}, place.folder / "source");
  Process worker({kRole, "worker", place.ipc("big", "credit=4"), place.ipc("w"), "rss=1"}, place.folder / "worker");
  Process sink({kRole, "sink", place.ipc("w", "credit=4"), "-", batches, "bytes=1048576", "fixed=1", "delay=1000", "rss=1"}, place.folder / "sink");
  ASSERT_EQ(sink.wait(40s), 0) << sink.log();
  ASSERT_EQ(worker.wait(5s), 0) << worker.log();
  ASSERT_EQ(source.wait(5s), 0) << source.log();
  for (auto* p : {&source, &worker, &sink}) {
    const auto log = p->log();
    const auto at = log.find("peak ");
    ASSERT_NE(at, std::string::npos) << log;
    if (batches == "batches=400") {
      EXPECT_LT(std::stol(log.substr(at + 5)), 64 * 1024) << log;
    }
  }
}

TEST(Protocol, S31_KeptUntilAcknowledged) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  std::vector<std::uint64_t> acknowledged;
  out->on_acknowledged([&](std::uint64_t, std::uint64_t seq) { acknowledged.push_back(seq); });
  out->write(made_hello(kStream));
  auto in = open_source(place.ipc());
  read_hello(*in);
  auto next = in_background([&] { return in->read(); });
  out->write(made_batch(kStream, 0, 1000, true));
  out->write(made_batch(kStream, 1, 1000, true));
  const auto batch = next.get();
  const auto second = in->read();
  sleep_for(100ms);
  out->poll();
  EXPECT_TRUE(acknowledged.empty());
  in->acknowledge(kStream, 1);
  sleep_for(100ms);
  out->poll();
  EXPECT_EQ(acknowledged, (std::vector<std::uint64_t>{1}));
  in->acknowledge(kStream, 0);
  auto closing = in_background([&] { return read_rest(*in); });
  out->finish();
  EXPECT_EQ(acknowledged, (std::vector<std::uint64_t>{1, 0}));
  closing.get();
}

TEST(Protocol, S32_RelayHandlesAcknowledgementsWhileItReads) {
  Place place;
  auto out = open_sink(place.ipc("a"), {});
  std::atomic<int> acknowledged = 0;
  out->on_acknowledged([&](std::uint64_t, std::uint64_t) { ++acknowledged; });
  out->write(made_hello(kStream));
  auto middle = in_background([&] {
    const auto in = open_source(place.ipc("a"));
    const auto to = open_sink(place.ipc("b"), {});
    relay(*in, *to);
  });
  auto end = in_background([&] { return read_all(*open_source(place.ipc("b"))); });
  write_batches(*out, 0, 5);
  const auto limit = Clock::now() + 3s;  // the relay has nothing left to read and waits
  while (acknowledged < 5 && Clock::now() < limit) {
    out->poll();
    sleep_for(10ms);
  }
  EXPECT_EQ(acknowledged, 5);
  out->finish();
  middle.get();
  EXPECT_EQ(end.get().seqs, counted(5));
}

TEST(Protocol, S33_FewestInFlightAndLateJoiners) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  out->write(made_hello(kStream));
  RawConsumer slow(place.ipc(), "bslow"), fast(place.ipc(), "bfast");
  slow.open(1, 1);
  ASSERT_TRUE(slow.next());
  slow.grant(4, 1 << 20, link::kRelay);
  auto writing = in_background([&] { outcome([&] { write_batches(*out, 0, 20); }); });
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(slow.next());
  EXPECT_FALSE(slow.next(200ms));
  fast.open(2, 1);  // late
  ASSERT_TRUE(fast.next());
  fast.grant(4, 1 << 20, link::kRelay);
  std::vector<std::uint64_t> seqs;
  while (const auto h = fast.next(300ms)) {
    seqs.push_back(h->seq);
    fast.ack(h->seq);
  }
  EXPECT_EQ(seqs, counted(20, 4)) << "the slow one holds 0 to 3, everything else goes to the one that acknowledges";
  fast.send(link::control(Kind::abort, 0, 1, 1, 0, 0));
  writing.get();
}

// ---- order and doubles ----

TEST(Protocol, S34_OrderIsRestored) {
  Place place;
  auto out = open_sink(place.ipc("s", "peers=3"), {});
  std::vector<std::future<void>> workers;
  for (int i = 0; i < 3; ++i)
    workers.push_back(in_background([&, i] {
      const auto in = open_source(place.ipc("s"));
      const auto to = open_sink(place.ipc("w" + std::to_string(i)), {});
      relay(*in, *to, std::chrono::milliseconds(i * 3));  // of different speed
    }));
  auto end = in_background([&] { return read_all(*open_source(place.ipc("w0") + "," + place.ipc("w1") + "," + place.ipc("w2"))); });
  write_all(*out, 300);
  for (auto& w : workers) w.get();
  EXPECT_EQ(end.get().seqs, counted(300));
}

TEST(Protocol, S35_OrderAny) {
  Place place;
  const auto deliver = [&](const std::string& options, const std::string& name) {
    RawProducer a(place.ipc(name));
    const auto in = open_source(place.ipc(name, options));
    a.greet();
    read_hello(*in);
    auto first = in_background([&] { return in->read()->seq; });
    check(a.granted(), "GRANT");
    a.send(made_batch(kStream, 1, 100));
    sleep_for(200ms);
    a.send(made_batch(kStream, 0, 100));
    return first.get();
  };
  EXPECT_EQ(deliver("order=any", "any"), 1u);
  EXPECT_EQ(deliver("order=strict", "strict"), 0u);
}

TEST(Protocol, S36_DoublesAreDropped) {
  Place place;
  RawProducer raw(place.ipc());
  const auto in = open_source(place.ipc());
  raw.greet();
  read_hello(*in);
  auto first = in_background([&] { return in->read()->seq; });
  ASSERT_TRUE(raw.granted());
  raw.send(made_batch(kStream, 0, 100));
  EXPECT_EQ(first.get(), 0u);
  raw.send(made_batch(kStream, 0, 100));  // while the caller has it
  EXPECT_FALSE(raw.next(Kind::ack, 300ms));
  in->acknowledge(kStream, 0);
  ASSERT_TRUE(raw.next(Kind::ack));
  raw.send(made_batch(kStream, 0, 100));  // when it is safe
  const auto ack = raw.next(Kind::ack);
  ASSERT_TRUE(ack);
  EXPECT_EQ(ack->seq, 0u);
  raw.send(made_batch(kStream, 1, 100));
  EXPECT_EQ(in->read()->seq, 1u);
}

TEST(Protocol, S37_SameNumberOtherContent) {
  Place place;
  RawProducer raw(place.ipc());
  const auto in = open_source(place.ipc());
  raw.greet();
  read_hello(*in);
  auto first = in_background([&] { return in->read()->seq; });
  ASSERT_TRUE(raw.granted());
  raw.send(made_batch(kStream, 0, 100));
  first.get();
  auto other = made_batch(kStream, 3, 100);
  other.seq = 0;
  raw.send(other);
  EXPECT_TRUE(fails(outcome([&] { in->read(); }), Exit::input, "not reproducible"));
}

TEST(Protocol, S38_AnotherStream) {
  Place place;
  const auto a = open_sink(place.ipc("a"), {}), b = open_sink(place.ipc("b"), {});
  a->write(made_hello(1));
  b->write(made_hello(2));
  const auto in = open_source(place.ipc("a") + "," + place.ipc("b"));
  EXPECT_TRUE(fails(outcome([&] {
                      read_hello(*in);
                      in->read();
                    }),
                    Exit::input, "another stream"));
}

// ---- loss ----

TEST(Protocol, S39_LostRelaysBatchesGoToOthers) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  out->write(made_hello(kStream));
  auto lost = std::make_unique<RawConsumer>(place.ipc(), "blost");
  lost->open(1, 1);
  ASSERT_TRUE(lost->next());
  lost->grant(3, 1 << 20, link::kRelay);
  auto writing = in_background([&] {
    write_batches(*out, 0, 10);
    out->finish();
  });
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(lost->next());
  const auto begin = Clock::now();
  auto seqs = read_all(*open_source(place.ipc())).seqs;
  std::sort(seqs.begin(), seqs.end());
  EXPECT_EQ(seqs, counted(10));
  writing.get();
  EXPECT_GE(Clock::now() - begin, 1s) << "batches were given away before their consumer was silent for 1.5 s";
  EXPECT_LT(Clock::now() - begin, 4s);
}

TEST(Protocol, S39_BrokenConnectionIsNoticedAtOnce) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  out->write(made_hello(kStream));
  auto lost = std::make_unique<RawConsumer>(place.ipc(), "blost");
  lost->open(1, 1);
  ASSERT_TRUE(lost->next());
  lost->grant(3, 1 << 20, link::kRelay);
  auto writing = in_background([&] {
    write_batches(*out, 0, 10);
    out->finish();
  });
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(lost->next());
  const auto begin = Clock::now();
  lost.reset();
  auto seqs = read_all(*open_source(place.ipc())).seqs;
  std::sort(seqs.begin(), seqs.end());
  EXPECT_EQ(seqs, counted(10));
  writing.get();
  EXPECT_LT(Clock::now() - begin, 1200ms);
}

TEST(Protocol, S40_OnLossFail) {
  Place place;
  auto out = open_sink(place.ipc("s", "on-loss=fail"), {});
  Process relay({kRole, "worker", place.ipc(), place.ipc("w")}, place.folder / "log");
  out->write(made_hello(kStream));
  Process sink({kRole, "sink", place.ipc("w"), "-", "inverted=1"}, place.folder / "log");
  auto writing = in_background([&] { return outcome([&] { write_batches(*out, 0, 1000000); }); });
  sleep_for(300ms);
  relay.kill();
  EXPECT_TRUE(fails(writing.get(), Exit::downstream, "on-loss=fail"));
}

TEST(Protocol, S41_LostProducer) {
  Place place;
  Process source({kRole, "source", "-", place.ipc(), "delay=1000"}, place.folder / "log");
  const auto in = open_source(place.ipc("s", "timeout=600ms"));
  read_hello(*in);
  read_some(*in, 5);
  source.kill();
  const auto begin = Clock::now();
  EXPECT_TRUE(fails(outcome([&] { read_rest(*in); }), Exit::upstream, "did not come back"));
  EXPECT_LT(Clock::now() - begin, 4s);
}

TEST(Protocol, S42_ProducerStartedAgain) {
  Place place;
  Process source({kRole, "source", "-", place.ipc(), "delay=1000", "batches=400", "bytes=2000", "fixed=1"}, place.folder / "log");
  auto got = in_background([&] { return read_all(*open_source(place.ipc())); });
  for (int i = 0; i < 3; ++i) {
    sleep_for(150ms);
    source.kill();
    source.start();
  }
  const auto g = got.get();
  EXPECT_EQ(g.seqs, counted(400));
  EXPECT_EQ(g.altered, 0u);
  EXPECT_EQ(source.wait(10s), 0) << source.log();
}

TEST(Protocol, S43_RelayStartedAgain) {
  Place place;
  Process source({kRole, "source", "-", place.ipc(), "delay=1000", "batches=400", "bytes=2000", "fixed=1"}, place.folder / "log");
  Process worker({kRole, "worker", place.ipc(), place.ipc("w")}, place.folder / "log");
  Process sink({kRole, "sink", place.ipc("w"), place.folder / "out", "batches=400", "bytes=2000", "fixed=1"}, place.folder / "log");
  for (int i = 0; i < 4; ++i) {
    sleep_for(150ms);
    worker.kill();
    worker.start();
  }
  EXPECT_EQ(sink.wait(20s), 0) << sink.log();
  EXPECT_EQ(worker.wait(10s), 0) << sink.log();
  EXPECT_EQ(source.wait(10s), 0) << sink.log();
  EXPECT_NE(content(place.folder / "out").find("batches 400 lost 0 doubled 0 altered 0 disorder 0"), std::string::npos) << content(place.folder / "out");
}

TEST(Protocol, S44_KeeperComesBack) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  Process sink({kRole, "sink", place.ipc(), place.folder / "out", "batches=200", "bytes=1000", "fixed=1", "inverted=0", "delay=2000"}, place.folder / "log");
  auto writing = in_background([&] { write_all(*out, 200); });
  sleep_for(200ms);
  sink.signal(SIGSTOP);
  RawConsumer other(place.ipc(), "bother");  // it must get nothing of what the frozen one holds
  sleep_for(2000ms);
  sink.signal(SIGCONT);
  EXPECT_EQ(sink.wait(10s), 0) << sink.log();
  writing.get();
  EXPECT_NE(content(place.folder / "out").find("batches 200 lost 0 doubled 0 altered 0 disorder 0"), std::string::npos) << content(place.folder / "out");
}

TEST(Protocol, S45_KeeperStartedAgainIsRefused) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  const std::vector<std::string> args = {kRole,        "sink",    place.ipc(),  place.folder / "out", "batches=100000",
                                         "bytes=1000", "fixed=1", "inverted=0", "delay=1000"};
  Process sink(args, place.folder / "log");
  auto writing = in_background([&] { return outcome([&] { write_all(*out, 100000); }); });
  sleep_for(400ms);
  sink.kill();
  sink.start();
  const auto o = writing.get();
  EXPECT_TRUE(fails(o, Exit::downstream, "acknowledged before and released"));
  out->abort(o.text);
  EXPECT_EQ(sink.wait(10s), static_cast<int>(Exit::upstream)) << sink.log();
  EXPECT_NE(sink.log().find("rerun the producer"), std::string::npos) << sink.log();
  EXPECT_FALSE(std::filesystem::exists(place.folder / "out"));
}

TEST(Protocol, S46_ReleasedBeforeTheReaderStarted) {
  Place place;
  RawProducer raw(place.ipc());
  const auto in = open_source(place.ipc());
  raw.greet();
  read_hello(*in);
  auto reading = in_background([&] { return outcome([&] { in->read(); }); });
  ASSERT_TRUE(raw.granted(17));
  EXPECT_TRUE(fails(reading.get(), Exit::upstream, "17 batches"));
  EXPECT_TRUE(raw.next(Kind::abort)) << "the producer was not told";
}

TEST(Protocol, S47_FramesLostWithAConnection) {
  Place place;
  const auto port = free_port();
  Network network(std::stoi(port));
  Process source({kRole, "source", "-", "tcp://127.0.0.1:" + port, "delay=300", "batches=3000", "bytes=20000", "fixed=1"}, place.folder / "log");
  auto got = in_background([&] { return read_all(*open_source("tcp://127.0.0.1:" + std::to_string(network.port()))); });
  for (int i = 0; i < 8; ++i) {
    sleep_for(120ms);
    network.cut();
  }
  const auto g = got.get();
  EXPECT_EQ(g.seqs, counted(3000));
  EXPECT_EQ(g.altered, 0u);
  EXPECT_GT(network.cuts(), 4);
  EXPECT_EQ(source.wait(10s), 0) << source.log();
}

TEST(Protocol, S48_FlippedByteInFlight) {
  const auto port = free_port();
  {
    Network network(std::stoi(port));
    auto out = open_sink("tcp://127.0.0.1:" + port, {});
    network.flip(1);
    auto got = in_background([&] { return read_all(*open_source("tcp://127.0.0.1:" + std::to_string(network.port()))); });
    write_all(*out, 60, 300000);
    const auto g = got.get();
    EXPECT_EQ(g.seqs, counted(60));
    EXPECT_EQ(g.altered, 0u);
    EXPECT_EQ(network.flipped(), 1);
  }
  Network network(std::stoi(port));
  auto out = open_sink("tcp://127.0.0.1:" + port, {});
  network.flip(1 << 20);
  auto got = in_background([&] { return outcome([&] { read_all(*open_source("tcp://127.0.0.1:" + std::to_string(network.port()))); }); });
  auto writing = in_background([&] { outcome([&] { write_all(*out, 60, 300000); }); });
  EXPECT_TRUE(fails(got.get(), Exit::input, "damaged 3 times"));
  out->abort("the test is over");
  RawConsumer end("tcp://127.0.0.1:" + port);
  end.open(9, 9);
  end.next();
  end.send(link::control(Kind::abort, 0, 9, 9, 0, 0));
  writing.get();
}

TEST(Protocol, S49_HeartbeatsWhileTheCallerComputes) {
  Place place;
  auto out = open_sink(place.ipc("s", "timeout=500ms&on-loss=fail"), {});
  auto writing = in_background([&] {
    out->write(made_hello(kStream));
    write_batches(*out, 0, 2);
    sleep_for(2500ms);
    write_batches(*out, 2, 4);
    out->finish();
  });
  const auto in = open_source(place.ipc("s", "timeout=500ms"));
  read_hello(*in);
  auto got = read_some(*in, 1);
  sleep_for(2200ms);
  const auto rest = read_rest(*in);
  EXPECT_EQ(rest.seqs, counted(4, 1));
  writing.get();
}

TEST(Protocol, S50_FrozenProcessTrustsItsPeers) {
  Place place;
  Process source({kRole, "source", "-", place.ipc("s", "on-loss=fail"), "delay=2000", "batches=300", "bytes=1000", "fixed=1"}, place.folder / "log");
  auto got = in_background([&] { return read_all(*open_source(place.ipc("s", "timeout=20s"))); });
  sleep_for(200ms);
  source.signal(SIGSTOP);
  sleep_for(1800ms);
  source.signal(SIGCONT);
  EXPECT_EQ(got.get().seqs, counted(300));
  EXPECT_EQ(source.wait(5s), 0) << source.log();
}

TEST(Protocol, S51_MessagesThatAreNoFrames) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  RawConsumer hostile(place.ipc(), "bhostile");
  hostile.send_text("hello");
  hostile.send_text(std::string(64, '\0'));
  hostile.send_text(std::string(60000, 'x'));
  auto bad = link::header_of(link::control(Kind::credit, link::kOpen, 1, 1, 0, 0));
  for (std::size_t i = 0; i < bad.size(); ++i) {
    auto changed = bad;
    changed[i] ^= std::byte{1};
    hostile.send_text(std::string(reinterpret_cast<const char*>(changed.data()), changed.size()));
  }
  for (const auto kind : {Kind::hello, Kind::batch, Kind::end, Kind::ack, Kind::credit, Kind::heartbeat, Kind::stop, Kind::abort})
    hostile.send(link::control(kind, 0xfffe, 77, 88, 99, 11));  // of no session
  auto got = in_background([&] { return read_all(*open_source(place.ipc())); });
  write_all(*out, 10);
  EXPECT_EQ(got.get().seqs, counted(10));
}

// ---- END ----

TEST(Protocol, S52_EndAndFinalEnd) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  out->write(made_hello(kStream));
  RawConsumer raw(place.ipc());
  raw.open(1, 1);
  ASSERT_TRUE(raw.next());
  raw.grant(8, 1 << 20, link::kRelay);
  auto writing = in_background([&] {
    write_batches(*out, 0, 2);
    out->finish();
  });
  ASSERT_TRUE(raw.next());
  ASSERT_TRUE(raw.next());
  auto end = raw.next();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->kind, Kind::end);
  EXPECT_EQ(end->flags & link::kFinal, 0);
  EXPECT_EQ(end->seq, 2u);
  raw.ack(0);
  EXPECT_FALSE(raw.next(200ms));
  raw.ack(1);
  end = raw.next();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->kind, Kind::end);
  EXPECT_EQ(end->flags & link::kFinal, link::kFinal);
  raw.ack(2, link::kEndAck);
  const auto stop = raw.next();
  ASSERT_TRUE(stop);
  EXPECT_EQ(stop->kind, Kind::stop);
  writing.get();
}

TEST(Protocol, S53_FinishMeansConfirmed) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  std::atomic<bool> finished = false;
  auto writing = in_background([&] {
    write_all(*out, 3);
    finished = true;
  });
  const auto in = open_source(place.ipc());
  read_hello(*in);
  read_some(*in, 3);
  EXPECT_FALSE(in->read());
  sleep_for(400ms);
  EXPECT_FALSE(finished) << "finish() returned although the consumer's own output was not safe yet";
  in->close();
  writing.get();
  EXPECT_TRUE(finished);
}

TEST(Protocol, S54_EveryConsumerLearnsTheEnd) {
  Place place;
  auto out = open_sink(place.ipc("s", "peers=3"), {});
  std::vector<std::future<Got>> got;
  for (int i = 0; i < 4; ++i) got.push_back(in_background([&] { return read_all(*open_source(place.ipc())); }));
  out->write(made_hello(kStream));
  write_batches(*out, 0, 1);  // three of them get none
  auto late = in_background([&] {
    sleep_for(300ms);
    return read_all(*open_source(place.ipc()));
  });
  auto slow = open_source(place.ipc());  // holds the end back until the late one is there
  read_hello(*slow);
  auto writing = in_background([&] { out->finish(); });
  std::size_t n = late.get().seqs.size();
  n += read_rest(*slow).seqs.size();
  for (auto& g : got) n += g.get().seqs.size();
  EXPECT_EQ(n, 1u);
  writing.get();
}

TEST(Protocol, S55_FinishedThoughAWorkerDied) {
  Place place;
  auto out = open_sink(place.ipc("s", "peers=2"), {});
  int acknowledged = 0;
  out->on_acknowledged([&](std::uint64_t, std::uint64_t) { ++acknowledged; });
  Process dying({kRole, "worker", place.ipc(), place.ipc("w0")}, place.folder / "log");
  Process living({kRole, "worker", place.ipc(), place.ipc("w1")}, place.folder / "log");
  Process sink({kRole, "sink", place.ipc("w0") + "," + place.ipc("w1"), place.folder / "out", "batches=300", "bytes=20000", "fixed=1"}, place.folder / "log");
  out->write(made_hello(kStream));
  write_batches(*out, 0, 150, 20000);
  while (acknowledged < 150) {  // by both workers, so the sink has met both
    out->poll();
    sleep_for(5ms);
  }
  dying.kill();
  write_batches(*out, 150, 300, 20000);
  out->finish();
  EXPECT_EQ(sink.wait(10s), 0) << sink.log();
  EXPECT_EQ(living.wait(5s), 0) << sink.log();
  EXPECT_NE(content(place.folder / "out").find("batches 300 lost 0 doubled 0 altered 0 disorder 0"), std::string::npos) << content(place.folder / "out");
}

TEST(Protocol, S56_MissingAtTheEnd) {
  Place place;
  RawProducer raw(place.ipc());
  const auto in = open_source(place.ipc());
  raw.greet();
  read_hello(*in);
  auto reading = in_background([&] { return outcome([&] { read_rest(*in); }); });
  ASSERT_TRUE(raw.granted());
  raw.send(made_batch(kStream, 0, 100));
  auto end = wire::end_frame(kStream, {3, 0, 0});
  end.flags = link::kFinal | link::kPartial;
  raw.send(end);
  EXPECT_TRUE(fails(reading.get(), Exit::upstream, "2 of 3 batches are missing, the first is 1"));
}

TEST(Protocol, S57_EndIsConfirmedThrough) {
  Place place;
  auto out = open_sink(place.ipc("a"), {});
  std::atomic<bool> finished = false;
  auto source = in_background([&] {
    write_all(*out, 5);
    finished = true;
  });
  std::vector<std::future<void>> middle;
  for (const auto& [from, to] : {std::pair{"a", "b"}, std::pair{"b", "c"}})
    middle.push_back(in_background([&place, from = std::string(from), to = std::string(to)] {
      const auto in = open_source(place.ipc(from));
      const auto next = open_sink(place.ipc(to), {});
      relay(*in, *next);
    }));
  const auto in = open_source(place.ipc("c"));
  read_hello(*in);
  read_some(*in, 5);
  EXPECT_FALSE(in->read());
  sleep_for(300ms);
  EXPECT_FALSE(finished) << "the source was done before the last sink";
  in->close();
  source.get();
  for (auto& m : middle) m.get();
}

// ---- STOP and ABORT ----

TEST(Protocol, S58_Stop) {
  Place place;
  Process source({kRole, "source", "-", place.ipc("a"), "batches=100000000"}, place.folder / "log");
  Process worker({kRole, "worker", place.ipc("a"), place.ipc("b")}, place.folder / "log");
  Process sink({kRole, "sink", place.ipc("b"), place.folder / "out", "stop=7"}, place.folder / "log");
  EXPECT_EQ(sink.wait(10s), 0) << sink.log();
  EXPECT_EQ(worker.wait(5s), 0) << sink.log();
  EXPECT_EQ(source.wait(5s), 0) << sink.log();
  EXPECT_NE(content(place.folder / "out").find("batches 7 lost 0"), std::string::npos);
}

TEST(Protocol, S59_StopOfOneOfTwo) {
  Place place;
  auto out = open_sink(place.ipc("s", "peers=2"), {});
  auto writing = in_background([&] { write_all(*out, 200); });
  auto head = in_background([&] {
    const auto in = open_source(place.ipc());
    read_hello(*in);
    const auto got = read_some(*in, 5);
    in->stop();
    return got.seqs;
  });
  const auto rest = read_all(*open_source(place.ipc())).seqs;
  auto all = head.get();
  writing.get();
  EXPECT_FALSE(out->stopped());
  all.insert(all.end(), rest.begin(), rest.end());
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, counted(200));
}

TEST(Protocol, S60_ConsumerFails) {
  Place place;
  auto out = open_sink(place.ipc(), {});
  auto writing = in_background([&] { return outcome([&] { write_all(*out, 100000); }); });
  const auto in = open_source(place.ipc());
  read_hello(*in);
  read_some(*in, 3);
  in->abort("column 'pt' of event 5 is NaN");
  EXPECT_TRUE(fails(writing.get(), Exit::downstream, "column 'pt' of event 5 is NaN"));
}

TEST(Protocol, S61_ProducerFails) {
  for (const bool explicitly : {true, false}) {
    Place place;
    auto out = open_sink(place.ipc(), {});
    auto reading = in_background([&] { return outcome([&] { read_all(*open_source(place.ipc())); }); });
    out->write(made_hello(kStream));
    write_batches(*out, 0, 20);
    if (explicitly) out->abort("line 7 of the input is malformed");
    out.reset();
    EXPECT_TRUE(fails(reading.get(), Exit::upstream, explicitly ? "line 7 of the input is malformed" : "without finishing"));
  }
  // A consumer that is a little late.
  Place place;
  auto reading = in_background([&] {
    sleep_for(400ms);
    return outcome([&] { read_all(*open_source(place.ipc())); });
  });
  auto out = open_sink(place.ipc(), {});
  out->abort("the input is empty");
  out.reset();
  EXPECT_TRUE(fails(reading.get(), Exit::upstream, "the input is empty"));
}

TEST(Protocol, S62_SignalsInterruptWaiting) {
  Place place;
  std::vector<std::pair<std::string, std::vector<std::string>>> waiting = {
      {"for a producer", {kRole, "sink", place.ipc("nobody"), "-"}},
      {"for a consumer", {kRole, "source", "-", place.ipc("alone")}},
  };
  for (const auto& [what, args] : waiting) {
    Process p(args, place.folder / "log");
    sleep_for(300ms);
    const auto begin = Clock::now();
    p.signal(SIGTERM);
    EXPECT_EQ(p.wait(5s), 128 + SIGTERM) << what << ": " << p.log();
    EXPECT_LT(Clock::now() - begin, 1500ms) << what;
  }
}

// ---- in memory ----

TEST(Protocol, S63_InMemory) {
  const std::string name = "mem://protocol?credit=3&timeout=2s";
  {
    std::atomic<std::uint64_t> written = 0, acknowledged = 0;
    std::atomic<bool> finished = false;
    auto writing = in_background([&] {
      const auto out = open_sink(name, {});
      out->on_acknowledged([&](std::uint64_t, std::uint64_t) { ++acknowledged; });
      out->write(made_hello(kStream));
      for (std::uint64_t seq = 0; seq < 50; ++seq) {
        out->write(made_batch(kStream, seq, 100));
        ++written;
      }
      out->finish();
      finished = true;
    });
    const auto in = open_source(name);
    read_hello(*in);
    const auto first = in->read();
    sleep_for(100ms);
    EXPECT_LE(written, 4u);
    EXPECT_EQ(acknowledged, 0u);
    in->acknowledge(first->stream, first->seq);
    EXPECT_EQ(read_some(*in, 49).seqs, counted(50, 1));
    EXPECT_FALSE(in->read());
    sleep_for(100ms);
    EXPECT_FALSE(finished);
    in->close();
    writing.get();
    EXPECT_EQ(acknowledged, 50u);
  }
  {  // STOP
    auto writing = in_background([&] {
      const auto out = open_sink(name, {});
      write_all(*out, 1000);
      return out->stopped();
    });
    const auto in = open_source(name);
    read_hello(*in);
    read_some(*in, 2);
    in->stop();
    EXPECT_TRUE(writing.get());
  }
  {  // ABORT, both ways
    auto writing = in_background([&] { return outcome([&] { write_all(*open_sink(name, {}), 1000); }); });
    auto in = open_source(name);
    read_hello(*in);
    in->abort("too hot");
    EXPECT_TRUE(fails(writing.get(), Exit::downstream, "too hot"));
    in.reset();
    auto failing = in_background([&] {
      const auto out = open_sink(name, {});
      out->write(made_hello(kStream));
      out->abort("too cold");
    });
    EXPECT_TRUE(fails(outcome([&] { read_all(*open_source(name)); }), Exit::upstream, "too cold"));
    failing.get();
  }
}

}  // namespace
}  // namespace bl::test
