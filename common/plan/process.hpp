// Starting programs without a shell.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace bl::plan {

struct Spawn {
  std::vector<std::string> argv;  // argv[0] is the path of the program
  int in = -1, out = -1;          // file descriptors to become stdin and stdout; -1: /dev/null for stdin, inherited for stdout
  std::uint64_t memory = 0;       // limit of the address space in bytes, 0: none
};

// Forks and executes; the child is in a process group of its own (a terminal's Ctrl-C reaches it only through us) and is
// sent SIGTERM should we die. Throws Exit::failed when the program cannot be started.
pid_t start(const Spawn& spawn);

// Runs a program to its end and returns what it wrote to stdout. Throws Exit::failed when it cannot be started, runs
// longer than `seconds`, or ends with another code than 0.
std::string capture(const std::vector<std::string>& argv, double seconds);

// Exit code of a wait status: the program's own, or 128 + signal.
int code_of(int status);

}  // namespace bl::plan
