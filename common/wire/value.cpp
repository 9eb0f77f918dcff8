#include "wire/value.hpp"

#include <msgpack.hpp>

#include "base/error.hpp"

namespace bl::wire {
namespace {

using nlohmann::json;

void pack(msgpack::packer<msgpack::sbuffer>& p, const json& v) {
  switch (v.type()) {
    case json::value_t::null: p.pack_nil(); break;
    case json::value_t::boolean: v.get<bool>() ? p.pack_true() : p.pack_false(); break;
    case json::value_t::number_integer: p.pack_int64(v.get<std::int64_t>()); break;
    case json::value_t::number_unsigned: p.pack_uint64(v.get<std::uint64_t>()); break;
    case json::value_t::number_float: p.pack_double(v.get<double>()); break;
    case json::value_t::string: {
      const auto& s = v.get_ref<const std::string&>();
      p.pack_str(static_cast<std::uint32_t>(s.size())).pack_str_body(s.data(), static_cast<std::uint32_t>(s.size()));
      break;
    }
    case json::value_t::array:
      p.pack_array(static_cast<std::uint32_t>(v.size()));
      for (const auto& item : v) pack(p, item);
      break;
    case json::value_t::object:
      p.pack_map(static_cast<std::uint32_t>(v.size()));
      for (const auto& [key, item] : v.items()) {
        p.pack_str(static_cast<std::uint32_t>(key.size())).pack_str_body(key.data(), static_cast<std::uint32_t>(key.size()));
        pack(p, item);
      }
      break;
    default: throw std::logic_error("value of a kind that is not packed");
  }
}

// Builds the value from the parser's events. Containers grow as items arrive, never from a declared length.
class ValueVisitor : public msgpack::null_visitor {
 public:
  std::string problem;
  json root;

  bool visit_nil() { return put(nullptr); }
  bool visit_boolean(bool v) { return put(v); }
  bool visit_positive_integer(std::uint64_t v) { return put(v); }
  bool visit_negative_integer(std::int64_t v) { return put(v); }
  bool visit_float32(float v) { return put(static_cast<double>(v)); }
  bool visit_float64(double v) { return put(v); }
  bool visit_str(const char* v, std::uint32_t size) {
    if (in_key_) {
      key_.assign(v, size);
      return true;
    }
    return put(std::string(v, size));
  }
  bool visit_bin(const char*, std::uint32_t) { return refuse("binary data"); }
  bool visit_ext(const char*, std::uint32_t) { return refuse("an extension type"); }
  bool start_array(std::uint32_t) { return open(json::array()); }
  bool end_array() { return close(); }
  bool start_map(std::uint32_t) { return open(json::object()); }
  bool end_map() { return close(); }
  bool start_map_key() {
    in_key_ = true;
    return true;
  }
  bool end_map_key() {
    in_key_ = false;
    return true;
  }
  void parse_error(std::size_t, std::size_t) { problem = problem.empty() ? "not msgpack" : problem; }
  void insufficient_bytes(std::size_t, std::size_t) { problem = problem.empty() ? "cut short" : problem; }

 private:
  bool refuse(const char* what) {
    problem = std::string(what) + " where none belongs";
    return false;
  }
  bool put(json v) {
    if (in_key_) return refuse("a key that is not text");
    json* parent = stack_.empty() ? nullptr : stack_.back();
    if (!parent) root = std::move(v);
    else if (parent->is_array()) parent->push_back(std::move(v));
    else (*parent)[key_] = std::move(v);
    return true;
  }
  bool open(json container) {
    if (in_key_) return refuse("a key that is not text");
    if (stack_.size() >= kMaxDepth) return refuse("nesting too deep");
    json* parent = stack_.empty() ? nullptr : stack_.back();
    json* slot = &root;
    if (!parent) root = std::move(container);
    else if (parent->is_array()) {
      parent->push_back(std::move(container));
      slot = &parent->back();
    } else {
      slot = &((*parent)[key_] = std::move(container));
    }
    stack_.push_back(slot);
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }

  std::vector<json*> stack_;  // a container is filled before its parent grows again, so the pointers stay valid
  std::string key_;
  bool in_key_ = false;
};

}  // namespace

Buffer encode_value(const json& value) {
  msgpack::sbuffer out;
  msgpack::packer<msgpack::sbuffer> p(out);
  pack(p, value);
  return Buffer(out.data(), out.size());
}

json decode_value(const Buffer& body, std::string_view where) {
  if (body.size() > kMaxValue) fail(Exit::input, "{}: a header of {} bytes is above the limit of {}", where, body.size(), kMaxValue);
  ValueVisitor visitor;
  std::size_t offset = 0;
  const bool ok = msgpack::parse(reinterpret_cast<const char*>(body.data()), body.size(), offset, visitor);
  if (!ok || !visitor.problem.empty() || offset != body.size())
    fail(Exit::input, "{}: a header frame cannot be read: {}", where, visitor.problem.empty() ? "bytes left over" : visitor.problem);
  return std::move(visitor.root);
}

}  // namespace bl::wire
