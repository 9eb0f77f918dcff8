// Figures and folders to test with.
#pragma once
#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/files.hpp"
#include "report/figure.hpp"

namespace bl::test {

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "beamline-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

// The environment variable PATH while this lives.
class Path {
 public:
  explicit Path(const std::string& value) : before_(std::getenv("PATH")) { ::setenv("PATH", value.c_str(), 1); }
  ~Path() { ::setenv("PATH", before_.c_str(), 1); }
  Path(const Path&) = delete;
  Path& operator=(const Path&) = delete;

 private:
  std::string before_;
};

inline report::Figure histograms(const std::string& name) {
  report::Figure f;
  f.name = name;
  f.caption = "Mass of \"jets\" & <others>";
  f.x.title = "m_{jet} [GeV]";
  f.y.title = "density [1/GeV]";
  f.series.push_back(report::density("truth", report::Style::reference, {0, 1, 2, 4}, {10, 0, 30}, {3, 0, 5.5}, 50));
  f.series.push_back(report::density("it's a_model", report::Style::histogram, {0, 1, 2, 4}, {12, 2, 26}, {3.5, 1.4, 5}, 40));
  f.ratio = true;
  return f;
}

}  // namespace bl::test
