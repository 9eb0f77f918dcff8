#include "base/hash.hpp"

// Inlined: the shared library's SSE2 path runs at less than half the speed.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>
#include <vector>

#include "base/error.hpp"

namespace bl {

std::uint64_t hash64(const void* data, std::size_t size, std::uint64_t seed) { return XXH3_64bits_withSeed(data, size, seed); }

std::string hex(std::uint64_t value) { return fmt::format("{:016x}", value); }

std::uint64_t hash_file(const std::string& path) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) fail(Exit::input, "cannot read '{}': {}", path, errno_text(errno));
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  XXH3_64bits_reset(state.get());
  std::vector<char> block(1 << 20);
  while (const std::size_t n = std::fread(block.data(), 1, block.size(), file.get())) XXH3_64bits_update(state.get(), block.data(), n);
  if (std::ferror(file.get())) fail(Exit::input, "cannot read '{}': {}", path, errno_text(errno));
  return XXH3_64bits_digest(state.get());
}

std::uint64_t hash_path(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(path, error)) return hash_file(path);
  std::vector<std::string> files;
  fs::recursive_directory_iterator entry(path, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    if (entry->is_regular_file(error)) files.push_back(entry->path().string());
  }
  if (error) fail(Exit::input, "cannot read the folder '{}': {}", path, error.message());
  std::ranges::sort(files);
  std::string all;
  for (const auto& file : files) all += fmt::format("{} {}\n", file.substr(path.size()), hex(hash_file(file)));
  return hash64(all);
}

}  // namespace bl
