// PROTOCOL.md, sentences 1 to 13: every stream, files and pipes.
#include "base/files.hpp"
#include "support.hpp"

namespace bl::test {
namespace {

// The bytes of a stream of n batches; sizes vary, so that padding of every kind occurs.
std::string stream_bytes(const Folder& folder, std::uint64_t n, std::size_t bytes = 300) {
  const auto path = folder / "whole.bl";
  const auto out = open_sink(path, {true});
  out->write(made_hello(kStream));
  for (std::uint64_t seq = 0; seq < n; ++seq) out->write(made_batch(kStream, seq, bytes));
  out->finish();
  return content(path);
}

Outcome reading(const std::string& path) {
  return outcome([&] { read_all(*open_source(path)); });
}

std::string put(const Folder& folder, const std::string& bytes) {
  const auto path = folder / "changed.bl";
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

// Offsets of the frames of a stream.
std::vector<std::size_t> frames_of(const std::string& bytes) {
  std::vector<std::size_t> at;
  for (std::size_t i = 0; i + wire::kHeader <= bytes.size();) {
    at.push_back(i);
    i += wire::kHeader + wire::padded(wire::read_header(reinterpret_cast<const std::byte*>(bytes.data()) + i, "test").length);
  }
  return at;
}

std::string frame_bytes(const Frame& f) {
  std::string out(wire::kHeader, '\0');
  wire::write_header(f, reinterpret_cast<std::byte*>(out.data()));
  out.append(reinterpret_cast<const char*>(f.body.data()), f.body.size());
  out.resize(wire::kHeader + wire::padded(f.body.size()));
  return out;
}

TEST(Protocol, S01_HelloBatchesEnd) {
  Folder folder;
  const auto bytes = stream_bytes(folder, 3);
  std::vector<Kind> kinds;
  std::vector<std::uint64_t> seqs;
  for (const auto at : frames_of(bytes)) {
    const auto h = wire::read_header(reinterpret_cast<const std::byte*>(bytes.data()) + at, "test");
    kinds.push_back(h.kind);
    seqs.push_back(h.seq);
  }
  EXPECT_EQ(kinds, (std::vector<Kind>{Kind::hello, Kind::batch, Kind::batch, Kind::batch, Kind::end}));
  EXPECT_EQ(seqs, (std::vector<std::uint64_t>{0, 0, 1, 2, 3}));
  EXPECT_EQ(read_all(*open_source(folder / "whole.bl")).seqs, counted(3));
}

TEST(Protocol, S02_EndDisagrees) {
  Folder folder;
  const auto bytes = stream_bytes(folder, 4);
  const auto at = frames_of(bytes);
  // a whole frame is missing: every checksum is right
  const auto without = bytes.substr(0, at[2]) + bytes.substr(at[3]);
  EXPECT_TRUE(fails(reading(put(folder, without)), Exit::input, "END counts 4 batches"));
  // the right counts, another digest
  wire::End end{4, 0, 1};
  for (std::uint64_t seq = 0; seq < 4; ++seq) end.events += made_batch(kStream, seq, 300).count;
  EXPECT_TRUE(fails(reading(put(folder, bytes.substr(0, at[5]) + frame_bytes(wire::end_frame(kStream, end)))), Exit::input, "digest"));
}

TEST(Protocol, S03_CutStreamIsNoEnd) {
  Folder folder;
  const auto bytes = stream_bytes(folder, 3);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const auto o = reading(put(folder, bytes.substr(0, length)));
    ASSERT_TRUE(o.code == Exit::upstream || o.code == Exit::input) << length << " of " << bytes.size() << " bytes were taken for a stream";
    if (length >= wire::kHeader) {
      ASSERT_EQ(o.code, Exit::upstream) << length << ": " << o.text;
    }
  }
}

TEST(Protocol, S04_AbortCarriesReason) {
  Folder folder;
  const auto bytes = stream_bytes(folder, 2);
  const auto at = frames_of(bytes);
  const auto aborted = bytes.substr(0, at[2]) + frame_bytes(wire::abort_frame(kStream, "the disk is full"));
  EXPECT_TRUE(fails(reading(put(folder, aborted)), Exit::upstream, "the disk is full"));
}

TEST(Protocol, S05_DamageIsNeverDelivered) {
  Folder folder;
  const auto bytes = stream_bytes(folder, 2, 200);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    auto changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
    const auto o = reading(put(folder, changed));
    ASSERT_TRUE(o.code == Exit::input || o.code == Exit::upstream) << "a bit flipped at byte " << i << " was not noticed";
  }
}

TEST(Protocol, S06_FinalNameOnlyWhenWhole) {
  Folder folder;
  const auto path = folder / "out.bl";
  const auto out = open_sink(path, {});
  out->write(made_hello(kStream));
  write_batches(*out, 0, 3);
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(std::filesystem::exists(path + ".part"));
  out->finish();
  EXPECT_TRUE(std::filesystem::exists(path));
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
  EXPECT_EQ(read_all(*open_source(path)).seqs, counted(3));
}

TEST(Protocol, S07_NothingIsLeftOfAnAbortedFile) {
  Folder folder;
  for (const bool explicitly : {true, false}) {
    const auto path = folder / "out.bl";
    {
      const auto out = open_sink(path, {});
      out->write(made_hello(kStream));
      write_batches(*out, 0, 3);
      if (explicitly) out->abort("no");
    }
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_FALSE(std::filesystem::exists(path + ".part"));
  }
}

TEST(Protocol, S08_NothingIsReplacedWithoutForce) {
  Folder folder;
  const auto path = folder / "out.bl";
  write_file(path, "precious", false);
  EXPECT_TRUE(fails(outcome([&] { open_sink(path, {}); }), Exit::write, "--force"));
  EXPECT_EQ(content(path), "precious");
  write_all(*open_sink(path, {true}), 2);
  EXPECT_EQ(read_all(*open_source(path)).seqs, counted(2));
}

TEST(Protocol, S09_FilesAcknowledgeAtOnce) {
  Folder folder;
  const auto out = open_sink(folder / "out.bl", {});
  std::vector<std::uint64_t> acknowledged;
  out->on_acknowledged([&](std::uint64_t stream, std::uint64_t seq) {
    EXPECT_EQ(stream, kStream);
    acknowledged.push_back(seq);
  });
  out->write(made_hello(kStream));
  for (std::uint64_t seq = 0; seq < 3; ++seq) {
    out->write(made_batch(kStream, seq, 100));
    EXPECT_EQ(acknowledged, counted(seq + 1));
  }
  out->finish();
}

// Standard output of a process of its own, as in a shell's pipeline.
int pipeline(const std::string& left, const std::string& right, std::string& log) {
  Folder folder;
  Process p({"/bin/bash", "-c", "set -o pipefail; { " + left + "; echo left $? >&2; } | { " + right + "; echo right $? >&2; }"}, folder / "log");
  const int code = p.wait(20s);
  log = p.log();
  return code;
}

TEST(Protocol, S10_WriterWithoutReader) {
  std::string log;
  pipeline(std::string(STREAM_ROLE) + " source - - batches=2000", "head -c 100000 > /dev/null", log);
  EXPECT_NE(log.find("left 5"), std::string::npos) << log;
  EXPECT_NE(log.find("went away"), std::string::npos) << log;
}

TEST(Protocol, S11_ReaderOfPipeHasEnough) {
  std::string log;
  pipeline(std::string(STREAM_ROLE) + " source - - batches=2000", std::string(STREAM_ROLE) + " sink - - inverted=0 stop=5", log);
  EXPECT_NE(log.find("left 0"), std::string::npos) << log;
  EXPECT_NE(log.find("right 0"), std::string::npos) << log;
  EXPECT_NE(log.find("batches 5 lost 0"), std::string::npos) << log;
}

TEST(Protocol, S12_NothingAfterEndAndZerosBetween) {
  Folder folder;
  const auto bytes = stream_bytes(folder, 2);
  EXPECT_TRUE(fails(reading(put(folder, bytes + "x")), Exit::input, "follow END"));
  EXPECT_TRUE(fails(reading(put(folder, bytes + bytes)), Exit::input, "follow END"));
  const auto at = frames_of(bytes);
  std::size_t checked = 0;
  for (std::size_t i = 0; i + 1 < at.size(); ++i) {
    const auto h = wire::read_header(reinterpret_cast<const std::byte*>(bytes.data()) + at[i], "test");
    if (h.length % 64 == 0) continue;
    auto changed = bytes;
    changed[at[i + 1] - 1] = 1;
    EXPECT_TRUE(fails(reading(put(folder, changed)), Exit::input, "padding"));
    ++checked;
  }
  EXPECT_GT(checked, 0u);
}

TEST(Protocol, S13_SeveralFilesAreOneStream) {
  Folder folder;
  write_all(*open_sink(folder / "a.bl", {}), 3);
  write_all(*open_sink(folder / "b.bl", {}), 2);
  const auto in = open_source((folder / "a.bl") + "," + (folder / "b.bl"));
  const auto hello = read_hello(*in);
  EXPECT_NE(hello.stream, kStream);
  std::vector<std::uint64_t> seqs;
  while (const auto f = in->read()) {
    EXPECT_EQ(f->stream, hello.stream);
    seqs.push_back(f->seq);
  }
  EXPECT_EQ(seqs, counted(5));
}

}  // namespace
}  // namespace bl::test
