#include "transport/endpoint.hpp"

#include <charconv>

#include "base/error.hpp"

namespace bl::transport {
namespace {

template <class T>
T number(std::string_view value, std::string_view key, std::string_view text, T low, T high) {
  T out{};
  std::uint64_t scale = 1;
  std::string_view digits = value;
  if (!digits.empty()) {
    switch (digits.back()) {
      case 'K': scale = 1u << 10; break;
      case 'M': scale = 1u << 20; break;
      case 'G': scale = 1u << 30; break;
      default: break;
    }
    if (scale != 1) digits.remove_suffix(1);
  }
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  if (error != std::errc{} || end != digits.data() + digits.size() || out > high / scale || out * scale < low)
    fail(Exit::usage, "endpoint '{}': {}={} is not a number between {} and {}", text, key, value, low, high);
  return static_cast<T>(out * scale);
}

bool yes(std::string_view value, std::string_view key, std::string_view text) {
  if (value == "1" || value == "yes" || value == "true" || value.empty()) return true;
  if (value == "0" || value == "no" || value == "false") return false;
  fail(Exit::usage, "endpoint '{}': {}={} is neither 0 nor 1", text, key, value);
}

std::chrono::milliseconds duration(std::string_view value, std::string_view text) {
  std::string_view digits = value;
  std::uint64_t scale = 1000;
  if (digits.ends_with("ms")) {
    scale = 1;
    digits.remove_suffix(2);
  } else if (digits.ends_with("s")) {
    digits.remove_suffix(1);
  }
  return std::chrono::milliseconds(number<std::uint64_t>(digits, "timeout", text, 0, 86'400'000) * scale);
}

}  // namespace

Endpoint parse_endpoint(std::string_view text) {
  Endpoint e;
  e.text = text;
  std::string_view rest = text, options;
  const auto has = [&](std::string_view prefix) { return rest.substr(0, prefix.size()) == prefix; };
  const bool url = has("tcp://") || has("ipc://") || has("mem://");
  if (url) {
    if (const auto q = rest.find('?'); q != std::string_view::npos) {
      options = rest.substr(q + 1);
      rest = rest.substr(0, q);
    }
    e.scheme = has("tcp://") ? Scheme::tcp : has("ipc://") ? Scheme::ipc : Scheme::memory;
    e.address = rest.substr(6);
    if (e.address.empty()) fail(Exit::usage, "endpoint '{}' has no address", text);
    if (e.scheme == Scheme::tcp) {
      const auto colon = e.address.rfind(':');
      if (colon == std::string::npos || colon == 0) fail(Exit::usage, "endpoint '{}': tcp needs host:port, e.g. tcp://127.0.0.1:5555", text);
      const std::string_view port = std::string_view(e.address).substr(colon + 1);
      if (port != "*") number<std::uint32_t>(port, "port", text, 0, 65535);
    }
  } else if (rest.find("://") != std::string_view::npos && rest.find('/') > rest.find("://")) {
    fail(Exit::usage, "endpoint '{}' has an unknown scheme: use -, a path, tcp://host:port or ipc://path", text);
  } else if (rest == "-" || rest.empty()) {
    e.scheme = Scheme::standard;
  } else {
    e.scheme = Scheme::file;
    e.address = rest;
  }
  while (!options.empty()) {
    const auto amp = options.find('&');
    const std::string_view item = options.substr(0, amp);
    options = amp == std::string_view::npos ? std::string_view{} : options.substr(amp + 1);
    const auto eq = item.find('=');
    const std::string_view key = item.substr(0, eq), value = eq == std::string_view::npos ? std::string_view{} : item.substr(eq + 1);
    if (key == "credit") e.credit = number<std::uint32_t>(value, key, text, 1, 1u << 20);
    else if (key == "bytes") e.bytes = number<std::uint64_t>(value, key, text, 1, std::uint64_t{1} << 40);
    else if (key == "timeout") e.timeout = duration(value, text);
    else if (key == "peers") e.peers = number<std::uint32_t>(value, key, text, 1, 4096);
    else if (key == "insecure") e.insecure = yes(value, key, text);
    else if (key == "key") e.key = value;
    else if (key == "order" && (value == "strict" || value == "any")) e.strict_order = value == "strict";
    else if (key == "on-loss" && (value == "resend" || value == "fail")) e.resend = value == "resend";
    else if (key == "order" || key == "on-loss")
      fail(Exit::usage, "endpoint '{}': {}={} must be {}", text, key, value, key == "order" ? "strict or any" : "resend or fail");
    else fail(Exit::usage, "endpoint '{}': unknown option '{}'; known: credit, bytes, timeout, peers, order, on-loss, insecure, key", text, key);
  }
  return e;
}

std::vector<Endpoint> parse_endpoints(std::string_view text) {
  std::vector<Endpoint> out;
  for (;;) {
    const auto comma = text.find(',');
    out.push_back(parse_endpoint(text.substr(0, comma)));
    if (comma == std::string_view::npos) return out;
    text = text.substr(comma + 1);
  }
}

}  // namespace bl::transport
