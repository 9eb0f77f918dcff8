#include "dist/launch.hpp"

#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <string>

#include "base/error.hpp"
#include "base/signals.hpp"

#ifdef BEAMLINE_HAVE_MPI
#include <mpi.h>
#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <optional>
#include <vector>
#endif

namespace bl::dist {
namespace {

class OneProcess final : public Job {
 public:
  std::size_t rank() const noexcept override { return 0; }
  std::size_t size() const noexcept override { return 1; }
  void exchange(std::span<const Send> sends, std::span<const Receive> receives) override { alone().exchange(sends, receives); }
  int leave(int code) noexcept override { return code; }
};

// How many processes the launcher started; 1 when there was none. Slurm's variables are also set in the script of a batch
// job, where nothing is parallel yet: they count only beside those of a PMI, which srun alone sets.
std::size_t launched() {
  const auto number = [](const char* name) {
    const char* text = std::getenv(name);
    std::size_t n = 0;
    if (text != nullptr) std::from_chars(text, text + std::char_traits<char>::length(text), n);
    return n;
  };
  if (const std::size_t n = number("OMPI_COMM_WORLD_SIZE"); n > 0) return n;
  if (const std::size_t n = number("PMI_SIZE"); n > 0 && std::getenv("PMI_RANK") != nullptr) return n;
  if (std::getenv("PMIX_RANK") != nullptr)
    for (const char* name : {"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"})
      if (const std::size_t n = number(name); n > 0) return n;
  return 1;
}

#ifdef BEAMLINE_HAVE_MPI

using Clock = std::chrono::steady_clock;

class Mpi final : public Job {
 public:
  explicit Mpi(std::size_t expected) {
    int provided = 0, rank = 0, size = 0;
    if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) fail(Exit::failed, "MPI cannot be initialised");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    rank_ = static_cast<std::size_t>(rank);
    size_ = static_cast<std::size_t>(size);
    ::prctl(PR_SET_TIMERSLACK, 1'000UL);  // ns: short sleeps of this thread are short (50 us are added otherwise)
    if (size_ == expected) return;
    MPI_Finalize();
    fail(Exit::usage, "the launcher started {} processes but MPI joins {}: use the mpirun of the MPI that this program was built with", expected, size_);
  }

  std::size_t rank() const noexcept override { return rank_; }
  std::size_t size() const noexcept override { return size_; }

  void exchange(std::span<const Send> sends, std::span<const Receive> receives) override {
    requests_.clear();
    peers_.clear();
    for (const Receive& r : receives)
      in_parts(r.bytes, [&](std::size_t at, int n) {
        peers_.push_back(r.from);
        good(MPI_Irecv(static_cast<std::byte*>(r.data) + at, n, MPI_BYTE, static_cast<int>(r.from), kTag, MPI_COMM_WORLD, &requests_.emplace_back()), r.from);
      });
    for (const Send& s : sends)
      in_parts(s.bytes, [&](std::size_t at, int n) {
        peers_.push_back(s.to);
        good(MPI_Isend(static_cast<const std::byte*>(s.data) + at, n, MPI_BYTE, static_cast<int>(s.to), kTag, MPI_COMM_WORLD, &requests_.emplace_back()), s.to);
      });
    wait();
  }

  int leave(int code) noexcept override {
    // One that fails must take the others with it: they would wait for its messages.
    if (code != 0) MPI_Abort(MPI_COMM_WORLD, code);
    try {
      barrier();  // sleeps, where MPI_Finalize would spin until rank 0 has written its file
    } catch (const std::exception&) {
      MPI_Abort(MPI_COMM_WORLD, static_cast<int>(Exit::failed));
    }
    MPI_Finalize();
    return code;
  }

 private:
  static constexpr int kTag = 1;
  static constexpr auto kSpin = std::chrono::microseconds(30);
  static constexpr long kPause = 20'000;                         // ns; with the timer slack set below
  static constexpr auto kPatience = std::chrono::minutes(10);    // of a step, and of rank 0 writing a checkpoint
  static constexpr std::size_t kLargest = std::size_t{1} << 28;  // bytes of a message: MPI counts with int

  template <class F>
  static void in_parts(std::size_t bytes, const F& f) {
    for (std::size_t at = 0; at < bytes; at += kLargest) f(at, static_cast<int>(std::min(kLargest, bytes - at)));
  }

  [[noreturn]] void lost(int code, std::size_t peer) const {
    char text[MPI_MAX_ERROR_STRING] = {};
    int length = 0;
    MPI_Error_string(code, text, &length);
    fail(Exit::failed, "rank {} has lost rank {}: {}; go on with --resume and the last checkpoint", rank_, peer, text);
  }
  void good(int code, std::size_t peer) const {
    if (code != MPI_SUCCESS) lost(code, peer);
  }

  // Waits for all requests. It sleeps between looks: MPI_Waitall would spin, and where cores are shared a rank that spins
  // has used up its turn when its message is there, and keeps the one that should send it from running. Asked to stop, it
  // still waits for a while: the others are asked too and agree with us on the step after which all stop; when they do not
  // come, they are dead.
  void wait() {
    const auto start = Clock::now();
    std::optional<Clock::time_point> asked;
    statuses_.resize(requests_.size());
    for (;;) {
      int done = 0;
      const int code = MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, statuses_.data());
      if (code != MPI_SUCCESS) {
        for (std::size_t i = 0; i < statuses_.size(); ++i)
          if (code != MPI_ERR_IN_STATUS || (statuses_[i].MPI_ERROR != MPI_SUCCESS && statuses_[i].MPI_ERROR != MPI_ERR_PENDING))
            lost(code == MPI_ERR_IN_STATUS ? statuses_[i].MPI_ERROR : code, peers_[i]);
      }
      if (done != 0) return;
      const auto now = Clock::now();
      if (signals::pending() != 0) {
        if (!asked) asked = now;
        if (now - *asked > kPatience)
          fail(Exit::failed, "asked to stop, but rank {} does not answer; go on with --resume and the last checkpoint", first_unfinished());
      }
      if (now - start < kSpin) continue;
      const timespec pause{0, kPause};
      ::nanosleep(&pause, nullptr);
    }
  }
  std::size_t first_unfinished() const {
    for (std::size_t i = 0; i < requests_.size(); ++i)
      if (requests_[i] != MPI_REQUEST_NULL) return peers_[i];
    return rank_;
  }

  std::size_t rank_ = 0, size_ = 1;
  std::vector<MPI_Request> requests_;
  std::vector<MPI_Status> statuses_;
  std::vector<std::size_t> peers_;  // of each request
};

#endif

}  // namespace

std::unique_ptr<Job> join() {
  const std::size_t processes = launched();
  if (processes == 1) return std::make_unique<OneProcess>();
#ifdef BEAMLINE_HAVE_MPI
  return std::make_unique<Mpi>(processes);
#else
  fail(Exit::usage, "started as one of {} processes, but this program was built without MPI: install libopenmpi-dev and build again, or start it once",
       processes);
#endif
}

}  // namespace bl::dist
