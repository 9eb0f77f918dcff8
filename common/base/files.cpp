#include "base/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/error.hpp"

namespace bl {
namespace {

void sync_folder(const std::string& path) {
  auto folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // a folder that cannot be opened cannot be synced; the rename itself has been done
  ::fsync(fd);
  ::close(fd);
}

}  // namespace

void refuse_overwrite(const std::string& path, bool force) {
  struct stat info {};
  if (!force && ::lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode)) fail(Exit::write, "'{}' exists: give --force to replace it, or another name", path);
}

AtomicFile::AtomicFile(std::string path, bool force) : path_(std::move(path)), part_(path_ + ".part") {
  refuse_overwrite(path_, force);
  struct stat info {};
  // Devices and FIFOs have no final name to protect: they are written in place.
  if (::stat(path_.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) part_ = path_;
  fd_ = ::open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail(Exit::write, "cannot create '{}': {}", part_, errno_text(errno));
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::write(const void* data, std::size_t size) {
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::write(fd_, p, size);
    if (n < 0) {
      if (errno == EINTR) continue;
      fail(Exit::write, "cannot write '{}': {}", path_, errno_text(errno));
    }
    p += n;
    size -= static_cast<std::size_t>(n);
  }
}

void AtomicFile::commit() {
  if (fd_ < 0) return;
  // EINVAL: a device such as /dev/null, which has nothing to sync
  if (::fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) fail(Exit::write, "cannot write '{}': {}", path_, errno_text(errno));
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0) fail(Exit::write, "cannot write '{}': {}", path_, errno_text(errno));
  if (part_ == path_) return;
  if (::rename(part_.c_str(), path_.c_str()) != 0) fail(Exit::write, "cannot rename '{}' to '{}': {}", part_, path_, errno_text(errno));
  sync_folder(path_);
}

void AtomicFile::discard() noexcept {
  if (fd_ < 0) return;
  ::close(fd_);
  fd_ = -1;
  if (part_ != path_) ::unlink(part_.c_str());
}

void AtomicFile::keep_part() noexcept {
  if (fd_ < 0) return;
  ::close(fd_);
  fd_ = -1;
}

void commit_part(const std::string& part, const std::string& path) {
  const int fd = ::open(part.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(Exit::write, "cannot reopen '{}': {}", part, errno_text(errno));
  const int synced = ::fsync(fd);
  const int why = errno;
  ::close(fd);
  if (synced != 0) fail(Exit::write, "cannot write '{}': {}", path, errno_text(why));
  if (::rename(part.c_str(), path.c_str()) != 0) fail(Exit::write, "cannot rename '{}' to '{}': {}", part, path, errno_text(errno));
  sync_folder(path);
}

void make_folder_of(const std::string& path) {
  const auto folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail(Exit::write, "cannot make the folder '{}': {}", folder.string(), error.message());
}

std::string read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(Exit::input, "cannot read '{}': {}", path, errno_text(errno));
  std::string content;
  char block[1 << 16];
  for (;;) {
    const ssize_t n = ::read(fd, block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int why = errno;
      ::close(fd);
      fail(Exit::input, "cannot read '{}': {}", path, errno_text(why));
    }
    if (n == 0) break;
    content.append(block, static_cast<std::size_t>(n));
  }
  ::close(fd);
  return content;
}

void write_file(const std::string& path, std::string_view content, bool force) {
  AtomicFile file(path, force);
  file.write(content.data(), content.size());
  file.commit();
}

}  // namespace bl
