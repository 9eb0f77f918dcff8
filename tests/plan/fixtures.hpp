// Programs that exist only as descriptions, and a folder with a few input files to plan in.
#pragma once
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>

#include "base/files.hpp"
#include "plan/plan.hpp"

namespace bl::plan::test {

inline std::string source(const std::string& name) { return std::string(BEAMLINE_SOURCE_DIR) + "/tests/plan/" + name; }

inline std::optional<ProgramInfo> described(const std::string& run) {
  const std::string file = source("programs/" + run + ".toml");
  if (!std::filesystem::exists(file)) return std::nullopt;
  auto info = parse_description(read_file(file), file);
  info.path = "bin/" + run;
  info.hash = "00000000000000aa";
  return info;
}

inline void put(const std::string& path, const std::string& text) {
  if (const auto folder = std::filesystem::path(path).parent_path(); !folder.empty()) std::filesystem::create_directories(folder);
  std::ofstream(path, std::ios::binary) << text;
}

// A fresh current folder that is removed at the end.
class Scratch {
 public:
  Scratch() : before_(std::filesystem::current_path()) {
    std::string name = (std::filesystem::temp_directory_path() / "plan.XXXXXX").string();
    path_ = ::mkdtemp(name.data());
    std::filesystem::current_path(path_);
    put("here.bl", "events");
    put("here.csv", "events");
    std::filesystem::create_directory("folder");
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    std::filesystem::current_path(before_);
    std::filesystem::remove_all(path_);
  }

 private:
  std::filesystem::path before_, path_;
};

}  // namespace bl::plan::test
