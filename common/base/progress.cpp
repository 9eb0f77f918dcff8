#include "base/progress.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/error.hpp"

namespace bl {

using Clock = std::chrono::steady_clock;

struct Progress::State {
  std::string program, note, path;
  std::FILE* metrics = nullptr;
  bool draw = false, drawn = false;
  Clock::time_point start = Clock::now(), last_draw{}, last_metric = Clock::now();
  std::uint64_t events = 0, bytes = 0, total = 0, total_bytes = 0;

  double seconds() const { return std::chrono::duration<double>(Clock::now() - start).count(); }
  void line(const nlohmann::json& json) {
    const std::string text = json.dump() + "\n";
    if (std::fwrite(text.data(), 1, text.size(), metrics) != text.size() || std::fflush(metrics) != 0)
      fail(Exit::write, "cannot write metrics '{}': {}", path, errno_text(errno));
  }
  void redraw() {
    const double s = seconds(), rate = s > 0 ? static_cast<double>(events) / s : 0;
    std::string text = fmt::format("{}: {} events  {:.0f}/s  {:.1f} MB/s", program, events, rate, s > 0 ? static_cast<double>(bytes) / s / 1e6 : 0);
    if (total > events && rate > 0)
      text +=
          fmt::format("  {:.0f}%  ETA {:.0f} s", 100.0 * static_cast<double>(events) / static_cast<double>(total), static_cast<double>(total - events) / rate);
    else if (total == 0 && total_bytes > bytes && bytes > 0)
      text += fmt::format("  {:.0f}%  ETA {:.0f} s", 100.0 * static_cast<double>(bytes) / static_cast<double>(total_bytes),
                          static_cast<double>(total_bytes - bytes) * s / static_cast<double>(bytes));
    if (!note.empty()) text += "  " + note;
    std::fprintf(stderr, "\r%s\033[K", text.c_str());
    std::fflush(stderr);
    drawn = true;
  }
};

Progress::Progress(std::string program, const std::string& metrics, bool quiet) : state_(std::make_unique<State>()) {
  state_->program = std::move(program);
  state_->draw = !quiet && ::isatty(STDERR_FILENO) == 1;
  if (!metrics.empty()) {
    state_->path = metrics;
    state_->metrics = std::fopen(metrics.c_str(), "w");
    if (!state_->metrics) fail(Exit::write, "cannot create metrics '{}': {}", metrics, errno_text(errno));
  }
}

Progress::~Progress() {
  if (state_->drawn) std::fputs("\r\033[K", stderr);
  if (state_->metrics) std::fclose(state_->metrics);
}

void Progress::total(std::uint64_t events) { state_->total = events; }
void Progress::total_bytes(std::uint64_t bytes) { state_->total_bytes = bytes; }
void Progress::note(std::string text) { state_->note = std::move(text); }

void Progress::add(std::uint64_t events, std::uint64_t bytes) {
  auto& s = *state_;
  s.events += events;
  s.bytes += bytes;
  const auto now = Clock::now();
  if (s.draw && now - s.last_draw > std::chrono::milliseconds(200)) {
    s.redraw();
    s.last_draw = now;
  }
  if (s.metrics && now - s.last_metric > std::chrono::seconds(1)) {
    s.line({{"t", s.seconds()}, {"events", s.events}, {"bytes", s.bytes}});
    s.last_metric = now;
  }
}

void Progress::metric(const nlohmann::json& line) {
  if (!state_->metrics) return;
  nlohmann::json full = line;
  full["t"] = state_->seconds();
  state_->line(full);
}

void Progress::finish() {
  auto& s = *state_;
  if (s.metrics) s.line({{"t", s.seconds()}, {"done", true}, {"events", s.events}, {"bytes", s.bytes}, {"seconds", s.seconds()}});
  if (s.drawn) {
    std::fputs("\r\033[K", stderr);
    s.drawn = false;
  }
}

std::uint64_t Progress::events() const { return state_->events; }
double Progress::seconds() const { return state_->seconds(); }
bool Progress::drawing() const { return state_->draw; }

}  // namespace bl
