// What the tests of bl-preprocess share: a scratch folder, running the built program, reading what it wrote.
#pragma once
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/files.hpp"
#include "data/batch.hpp"
#include "transport/transport.hpp"
#include "wire/batch.hpp"
#include "wire/hello.hpp"

namespace bl::test {

namespace fs = std::filesystem;

class Scratch : public ::testing::Test {
 protected:
  Scratch()
      : folder_(fs::temp_directory_path() /
                fmt::format("beamline_preprocess_{}_{}", ::getpid(), ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::create_directories(folder_);
  }
  ~Scratch() override { fs::remove_all(folder_); }
  std::string file(const std::string& name) const { return (folder_ / name).string(); }
  std::string write(const std::string& name, std::string_view content) const {
    write_file(file(name), content, true);
    return file(name);
  }

  struct Run {
    int code = -1;
    std::string err;
  };
  // `arguments` go through a shell, after the program's path.
  Run run(const std::string& arguments) const { return shell(program() + " " + arguments); }
  Run shell(const std::string& command) const {
    const std::string log = file("stderr.txt");
    const int status = std::system(("{ " + command + "; } 2> '" + log + "'").c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(log)};
  }
  static std::string program() { return std::string(BEAMLINE_BIN_DIR) + "/bl-preprocess"; }

  fs::path folder_;
};

struct Stream {
  wire::Hello hello;
  std::vector<Batch> batches;
  std::uint64_t events = 0;
  Digest digest;

  Batch all() const { return concat(batches); }
};

inline Stream read_stream(const std::string& path) {
  Stream stream;
  const auto source = transport::open_source(path);
  stream.hello = wire::read_hello(*source->read(), path);
  while (const auto frame = source->read()) {
    Batch batch = wire::decode(frame->body, frame->seq, path);
    stream.events += batch.events;
    stream.digest.add(batch);
    stream.batches.push_back(std::move(batch));
  }
  return stream;
}

inline std::string data_folder() {
  if (const char* given = std::getenv("BEAMLINE_DATA")) return given;
  return std::string(BEAMLINE_SOURCE_DIR) + "/../shared/data";
}

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << text

#define NEED_DATA(path) \
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here"

// The Error that `call` throws.
template <class Call>
Error error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return Error(Exit::done, "no error");
}

}  // namespace bl::test
