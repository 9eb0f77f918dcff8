// Files that are either whole or absent: written to NAME.part, fsynced, renamed, and the folder fsynced.
#pragma once
#include <string>
#include <string_view>

namespace bl {

class AtomicFile {
 public:
  // Opens PATH.part for writing. Throws Exit::write when PATH exists and `force` is false, or cannot be created.
  AtomicFile(std::string path, bool force);
  ~AtomicFile();  // removes the .part when commit() was not reached
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  const std::string& part() const { return part_; }
  void write(const void* data, std::size_t size);  // throws Exit::write, e.g. on a full disk
  void commit();                                   // fsync, close, rename, fsync the folder; throws Exit::write
  void discard() noexcept;                         // close and remove the .part
  void keep_part() noexcept;                       // close, leave the .part where it is

 private:
  std::string path_, part_;
  int fd_ = -1;
};

// Renames an already written and closed PART over PATH: fsync of both file and folder. Throws Exit::write.
void commit_part(const std::string& part, const std::string& path);
// Throws Exit::write with advice when `path` exists and `force` is false.
void refuse_overwrite(const std::string& path, bool force);
// Makes the folder in which PATH is to be, and those around it. Throws Exit::write.
void make_folder_of(const std::string& path);
// Whole content; throws Exit::input.
std::string read_file(const std::string& path);
// Atomic replacement of a whole text file.
void write_file(const std::string& path, std::string_view content, bool force);

}  // namespace bl
