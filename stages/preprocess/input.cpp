#include "preprocess/input.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.hpp"
#include "store/h5.hpp"

namespace bl::preprocess {
namespace {

constexpr std::pair<Format, std::string_view> kFormats[] = {
    {Format::darkmachines, "darkmachines"},
    {Format::cms, "cms"},
    {Format::lhco, "lhco"},
    {Format::jetnet, "jetnet"},
    {Format::spanet, "spanet"},
    {Format::jagged, "jagged"},
    {Format::stream, "stream"},
};

constexpr std::uint64_t kShown = 10;  // tolerated lines or events that are named on the log

Format detect_hdf5(const std::string& path) {
  const store::Input file(path);
  if (file.has_dataset("df/block0_values")) return Format::lhco;
  if (file.has_dataset("particles") && file.info("particles").shape.size() == 3) return Format::lhco;
  if (file.has_dataset("particle_features") && file.has_dataset("jet_features")) return Format::jetnet;
  if (file.has_group("INPUTS")) return Format::spanet;
  for (const char* offsets : {"offsets", "offset", "part_offset", "object_offsets", "particle_offsets"})
    if (file.has_dataset(offsets)) return Format::jagged;
  std::string arrays;
  for (const auto& name : file.all_datasets()) {
    if (arrays.size() > 200) {
      arrays += ", …";
      break;
    }
    arrays += (arrays.empty() ? "" : ", ") + name;
  }
  fail(Exit::input,
       "'{}' is an HDF5 file of a layout that is not known (arrays: {}); known are df/block0_values or particles[event, particle, 3] (lhco), "
       "particle_features and jet_features (jetnet), INPUTS/…/MASK (spanet), offsets with flat columns (jagged)",
       path, arrays.empty() ? "none" : arrays);
}

}  // namespace

std::string_view name_of(Format format) {
  for (const auto& [known, name] : kFormats)
    if (known == format) return name;
  return "?";
}

std::optional<Format> format_named(std::string_view name) {
  for (const auto& [format, known] : kFormats)
    if (known == name) return format;
  return std::nullopt;
}

std::vector<std::string> format_names() {
  std::vector<std::string> names;
  for (const auto& entry : kFormats) names.emplace_back(entry.second);
  return names;
}

Format detect(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) fail(Exit::input, "cannot open '{}': {}", path, errno_text(errno));
  if (S_ISDIR(status.st_mode)) fail(Exit::input, "cannot read '{}': it is a folder, name a file in it", path);
  if (!S_ISREG(status.st_mode)) return Format::stream;  // a named pipe: looking at its first bytes would take them away
  if (status.st_size == 0) fail(Exit::input, "'{}' is empty", path);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(Exit::input, "cannot open '{}': {}", path, errno_text(errno));
  std::array<char, 4096> buffer{};
  const ssize_t got = ::read(fd, buffer.data(), buffer.size());
  const int why = errno;
  ::close(fd);
  if (got < 0) fail(Exit::input, "cannot read '{}': {}", path, errno_text(why));
  const std::string_view head(buffer.data(), static_cast<std::size_t>(got));

  if (head.starts_with("BLF1")) return Format::stream;
  if (store::is_hdf5(path)) return detect_hdf5(path);
  if (head.starts_with("\x1f\x8b")) fail(Exit::input, "'{}' is compressed with gzip: use zcat '{}' | bl-preprocess --format darkmachines --in -", path, path);
  if (head.starts_with("\x28\xb5\x2f\xfd"))
    fail(Exit::input, "'{}' is compressed with zstd: use zstdcat '{}' | bl-preprocess --format darkmachines --in -", path, path);
  if (head.starts_with("root")) fail(Exit::input, "'{}' is a ROOT file: read its jets by bl-import '{}' | bl-preprocess", path, path);
  if (head.starts_with("PAR1")) fail(Exit::input, "'{}' is a parquet file: read its jets by bl-import '{}' | bl-preprocess", path, path);
  const auto first = head.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) fail(Exit::input, "'{}' holds no events: it begins with {} bytes of white space", path, head.size());
  if (head.find('\0') != std::string_view::npos) fail(Exit::input, "'{}' is of no known format (it is not text, HDF5 or a stream)", path);
  const std::string_view line = head.substr(first, head.find('\n', first) - first);
  if (line[0] == '#') return Format::cms;
  if (std::count(line.begin(), line.end(), ';') >= 4) return Format::darkmachines;
  fail(Exit::input, "'{}' is of no known format: its first line is '{}'; Dark Machines lines are 'id;process;weight;MET;METphi;object,E,pt,eta,phi;…'", path,
       shown(line, 60));
}

void Bad::add(const std::string& message) {
  if (count_ >= allowed_) {
    if (allowed_ == 0) fail(Exit::input, "{}", message);
    fail(Exit::input, "{} (after {} bad ones that --skip-bad {} tolerated)", message, count_, allowed_);
  }
  if (count_ < kShown) log::warn("skipped: {}", message);
  ++count_;
}

}  // namespace bl::preprocess
