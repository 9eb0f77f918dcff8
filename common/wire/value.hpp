// JSON-like values as msgpack, for HELLO and END bodies.
#pragma once
#include <nlohmann/json.hpp>

#include <string_view>

#include "data/buffer.hpp"

namespace bl::wire {

inline constexpr std::size_t kMaxDepth = 32;
inline constexpr std::size_t kMaxValue = std::size_t{16} << 20;  // bytes of a HELLO

Buffer encode_value(const nlohmann::json& value);
// Never allocates from a declared length; refuses nesting beyond kMaxDepth and bodies beyond kMaxValue. Throws
// Exit::input with `where` in front.
nlohmann::json decode_value(const Buffer& body, std::string_view where);

}  // namespace bl::wire
