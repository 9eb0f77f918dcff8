// xxh3-64, the checksum of every frame, schema and artefact (not cryptographic: it finds accidents, not attackers).
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace bl {

std::uint64_t hash64(const void* data, std::size_t size, std::uint64_t seed = 0);
inline std::uint64_t hash64(std::string_view text, std::uint64_t seed = 0) { return hash64(text.data(), text.size(), seed); }

std::string hex(std::uint64_t value);              // 16 lower-case digits
std::uint64_t hash_file(const std::string& path);  // of the whole content; throws Exit::input when unreadable
std::uint64_t hash_path(const std::string& path);  // of a file, or of the names and contents of all files of a folder

}  // namespace bl
