// The first frame of a stream: what it holds, where it comes from, and what the model-side needs to know about it.
#pragma once
#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

#include "wire/frame.hpp"

namespace bl::wire {

// Body: msgpack map {"schema": "objects/1", "schema_hash": u64, "meta": {…}, "history": […]}.
struct Hello {
  std::string schema;             // "objects/1"
  std::uint64_t schema_hash = 0;  // of the schema file
  // Facts about the payload by name, e.g. meta["tokenizer"] = {"hash": …, "vocabulary": 875, …}. A stage passes on what
  // it does not know.
  nlohmann::json meta = nlohmann::json::object();
  // One entry a stage, oldest first: {"stage", "version", "options", "seed", "host", "inputs": [{"path", "hash"}…]}.
  nlohmann::json history = nlohmann::json::array();
};

Frame hello_frame(std::uint64_t stream, const Hello& hello);
Hello read_hello(const Frame& frame, std::string_view where);  // throws Exit::input

}  // namespace bl::wire
