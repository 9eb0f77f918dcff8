// A small stream of real columns, and the faults that the corpus holds, as bytes.
#pragma once
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/hash.hpp"
#include "wire/batch.hpp"
#include "wire/hello.hpp"

namespace bl::test {

inline constexpr std::uint64_t kStream = 0x0123456789abcdef, kSchema = 0xfeedbeef;

inline Batch small_batch(std::uint64_t seq, std::uint32_t events = 3) {
  Batch b;
  b.seq = seq;
  b.events = events;
  std::vector<std::uint64_t> id;
  std::vector<std::uint32_t> offsets{0};
  std::vector<float> pt;
  std::vector<std::int8_t> charge;
  std::vector<double> cov;
  std::vector<std::string> process;
  for (std::uint32_t e = 0; e < events; ++e) {
    id.push_back(seq * 100 + e);
    for (std::uint32_t i = 0; i <= e % 3; ++i) {
      pt.push_back(static_cast<float>(10 * seq + e) + 0.25f * static_cast<float>(i));
      charge.push_back(static_cast<std::int8_t>(i % 2 ? 1 : -1));
    }
    offsets.push_back(static_cast<std::uint32_t>(pt.size()));
    for (int k = 0; k < 4; ++k) cov.push_back(e + 0.5 * k);
    process.push_back(e % 2 ? "ttbar" : "");
  }
  b.set("event_id", {"event"}, id);
  b.set("object_offsets", {"event+1"}, offsets);
  b.set("pt", {"object"}, pt);
  b.set("charge", {"object"}, charge);
  b.set("covariance", {"event", "4"}, cov);
  b.set_text("process", process);
  return b;
}

inline wire::Frame batch_frame(const Batch& batch) {
  wire::Frame f;
  f.kind = wire::Kind::batch;
  f.stream = kStream;
  f.seq = batch.seq;
  f.schema = kSchema;
  f.count = batch.events;
  f.body = wire::encode(batch);
  return f;
}

inline wire::Frame hello_of_stream() {
  wire::Hello h;
  h.schema = "objects/1";
  h.schema_hash = kSchema;
  h.meta = {{"tokenizer", {{"hash", 7u}, {"vocabulary", 875u}}}};
  h.history = nlohmann::json::array({{{"stage", "bl-preprocess"}, {"version", "0.1.0"}, {"options", {{"in", "events.csv"}}}, {"seed", 1u}}});
  return wire::hello_frame(kStream, h);
}

inline std::string bytes_of(const wire::Frame& f) {
  std::string out(wire::kHeader, '\0');
  wire::write_header(f, reinterpret_cast<std::byte*>(out.data()));
  out.append(reinterpret_cast<const char*>(f.body.data()), f.body.size());
  out.resize(wire::kHeader + wire::padded(f.body.size()));
  return out;
}

inline wire::Frame with_body(wire::Frame f, const std::string& body) {
  f.body = Buffer(body.data(), body.size());
  return f;
}

struct Parts {
  std::string hello, end;
  std::vector<std::string> batches;
  std::string all() const {
    std::string out = hello;
    for (const auto& b : batches) out += b;
    return out + end;
  }
};

inline std::string end_of(const std::vector<wire::Frame>& frames) {
  wire::End end;
  for (const auto& f : frames) {
    ++end.batches;
    end.events += f.count;
    end.digest += wire::end_term(f.seq, hash64(f.body.data(), f.body.size()));
  }
  return bytes_of(wire::end_frame(kStream, end));
}

inline Parts small_stream() {
  std::vector<wire::Frame> frames{batch_frame(small_batch(0)), batch_frame(small_batch(1, 0)), batch_frame(small_batch(2, 5))};
  Parts p;
  p.hello = bytes_of(hello_of_stream());
  for (const auto& f : frames) p.batches.push_back(bytes_of(f));
  p.end = end_of(frames);
  return p;
}

// A header that is right in itself whatever its fields say.
inline std::string rehashed(std::string frame) {
  const auto h = hash64(frame.data(), 56);
  std::memcpy(frame.data() + 56, &h, sizeof h);
  return frame;
}

template <class T>
std::string changed(std::string frame, std::size_t offset, T value) {
  std::memcpy(frame.data() + offset, &value, sizeof value);
  return rehashed(std::move(frame));
}

// A stream whose one batch has this body; header, checksum and END are right.
inline std::string stream_with_body(const std::string& body, std::uint32_t events = 3) {
  auto f = with_body(batch_frame(small_batch(0)), body);
  f.count = events;
  return bytes_of(hello_of_stream()) + bytes_of(f) + end_of({f});
}

// msgpack by hand
inline std::string text(const std::string& s) { return std::string(1, static_cast<char>(0xa0 + s.size())) + s; }
inline std::string big(int bytes, std::uint64_t v) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(v >> (8 * i) & 0xff);
  return out;
}
inline std::string binary(const std::string& s) { return "\xc6" + big(4, s.size()) + s; }
inline std::string column(const std::string& name, const std::string& dtype, const std::vector<std::string>& dims, const std::string& data) {
  std::string out = "\x95" + text(name) + text(dtype) + static_cast<char>(0x90 + dims.size());
  for (const auto& d : dims) out += text(d);
  return out + std::string("\xc4\x00", 2) + binary(data);
}
inline std::string body_with(std::uint32_t events, const std::vector<std::string>& columns) {
  std::string out = "\x82" + text("events") + "\xce" + big(4, events) + text("columns") + static_cast<char>(0x90 + columns.size());
  for (const auto& c : columns) out += c;
  return out;
}
inline std::string u32s(const std::vector<std::uint32_t>& v) { return {reinterpret_cast<const char*>(v.data()), v.size() * 4}; }

