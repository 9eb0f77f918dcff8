// Messages for people, on stderr. Without a terminal a stage is silent unless something is wrong (level "warn").
#pragma once
#include <fmt/format.h>

#include <string>
#include <string_view>

namespace bl::log {

// level: "debug", "info", "warn", "error", "off"; program: the prefix of every line.
void setup(std::string_view program, std::string_view level);

void write(int level, std::string_view message);  // 0 debug, 1 info, 2 warn, 3 error

template <class... A>
void debug(fmt::format_string<A...> f, A&&... a) {
  write(0, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void info(fmt::format_string<A...> f, A&&... a) {
  write(1, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void warn(fmt::format_string<A...> f, A&&... a) {
  write(2, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void error(fmt::format_string<A...> f, A&&... a) {
  write(3, fmt::format(f, std::forward<A>(a)...));
}

}  // namespace bl::log
