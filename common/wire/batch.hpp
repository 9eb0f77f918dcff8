// A batch as the body of a BATCH frame: msgpack {"events": n, "columns": [[name, dtype, [dim…], pad, data]…]} where pad
// and data are `bin` and pad's length puts data on a multiple of 64 bytes of the body, so that columns can be used in place.
#pragma once
#include <string_view>

#include "data/batch.hpp"
#include "wire/frame.hpp"

namespace bl::wire {

Buffer encode(const Batch& batch);
// Columns are views into `body`. Never allocates more than the body's size; the structure is checked (check_structure).
// Throws Exit::input with `where` in front.
Batch decode(const Buffer& body, std::uint64_t seq, std::string_view where);

}  // namespace bl::wire