// Bodies that mean harm: they promise more than is there, nest without end, or break the shape of a batch.
inline std::map<std::string, std::string> hostile_bodies() {
  std::map<std::string, std::string> out;
  out["array_of_4_billion"] = std::string("\xdd\xff\xff\xff\xff", 5);
  out["map_of_4_billion"] = std::string("\xdf\xff\xff\xff\xff", 5);
  out["text_of_4_gb"] = std::string("\xdb\xff\xff\xff\xff", 5);
  out["binary_of_4_gb"] = std::string("\xc6\xff\xff\xff\xff", 5);
  out["extension_of_4_gb"] = std::string("\xc9\xff\xff\xff\xff\x01", 6);
  out["columns_4_billion"] = "\x82" + text("events") + "\x01" + text("columns") + "\xdd\xff\xff\xff\xff";
  out["dims_4_billion"] = "\x82" + text("events") + "\x01" + text("columns") + "\x91\x95" + text("a") + text("f32") + "\xdd\xff\xff\xff\xff";
  out["deep_arrays"] = std::string(100000, '\x91');
  std::string maps;
  for (int i = 0; i < 50000; ++i) maps += "\x81\xa1x";
  out["deep_maps"] = maps;
  out["events_4_billion"] = body_with(0xffffffffu, {});
  out["events_4_billion_with_column"] = body_with(0xffffffffu, {column("a", "u8", {"event"}, "abc")});
  out["dim_beyond_64_bits"] = body_with(1, {column("a", "u8", {"event", "4294967296", "4294967297"}, "abc")});
  out["column_data_4_gb"] = "\x82" + text("events") + "\x01" + text("columns") + "\x91\x95" + text("a") + text("f32") + "\x91" + text("event") +
                            std::string("\xc4\x00", 2) + "\xc6\xff\xff\xff\xff" + "abcd";
  out["column_too_short"] = body_with(3, {column("a", "f32", {"event"}, u32s({1, 2}))});
  out["column_twice"] = body_with(1, {column("a", "u8", {"event"}, "x"), column("a", "u8", {"event"}, "y")});
  out["unknown_dtype"] = body_with(1, {column("a", "f16", {"event"}, "xx")});
  out["unknown_dim"] = body_with(1, {column("a", "u8", {"jet"}, "x")});
  out["offsets_fall"] = body_with(2, {column("o_offsets", "u32", {"event+1"}, u32s({0, 2, 1})), column("a", "u8", {"o"}, "x")});
  out["offsets_beyond"] = body_with(2, {column("o_offsets", "u32", {"event+1"}, u32s({0, 1, 4000000000u})), column("a", "u8", {"o"}, "x")});
  out["offsets_start_late"] = body_with(2, {column("o_offsets", "u32", {"event+1"}, u32s({1, 1, 1})), column("a", "u8", {"o"}, "x")});
  out["half_a_value"] = body_with(1, {column("a", "f64", {"event"}, "1234567")});
  out["no_events"] = "\x81" + text("columns") + "\x90";
  out["bytes_left_over"] = body_with(0, {}) + "\xc0";
  out["nil"] = "\xc0";
  out["empty"] = "";
  out["never_used_byte"] = "\xc1";
  return out;
}

