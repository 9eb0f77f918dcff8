// What is read is what was written; what was damaged, cut or made to do harm is refused, in bounded memory.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "base/error.hpp"
#include "make.hpp"
#include "transport/transport.hpp"
#include "wire/value.hpp"

namespace bl::test {
namespace {

const std::byte* raw(const std::string& s) { return reinterpret_cast<const std::byte*>(s.data()); }
Buffer buffer(const std::string& s) { return Buffer(s.data(), s.size()); }

// True when f throws Error(Exit::input); any other exception passes through and fails the test.
template <class F>
bool refused(const F& f) {
  try {
    f();
    return false;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input) << e.what();
    EXPECT_NE(std::string(e.what()), "");
    return true;
  }
}

// Reads a stream to its end as a stage does.
void read_stream(const std::string& path, Digest* digest = nullptr) {
  const auto in = transport::open_source(path);
  const auto hello = in->read();
  check(hello.has_value(), "a stream starts with HELLO");
  wire::read_hello(*hello, path);
  while (const auto f = in->read()) {
    const auto batch = wire::decode(f->body, f->seq, path);
    if (digest) digest->add(batch);
  }
}

TEST(Wire, RoundTrip) {
  for (const std::uint32_t events : {0u, 1u, 3u, 1000u}) {
    const auto batch = small_batch(7, events);
    const auto again = wire::decode(wire::encode(batch), 7, "test");
    EXPECT_EQ(again.events, events);
    Digest a, b;
    a.add(batch);
    b.add(again);
    EXPECT_EQ(a, b);
    ASSERT_EQ(again.columns.size(), batch.columns.size());
    for (std::size_t i = 0; i < batch.columns.size(); ++i) {
      EXPECT_EQ(again.columns[i].name, batch.columns[i].name);
      EXPECT_EQ(again.columns[i].dims, batch.columns[i].dims);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(again.columns[i].raw.data()) % 64, 0u);
    }
  }
  const auto hello = wire::read_hello(hello_of_stream(), "test");
  EXPECT_EQ(hello.schema, "objects/1");
  EXPECT_EQ(hello.meta["tokenizer"]["vocabulary"], 875);
  EXPECT_EQ(hello.history[0]["stage"], "bl-preprocess");
  const wire::End end{3, 8, 0xffffffffffffffffu};
  EXPECT_EQ(wire::read_end(wire::end_frame(1, end), "test"), end);
}

TEST(Wire, HeaderSaysWhatTheFrameIs) {
  auto f = batch_frame(small_batch(5));
  f.flags = 0x1234;
  const auto bytes = bytes_of(f);
  const auto h = wire::read_header(raw(bytes), "test");
  EXPECT_EQ(h.kind, wire::Kind::batch);
  EXPECT_EQ(h.flags, 0x1234);
  EXPECT_EQ(h.stream, kStream);
  EXPECT_EQ(h.seq, 5u);
  EXPECT_EQ(h.length, f.body.size());
  EXPECT_EQ(h.schema, kSchema);
  EXPECT_EQ(h.count, 3u);
  EXPECT_EQ(h.body_hash, hash64(f.body.data(), f.body.size()));
}

TEST(Corruption, EveryBitOfAHeader) {
  for (const auto& bytes : {bytes_of(hello_of_stream()), bytes_of(batch_frame(small_batch(5))), small_stream().end})
    for (std::size_t bit = 0; bit < wire::kHeader * 8; ++bit) {
      auto changed = bytes;
      changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
      ASSERT_TRUE(refused([&] { wire::read_header(raw(changed), "test"); })) << "bit " << bit << " of the header";
    }
}

TEST(Corruption, EveryValueOfEveryHeaderByte) {
  const auto bytes = bytes_of(batch_frame(small_batch(5)));
  for (std::size_t at = 0; at < wire::kHeader; ++at)
    for (int value = 0; value < 256; ++value) {
      auto changed = bytes;
      if (changed[at] == static_cast<char>(value)) continue;
      changed[at] = static_cast<char>(value);
      ASSERT_TRUE(refused([&] { wire::read_header(raw(changed), "test"); })) << "byte " << at << " = " << value;
    }
}

