// Input, stack, memo and containers.
#include "formats/pickle_machine.h"

#include "formats/printable.h"

namespace autoglm {
namespace {

// About 20 a tensor, so this is 200,000 tensors in one file; a hostile one gets
// half a gigabyte and no more.
constexpr std::size_t kMaxValues = 4'000'000;
constexpr PickleId kNoValue = 0xffffffff;

}  // namespace

PickleMachine::PickleMachine(std::string_view bytes, const std::string& source)
    : bytes_(bytes), source_(source) {
  out_.values.resize(kSharedCount);
  out_.values[kTrue] = {PickleKind::kBool, 1, {}, {}};
  out_.values[kFalse].kind = PickleKind::kBool;
  out_.values[kFloat].kind = PickleKind::kFloat;
  out_.values[kOpaque].kind = PickleKind::kOpaque;
}

std::string_view PickleMachine::take(std::uint64_t count) {
  if (count > bytes_.size() - next_) refuse("the pickle is cut short");
  const std::string_view out = bytes_.substr(next_, count);
  next_ += count;
  return out;
}

std::uint64_t PickleMachine::take_number(int bytes) {
  const std::string_view raw = take(static_cast<std::uint64_t>(bytes));
  std::uint64_t out = 0;
  for (int i = bytes - 1; i >= 0; --i)
    out = out << 8 | static_cast<unsigned char>(raw[static_cast<size_t>(i)]);
  return out;
}

std::string_view PickleMachine::take_line() {
  const std::size_t end = bytes_.find('\n', next_);
  if (end == std::string_view::npos) refuse("the pickle is cut short");
  const std::string_view out = bytes_.substr(next_, end - next_);
  next_ = end + 1;
  return out;
}

PickleId PickleMachine::make(PickleValue value) {
  if (out_.values.size() >= kMaxValues)
    refuse(fmt::format("more than {} values", kMaxValues));
  out_.values.push_back(std::move(value));
  return static_cast<PickleId>(out_.values.size() - 1);
}

PickleId PickleMachine::top() const {
  if (stack_.size() <= floor()) refuse("the stack is empty");
  return stack_.back();
}

PickleId PickleMachine::pop() {
  const PickleId out = top();
  stack_.pop_back();
  return out;
}

std::vector<PickleId> PickleMachine::pop_to_mark() {
  if (marks_.empty()) refuse("there is no mark on the stack");
  const auto from = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<PickleId> out(from, stack_.end());
  stack_.erase(from, stack_.end());
  marks_.pop_back();
  return out;
}

// Numbers of more than 64 bits occur once, as the magic of the old format.
void PickleMachine::push_long(std::uint64_t size) {
  const std::string_view raw = take(size);
  if (size > 8) return push({PickleKind::kLong, 0, raw, {}});
  std::uint64_t number = 0;
  const bool negative = size > 0 && (raw.back() & 0x80) != 0;
  if (negative) number = ~std::uint64_t{0};
  for (std::size_t i = size; i-- > 0;)
    number = number << 8 | static_cast<unsigned char>(raw[i]);
  push_int(static_cast<std::int64_t>(number));
}

void PickleMachine::push_tuple(std::size_t count) {
  std::vector<PickleId> items(count);
  for (std::size_t i = count; i-- > 0;) items[i] = pop();
  push({PickleKind::kTuple, 0, {}, std::move(items)});
}

void PickleMachine::push_global(std::string_view module,
                                std::string_view name) {
  const std::optional<std::size_t> known = find_global(module, name);
  if (!known)
    refuse(
        fmt::format("the global {}.{} is refused: a file of weights may "
                    "name tensors and containers only; nothing was run",
                    printable(module), printable(name)));
  push({PickleKind::kGlobal, static_cast<std::int64_t>(*known), {}, {}});
}

// A pickler counts the values it remembers, each of at least one byte; so an
// index beyond the length is a lie, and the table stays as small as the file.
void PickleMachine::remember(std::uint64_t index) {
  const PickleId id = top();
  if (index > bytes_.size())
    refuse(fmt::format("memo index {} is impossible", index));
  if (index >= memo_.size()) memo_.resize(index + 1, kNoValue);
  memo_[index] = id;
}

void PickleMachine::recall(std::uint64_t index) {
  if (index >= memo_.size() || memo_[index] == kNoValue)
    refuse(fmt::format("memo index {} was never set", index));
  push(memo_[index]);
}

void PickleMachine::extend(PickleKind kind, const char* what,
                           std::vector<PickleId> items) {
  PickleValue& target = value(top());
  // Sets and the like keep no items.
  if (target.kind == PickleKind::kOpaque && kind == PickleKind::kOpaque) return;
  if (target.kind != kind)
    refuse(fmt::format("items are added to what is not a {}", what));
  if (kind == PickleKind::kDict && items.size() % 2 != 0)
    refuse("a key has no value");
  target.items.insert(target.items.end(), items.begin(), items.end());
}

void PickleMachine::pop_or_unmark() {
  if (stack_.size() > floor())
    stack_.pop_back();
  else if (!marks_.empty())
    marks_.pop_back();
  else
    refuse("the stack is empty");
}

}  // namespace autoglm
