// One process of a stream under test: role source|worker|sink IN OUT [batches=N] [bytes=B] [fixed=1] [delay=MICROSECONDS] …
//   source: writes N made batches to OUT.  worker: inverts each batch, IN to OUT, as a relay.
//   sink: reads IN, compares every batch with what it must be, prints one line of counts, writes it to OUT if not "-".
// Options after the endpoints: inverted=0|1 (what the sink expects), stop=K (the sink has enough after K batches),
// abort=K (fails after K batches), slow=MS (waits before it opens its streams), keep=1 (the worker is no relay), rss=1
// (the sink prints nothing, everybody prints its peak memory).
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <set>
#include <string>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/signals.hpp"
#include "made.hpp"
#include "transport/transport.hpp"

using namespace bl;

namespace {

std::map<std::string, std::uint64_t> g_options = {{"batches", 1000}, {"bytes", 60000}, {"fixed", 0}, {"delay", 0}, {"inverted", 1}, {"stop", 0},
                                                  {"abort", 0},      {"slow", 0},      {"keep", 0},  {"rss", 0},   {"stream", 42}};

void pause(std::uint64_t microseconds) {
  if (microseconds != 0) ::usleep(static_cast<useconds_t>(microseconds));
}

void source(transport::Sink& out) {
  const auto stream = g_options["stream"], n = g_options["batches"];
  out.write(test::made_hello(stream));
  for (std::uint64_t seq = 0; seq < n && !out.stopped(); ++seq) {
    signals::throw_if_pending();
    pause(g_options["delay"]);
    if (g_options["abort"] != 0 && seq == g_options["abort"]) fail(Exit::failed, "told to fail");
    out.write(test::made_batch(stream, seq, g_options["bytes"], g_options["fixed"] != 0));
  }
  out.finish();
}

void worker(transport::Source& in, const std::string& to) {
  auto hello = in.read();
  check(hello && hello->kind == wire::Kind::hello, "HELLO comes first");
  const auto stream_in = hello->stream, stream_out = test::mixed(stream_in);
  hello->stream = stream_out;
  const auto out = transport::open_sink(to, {});
  if (g_options["keep"] == 0) out->relays(in);
  out->on_acknowledged([&](std::uint64_t, std::uint64_t seq) { in.acknowledge(stream_in, seq); });
  try {
    out->write(*hello);
    std::uint64_t n = 0;
    while (auto frame = in.read()) {
      pause(g_options["delay"]);
      if (g_options["abort"] != 0 && ++n == g_options["abort"]) fail(Exit::failed, "told to fail");
      test::invert(*frame);
      frame->stream = stream_out;
      out->write(*frame);
    }
    if (out->stopped()) in.stop();
    out->finish();
    in.close();
  } catch (const std::exception& e) {
    out->abort(e.what());
    throw;
  }
}

void sink(transport::Source& in, const std::string& to) {
  auto hello = in.read();
  check(hello && hello->kind == wire::Kind::hello, "HELLO comes first");
  std::set<std::uint64_t> seen;
  std::uint64_t n = 0, doubled = 0, altered = 0, disorder = 0, digest = 0, next = 0;
  while (auto frame = in.read()) {
    pause(g_options["delay"]);
    ++n;
    if (!seen.insert(frame->seq).second) ++doubled;
    if (frame->seq != next) ++disorder;
    next = frame->seq + 1;
    auto wanted = test::made_batch(0, frame->seq, g_options["bytes"], g_options["fixed"] != 0);
    if (g_options["inverted"] != 0) test::invert(wanted);
    if (frame->count != wanted.count || frame->body.size() != wanted.body.size() ||
        std::memcmp(frame->body.data(), wanted.body.data(), wanted.body.size()) != 0)
      ++altered;
    digest += wire::end_term(frame->seq, hash64(frame->body.data(), frame->body.size()));
    in.acknowledge(frame->stream, frame->seq);
    if (g_options["abort"] != 0 && n == g_options["abort"]) fail(Exit::failed, "told to fail");
    if (g_options["stop"] != 0 && n == g_options["stop"]) {
      in.stop();
      break;
    }
  }
  const std::uint64_t wanted = g_options["stop"] != 0 ? g_options["stop"] : g_options["batches"];
  const auto line = fmt::format("batches {} lost {} doubled {} altered {} disorder {} digest {}\n", n, wanted - std::min<std::uint64_t>(wanted, seen.size()),
                                doubled, altered, disorder, hex(digest));
  if (to == "-") std::fputs(line.c_str(), stdout);
  else write_file(to, line, true);
  in.close();
}

}  // namespace

int main(int argc, char** argv) {
  signals::install();
  if (argc < 4) return 2;
  const std::string role = argv[1], from = argv[2], to = argv[3];
  for (int i = 4; i < argc; ++i) {
    const std::string a = argv[i];
    const auto eq = a.find('=');
    if (eq == std::string::npos || !g_options.contains(a.substr(0, eq))) return 2;
    g_options[a.substr(0, eq)] = std::stoull(a.substr(eq + 1));
  }
  pause(g_options["slow"] * 1000);
  std::unique_ptr<transport::Source> in;
  std::unique_ptr<transport::Sink> out;
  int code = 0;
  try {
    if (role == "source") {
      out = transport::open_sink(to, {});
      source(*out);
    } else {
      in = transport::open_source(from);
      if (role == "worker") worker(*in, to);
      else sink(*in, to);
    }
  } catch (const Error& e) {
    std::fprintf(stderr, "%s: %s\n", role.c_str(), e.what());
    code = static_cast<int>(e.code());
    if (in) in->abort(e.what());
    if (out) out->abort(e.what());
  }
  in.reset();
  out.reset();
  if (g_options["rss"] != 0) {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    std::printf("%s peak %ld KiB\n", role.c_str(), usage.ru_maxrss);
  }
  return code;
}