struct Fault {
  std::string bytes;
  int exit;           // of a program that reads it
  std::string words;  // in its message
};

// One file of the corpus for each: name -> fault. "whole" is the stream without one.
inline std::map<std::string, Fault> corpus() {
  const auto p = small_stream();
  std::map<std::string, Fault> out;
  out["whole"] = {p.all(), 0, ""};
  out["empty_file"] = {"", 6, "empty"};
  out["no_stream"] = {"event_id,pt\n1,2.5\n", 3, "not a beamline stream"};
  out["wrong_magic"] = {rehashed("BLX1" + p.hello.substr(4, 52) + p.hello.substr(56)) + p.end, 3, ""};
  out["newer_version"] = {changed<std::uint8_t>(p.hello, 4, 2) + p.batches[0] + p.end, 3, "version 2"};
  out["unknown_kind"] = {p.hello + changed<std::uint8_t>(p.batches[0], 5, 9) + p.end, 3, ""};
  out["header_bit_flipped"] = {p.hello + p.batches[0].substr(0, 20) + static_cast<char>(p.batches[0][20] ^ 4) + p.batches[0].substr(21) + p.end, 3, ""};
  auto body = p.all();
  body[p.hello.size() + wire::kHeader + 40] ^= 1;
  out["body_bit_flipped"] = {body, 3, "checksum"};
  out["length_too_large"] = {p.hello + changed<std::uint64_t>(p.batches[0], 24, std::uint64_t{1} << 40) + p.end, 3, "limit"};
  out["length_beyond_file"] = {p.hello + changed<std::uint64_t>(p.batches[0], 24, 200000), 6, "cut short"};
  out["padding_not_zero"] = {[&] {
                               auto all = p.all();
                               all[all.size() - 1] = 1;
                               return all;
                             }(),
                             3, "padding"};
  out["cut_in_header"] = {(p.hello + p.batches[0]).substr(0, p.hello.size() + 30), 6, "cut short"};
  out["cut_in_body"] = {(p.hello + p.batches[0]).substr(0, p.hello.size() + 100), 6, "cut short"};
  out["no_end"] = {p.hello + p.batches[0] + p.batches[1] + p.batches[2], 6, "without END"};
  out["no_hello"] = {p.batches[0] + p.end, 3, "instead of HELLO"};
  out["second_hello"] = {p.hello + p.batches[0] + p.hello + p.end, 3, "second HELLO"};
  out["batch_missing"] = {p.hello + p.batches[0] + p.batches[2] + p.end, 3, "END counts 3"};
  out["batch_twice"] = {p.hello + p.batches[0] + p.batches[1] + p.batches[1] + p.batches[2] + p.end, 3, "END counts 3"};
  out["batch_replaced"] = {p.hello + p.batches[0] + p.batches[1] + bytes_of(batch_frame([] {
                             auto b = small_batch(2, 5);
                             b.at("pt");
                             b.find("pt")->edit<float>()[0] = 1e6f;
                             return b;
                           }())) +
                               p.end,
                           3, "digest"};
  out["aborted"] = {p.hello + p.batches[0] + bytes_of(wire::abort_frame(kStream, "the disk of the writer is full")), 6, "the disk of the writer is full"};
  out["bytes_after_end"] = {p.all() + "x", 3, "follow END"};
  out["ack_in_a_file"] = {p.hello + changed<std::uint8_t>(p.batches[1], 5, 16) + p.end, 3, "does not belong"};
  for (const auto& [name, b] : hostile_bodies()) out["body_" + name] = {stream_with_body(b.size() > 2000 ? b.substr(0, 2000) : b), 3, ""};
  out["hello_deep"] = {bytes_of(with_body(hello_of_stream(), std::string(2000, '\x91'))) + p.end, 3, ""};
  out["hello_array_of_4_billion"] = {bytes_of(with_body(hello_of_stream(), std::string("\xdd\xff\xff\xff\xff", 5))) + p.end, 3, ""};
  out["end_without_digest"] = {
      p.hello + bytes_of(with_body(wire::end_frame(kStream, {}), "\x82" + text("batches") + std::string(1, '\0') + text("events") + std::string(1, '\0'))), 3,
      ""};
  return out;
}

}  // namespace bl::test