TEST(Corruption, EveryBitOfABody) {
  const auto f = batch_frame(small_batch(5, 40));
  const auto bytes = bytes_of(f);
  const auto h = wire::read_header(raw(bytes), "test");
  std::string body(reinterpret_cast<const char*>(f.body.data()), f.body.size());
  for (std::size_t bit = 0; bit < body.size() * 8; ++bit) {
    body[bit / 8] = static_cast<char>(body[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_TRUE(refused([&] { wire::check_body(h, buffer(body), "test"); })) << "bit " << bit << " of the body";
    body[bit / 8] = static_cast<char>(body[bit / 8] ^ (1 << (bit % 8)));
  }
}

TEST(Corruption, EveryTruncationOfABody) {
  const auto body = wire::encode(small_batch(5, 40));
  for (std::size_t size = 0; size < body.size(); ++size)
    ASSERT_TRUE(refused([&] { wire::decode(Buffer(body.data(), size), 5, "test"); })) << size << " of " << body.size() << " bytes were taken for a batch";
  const auto hello = hello_of_stream();
  for (std::size_t size = 0; size < hello.body.size(); ++size)
    ASSERT_TRUE(refused([&] {
      auto f = hello;
      f.body = Buffer(hello.body.data(), size);
      wire::read_hello(f, "test");
    })) << size;
}

TEST(Hostile, BodiesAreRefused) {
  for (const auto& [name, body] : hostile_bodies()) {
    EXPECT_TRUE(refused([&] { wire::decode(buffer(body), 0, "test"); })) << name << " was taken for a batch";
    auto f = hello_of_stream();
    f.body = buffer(body);
    EXPECT_TRUE(refused([&] { wire::read_hello(f, "test"); })) << name << " was taken for a HELLO";
    f.kind = wire::Kind::end;
    EXPECT_TRUE(refused([&] { wire::read_end(f, "test"); })) << name << " was taken for an END";
  }
}

// All of it again under a limit of memory: what a message promises is never allocated, only what is there.
TEST(Hostile, MemoryIsBounded) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer reserves more address space than the limit";
#endif
  const pid_t child = ::fork();
  if (child == 0) {
    std::ifstream status("/proc/self/statm");
    std::size_t pages = 0;
    status >> pages;
    const rlim_t limit = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (rlim_t{32} << 20);
    const rlimit r{limit, limit};
    if (::setrlimit(RLIMIT_AS, &r) != 0) ::_exit(9);
    try {
      for (const auto& [name, body] : hostile_bodies()) {
        if (!refused([&] { wire::decode(buffer(body), 0, "test"); })) ::_exit(1);
        auto f = hello_of_stream();
        f.body = buffer(body);
        if (!refused([&] { wire::read_hello(f, "test"); })) ::_exit(2);
      }
      try {
        std::string huge(static_cast<std::size_t>(64) << 20, 'x');
        ::_exit(3);  // the limit does not hold: the test would prove nothing
      } catch (const std::bad_alloc&) {
      }
    } catch (...) {
      ::_exit(4);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// Streams of all versions that were released: read, or refused with the words of their fault.
TEST(Corpus, EveryFile) {
  const std::string folder = std::string(BEAMLINE_SOURCE_DIR) + "/tests/wire/corpus/v1/";
  std::ifstream list(folder + "expected.txt");
  ASSERT_TRUE(list.good());
  std::string line;
  std::size_t n = 0;
  while (std::getline(list, line)) {
    if (line[0] == '#') continue;
    std::istringstream words(line);
    std::string name, message;
    int code = 0;
    words >> name >> code >> std::ws;
    std::getline(words, message);
    ++n;
    try {
      read_stream(folder + name);
      EXPECT_EQ(code, 0) << name << " was read without an error";
    } catch (const Error& e) {
      EXPECT_EQ(static_cast<int>(e.code()), code) << name << ": " << e.what();
      EXPECT_NE(std::string(e.what()).find(message), std::string::npos) << name << ": '" << e.what() << "' does not say '" << message << "'";
      EXPECT_NE(std::string(e.what()).find(name), std::string::npos) << "the message does not name the file: " << e.what();
    }
  }
  EXPECT_GT(n, 40u);
  for (const auto& file : std::filesystem::directory_iterator(folder))
    if (file.path().extension() == ".bl") --n;
  EXPECT_EQ(n, 0u) << "a file of the corpus is not in expected.txt";
}

TEST(Corpus, WholeStreamHoldsWhatItHeld) {
  Digest read, made;
  read_stream(std::string(BEAMLINE_SOURCE_DIR) + "/tests/wire/corpus/v1/whole.bl", &read);
  for (const auto& [seq, events] : {std::pair{0, 3u}, std::pair{1, 0u}, std::pair{2, 5u}}) made.add(small_batch(static_cast<std::uint64_t>(seq), events));
  EXPECT_EQ(read, made);
}

// Random changes to valid bodies and streams, with a fixed seed: everything is read or refused, nothing crashes. What is
// read must survive a round trip.
TEST(Fuzz, Mutations) {
  std::mt19937_64 random(20260101);
  std::vector<std::string> seeds;
  for (const std::uint32_t events : {0u, 2u, 9u}) {
    const auto body = wire::encode(small_batch(1, events));
    seeds.emplace_back(reinterpret_cast<const char*>(body.data()), body.size());
  }
  for (const auto& [name, body] : hostile_bodies())
    if (body.size() < 5000) seeds.push_back(body);
  const auto hello = hello_of_stream();
  seeds.emplace_back(reinterpret_cast<const char*>(hello.body.data()), hello.body.size());
  static const std::vector<std::string> kSpices = {std::string("\xdd\xff\xff\xff\xff", 5),
                                                   std::string("\xdf\x7f\xff\xff\xff", 5),
                                                   "\x91",
                                                   "\x81\xa1x",
                                                   std::string("\xc6\x00\x00\x00\x04", 5),
                                                   "\xce\xff\xff\xff\xff",
                                                   text("event"),
                                                   text("event+1"),
                                                   text("f64"),
                                                   "\xc0",
                                                   "\xff"};
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(4);
  std::uint64_t inputs = 0, read = 0;
  while (std::chrono::steady_clock::now() < until) {
    auto bytes = seeds[random() % seeds.size()];
    for (auto n = random() % 4; n-- > 0;) {
      const std::size_t at = bytes.empty() ? 0 : random() % bytes.size();
      switch (random() % 6) {
        case 0:
          if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8)));
          break;
        case 1:
          if (!bytes.empty()) bytes[at] = static_cast<char>(random());
          break;
        case 2: bytes.resize(at); break;
        case 3: bytes.insert(at, kSpices[random() % kSpices.size()]); break;
        case 4: bytes.erase(at, random() % 9); break;
        default: bytes += seeds[random() % seeds.size()].substr(0, random() % 200); break;
      }
    }
    ++inputs;
    const auto body = buffer(bytes);
    try {
      const auto batch = wire::decode(body, 1, "fuzz");
      ++read;
      Digest a, b;
      a.add(batch);
      b.add(wire::decode(wire::encode(batch), 1, "fuzz"));
      ASSERT_EQ(a, b);
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), Exit::input) << e.what();
    }
    auto f = hello;
    f.body = body;
    try {
      wire::read_hello(f, "fuzz");
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), Exit::input) << e.what();
    }
    if (bytes.size() >= wire::kHeader) {
      try {
        wire::read_header(raw(rehashed(bytes)), "fuzz");
      } catch (const Error& e) {
        ASSERT_EQ(e.code(), Exit::input) << e.what();
      }
    }
  }
  RecordProperty("inputs", static_cast<int>(inputs));
  std::printf("%lu inputs, %lu read\n", static_cast<unsigned long>(inputs), static_cast<unsigned long>(read));
  EXPECT_GT(inputs, 1000u);
  EXPECT_GT(read, 100u) << "the mutations are so wild that nothing is read";
}

}  // namespace
}  // namespace bl::test
