#include "base/log.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "base/error.hpp"

namespace bl::log {
namespace {
std::shared_ptr<spdlog::logger> logger(std::string_view program = "beamline") {
  static auto instance = [&] {
    auto l = std::make_shared<spdlog::logger>(std::string(program), std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    l->set_pattern("%n: %^%l%$: %v");
    l->set_level(spdlog::level::warn);
    l->flush_on(spdlog::level::debug);
    return l;
  }();
  return instance;
}
}  // namespace

void setup(std::string_view program, std::string_view level) {
  auto l = logger(program);
  const auto parsed = spdlog::level::from_str(std::string(level));
  if (parsed == spdlog::level::off && level != "off") fail(Exit::usage, "unknown log level '{}': use debug, info, warn, error or off", level);
  l->set_level(parsed);
}

void write(int level, std::string_view message) {
  static constexpr spdlog::level::level_enum levels[] = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn, spdlog::level::err};
  logger()->log(levels[level], fmt::runtime("{}"), message);
}

}  // namespace bl::log
