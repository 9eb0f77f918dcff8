// Streams through files, pipes and sockets against what carries them: a raw pipe, write and read of a file, bare
// PUSH/PULL. Two processes each, in one run, so that the ratios mean something on a busy machine.
// usage: bench_transport [GB per figure]
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "base/error.hpp"
#include "transport/transport.hpp"
#include "wire/hello.hpp"

namespace {

using namespace bl;

constexpr int kRounds = 5;
std::string g_folder;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Seconds of CPU that this process and its children have used: less moved by a busy machine than the time that passed.
double cpu() {
  double total = 0;
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage u{};
    ::getrusage(who, &u);
    total += static_cast<double>(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + static_cast<double>(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
  }
  return total;
}

void need(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "bench_transport: %s failed\n", what);
  ::_exit(1);
}

// Runs `send` in a child and `receive` here; GB/s between the first and the last batch as `receive` measures it.
using Receive = std::function<double(std::size_t n, std::size_t size)>;
using Send = std::function<void(std::size_t n, std::size_t size)>;
double measured(std::size_t n, std::size_t size, const Send& send, const Receive& receive) {
  const pid_t child = ::fork();
  need(child >= 0, "fork");
  if (child == 0) {
    try {
      send(n, size);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "bench_transport: %s\n", e.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  const double seconds = receive(n, size);
  int status = 0;
  ::waitpid(child, &status, 0);
  need(status == 0, "the sender");
  return static_cast<double>((n - 1) * size) / seconds / 1e9;
}

wire::Frame batch_of(std::size_t size) {
  wire::Frame f;
  f.kind = wire::Kind::batch;
  f.stream = 1;
  f.count = 1;
  f.body = Buffer(size);
  std::memset(f.body.edit(), 7, size);
  return f;
}

void send_stream(const std::string& endpoint, std::size_t n, std::size_t size) {
  const auto out = transport::open_sink(endpoint, {true});
  out->write(wire::hello_frame(1, {}));
  auto f = batch_of(size);
  for (std::size_t i = 0; i < n; ++i) {
    f.seq = i;
    out->write(f);
  }
  out->finish();
}

double receive_stream(const std::string& endpoint) {
  const auto in = transport::open_source(endpoint);
  in->read();
  double begin = 0;
  while (const auto f = in->read()) {
    if (f->seq == 0) begin = now();
    in->acknowledge(f->stream, f->seq);
  }
  const double end = now();
  in->close();
  return end - begin;
}

void write_fully(int fd, const char* p, std::size_t n) {
  while (n > 0) {
    const auto k = ::write(fd, p, n);
    need(k > 0, "write");
    p += k;
    n -= static_cast<std::size_t>(k);
  }
}
void read_fully(int fd, char* p, std::size_t n) {
  while (n > 0) {
    const auto k = ::read(fd, p, n);
    need(k > 0, "read");
    p += k;
    n -= static_cast<std::size_t>(k);
  }
}

// A pipe of 1 MiB whose ends are standard output of the child and standard input here, for raw bytes or a stream.
double through_pipe(std::size_t n, std::size_t size, bool stream) {
  int fds[2];
  need(::pipe(fds) == 0, "pipe");
  ::fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
  const auto send = [&](std::size_t count, std::size_t bytes) {
    ::close(fds[0]);
    if (stream) {
      ::dup2(fds[1], STDOUT_FILENO);
      ::close(fds[1]);
      send_stream("-", count, bytes);
      return;
    }
    const std::vector<char> data(bytes, 7);
    for (std::size_t i = 0; i < count; ++i) write_fully(fds[1], data.data(), bytes);
  };
  const auto receive = [&](std::size_t count, std::size_t bytes) {
    ::close(fds[1]);
    if (stream) {
      ::dup2(fds[0], STDIN_FILENO);
      ::close(fds[0]);
      return receive_stream("-");
    }
    std::vector<char> data(bytes);
    double begin = 0;
    for (std::size_t i = 0; i < count; ++i) {
      read_fully(fds[0], data.data(), bytes);
      if (i == 0) begin = now();
    }
    const double end = now();
    ::close(fds[0]);
    return end - begin;
  };
  return measured(n, size, send, receive);
}

double push_pull(const std::string& endpoint, std::size_t n, std::size_t size) {
  const auto send = [&](std::size_t count, std::size_t bytes) {
    zmq::context_t context(1);
    zmq::socket_t out(context, zmq::socket_type::push);
    out.connect(endpoint);
    const std::vector<char> data(bytes, 7);
    for (std::size_t i = 0; i < count; ++i) {
      zmq::message_t m(
          const_cast<char*>(data.data()), bytes, [](void*, void*) {}, nullptr);
      out.send(m, zmq::send_flags::none);
    }
    out.close();
    context.close();  // waits until everything has left; `data` must live until then
  };
  const auto receive = [&](std::size_t count, std::size_t) {
    zmq::context_t context(1);
    zmq::socket_t in(context, zmq::socket_type::pull);
    in.bind(endpoint);
    double begin = 0;
    for (std::size_t i = 0; i < count; ++i) {
      zmq::message_t m;
      need(in.recv(m).has_value(), "recv");
      if (i == 0) begin = now();
    }
    return now() - begin;
  };
  return measured(n, size, send, receive);
}

double socket_stream(const std::string& endpoint, std::size_t n, std::size_t size) {
  return measured(
      n, size, [&](std::size_t count, std::size_t bytes) { send_stream(endpoint, count, bytes); },
      [&](std::size_t, std::size_t) { return receive_stream(endpoint); });
}

// Written and synced, then read again (from the page cache): GB/s of both together.
double file_stream(std::size_t n, std::size_t size) {
  const double begin = now();
  send_stream(g_folder + "/stream.bl", n, size);
  receive_stream(g_folder + "/stream.bl");
  return static_cast<double>(n * size) / (now() - begin) / 1e9;
}
double file_raw(std::size_t n, std::size_t size) {
  const auto path = g_folder + "/raw";
  std::vector<char> data(size, 7);
  const double begin = now();
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  for (std::size_t i = 0; i < n; ++i) write_fully(fd, data.data(), size);
  ::fsync(fd);
  ::close(fd);
  fd = ::open(path.c_str(), O_RDONLY);
  for (std::size_t i = 0; i < n; ++i) read_fully(fd, data.data(), size);
  ::close(fd);
  return static_cast<double>(n * size) / (now() - begin) / 1e9;
}

}  // namespace

int main(int argc, char** argv) {
  const double gigabytes = argc > 1 ? std::atof(argv[1]) : 0.6;
  char folder[] = "/tmp/bench-transport-XXXXXX";
  need(::mkdtemp(folder) != nullptr, "mkdtemp");
  g_folder = folder;
  const std::string ipc = "ipc://" + g_folder + "/s";
  struct Pair {
    const char *carrier, *stream;
    std::function<double(std::size_t, std::size_t)> raw, ours;
  };
  const std::vector<Pair> pairs = {
      {"file: write, fsync, read", "stream in a file", file_raw, file_stream},
      {"pipe of 1 MiB: write, read", "stream in a pipe", [](std::size_t n, std::size_t s) { return through_pipe(n, s, false); },
       [](std::size_t n, std::size_t s) { return through_pipe(n, s, true); }},
      {"PUSH/PULL ipc, no copy", "stream over ipc", [&](std::size_t n, std::size_t s) { return push_pull(ipc, n, s); },
       [&](std::size_t n, std::size_t s) { return socket_stream(ipc, n, s); }},
      {"PUSH/PULL tcp, no copy", "stream over tcp", [](std::size_t n, std::size_t s) { return push_pull("tcp://127.0.0.1:45991", n, s); },
       [](std::size_t n, std::size_t s) { return socket_stream("tcp://127.0.0.1:45992", n, s); }},
  };
  std::printf("%-28s %8s %7s %9s   %-18s %7s %9s %7s\n", "carrier", "batch", "GB/s", "CPU s/GB", "", "GB/s", "CPU s/GB", "ratio");
  const int in = ::dup(STDIN_FILENO);
  for (const auto& pair : pairs)
    for (const std::size_t size : {std::size_t{64} << 10, std::size_t{1} << 20, std::size_t{4} << 20}) {
      const auto n = std::max<std::size_t>(8, static_cast<std::size_t>(gigabytes * 1e9 / static_cast<double>(size)));
      std::vector<double> raw, ours;
      double raw_cpu = 0, our_cpu = 0;
      for (int r = 0; r < kRounds; ++r) {  // in turn, so that both see the same neighbours
        std::fflush(stdout);
        const double start = cpu();
        raw.push_back(pair.raw(n, size));
        const double half = cpu();
        ours.push_back(pair.ours(n, size));
        raw_cpu += half - start;
        our_cpu += cpu() - half;
        ::dup2(in, STDIN_FILENO);
      }
      std::sort(raw.begin(), raw.end());
      std::sort(ours.begin(), ours.end());
      const double volume = kRounds * static_cast<double>(n * size) / 1e9;
      std::printf("%-28s %4zu KiB %7.2f %9.2f   %-18s %7.2f %9.2f %5.0f %%\n", pair.carrier, size >> 10, raw[kRounds / 2], raw_cpu / volume, pair.stream,
                  ours[kRounds / 2], our_cpu / volume, 100 * ours[kRounds / 2] / raw[kRounds / 2]);
      std::fflush(stdout);
    }
  std::printf("median of %d; streams have checksums on both sides, credit, acknowledgements and a confirmed END\n", kRounds);
  for (const char* name : {"/stream.bl", "/raw", "/s"}) ::unlink((g_folder + name).c_str());
  ::rmdir(folder);
  return 0;
}
