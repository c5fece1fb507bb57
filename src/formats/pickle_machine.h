// The pickle machine: a stack, marks, a memo and the table of values. One
// object reads one pickle; pickle.h says what it promises.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "formats/pickle.h"
#include "formats/pickle_globals.h"

namespace autoglm {

class PickleMachine {
 public:
  PickleMachine(std::string_view bytes, const std::string& source);

  Pickle run();

 private:
  // Values that all uses share, as their opcodes are one byte each.
  enum Shared : PickleId {
    kNone,
    kTrue,
    kFalse,
    kFloat,
    kOpaque,
    kSharedCount
  };

  // The input. Errors carry the place of the opcode that is being run.
  [[noreturn]] void refuse(const std::string& why) const {
    fail(ErrorKind::kInput, fmt::format("{}: byte {}: {}", source_, at_, why));
  }
  std::string_view take(std::uint64_t count);
  std::uint64_t take_number(int bytes);
  std::string_view take_line();

  // Values and stack.
  PickleValue& value(PickleId id) { return out_.values[id]; }
  PickleId make(PickleValue value);
  void push(PickleId id) { stack_.push_back(id); }
  void push(PickleValue value) { push(make(std::move(value))); }
  void push_int(std::int64_t n) { push({PickleKind::kInt, n, {}, {}}); }
  void push_text(PickleKind kind, std::uint64_t size) {
    push({kind, 0, take(size), {}});
  }
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleId top() const;
  PickleId pop();
  std::vector<PickleId> pop_to_mark();

  // Opcodes.
  bool step(unsigned char opcode);  // false at STOP
  void push_long(std::uint64_t size);
  void push_tuple(std::size_t count);
  void push_global(std::string_view module, std::string_view name);
  void remember(std::uint64_t index);
  void recall(std::uint64_t index);
  void extend(PickleKind kind, const char* what, std::vector<PickleId> items);
  void persistent_id();
  void reduce();
  void build();
  void pop_or_unmark();

  const std::vector<PickleId>& tuple(PickleId id, const char* what);
  std::int64_t integer(PickleId id, const char* what);
  const PickleGlobal& global(PickleId id, const char* what);
  void rebuild_tensor(const std::vector<PickleId>& arguments, bool has_dtype);

  std::string_view bytes_;
  const std::string& source_;
  std::size_t next_ = 0;  // the next byte to read
  std::size_t at_ = 0;    // the opcode being run
  std::vector<PickleId> stack_;
  std::vector<std::size_t> marks_;
  std::vector<PickleId> memo_;
  Pickle out_;
};

}  // namespace autoglm
