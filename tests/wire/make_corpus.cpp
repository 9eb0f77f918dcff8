// Writes the corpus of format version 1: make_corpus FOLDER. Run once for each version of the format; the files then stay
// as they are, so that later programs are held to reading (and refusing) what earlier ones wrote.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "make.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::filesystem::path folder = argv[1];
  std::filesystem::create_directories(folder);
  std::ofstream list(folder / "expected.txt");
  list << "# file, exit code of a program that reads it, words in its message\n";
  for (const auto& [name, fault] : bl::test::corpus()) {
    std::ofstream(folder / (name + ".bl"), std::ios::binary) << fault.bytes;
    list << name << ".bl " << fault.exit << (fault.words.empty() ? "" : " ") << fault.words << "\n";
  }
  return list.good() ? 0 : 1;
}
