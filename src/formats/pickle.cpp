// The opcodes.
#include "formats/pickle.h"

#include "formats/pickle_machine.h"

namespace autoglm {

bool PickleMachine::step(unsigned char opcode) {
  switch (opcode) {
    case 0x80: {  // PROTO
      const std::uint64_t protocol = take_number(1);
      if (protocol < 2 || protocol > 5)
        refuse(fmt::format("pickle protocol {} is not supported", protocol));
      break;
    }
    case 0x95:  // FRAME: a hint for buffering
      take_number(8);
      break;
    case '.':  // STOP
      out_.top = pop();
      return false;

    case '(':  // MARK
      marks_.push_back(stack_.size());
      break;
    case '0':  // POP
      pop_or_unmark();
      break;
    case '1':  // POP_MARK
      pop_to_mark();
      break;
    case '2':  // DUP
      push(PickleId{top()});
      break;

    case 'N':  // NONE
      push(kNone);
      break;
    case 0x88:  // NEWTRUE
      push(kTrue);
      break;
    case 0x89:  // NEWFALSE
      push(kFalse);
      break;
    case 'K':  // BININT1
      push_int(static_cast<std::int64_t>(take_number(1)));
      break;
    case 'M':  // BININT2
      push_int(static_cast<std::int64_t>(take_number(2)));
      break;
    case 'J':  // BININT
      push_int(static_cast<std::int32_t>(take_number(4)));
      break;
    case 0x8a:  // LONG1
      push_long(take_number(1));
      break;
    case 0x8b:  // LONG4
      push_long(take_number(4));
      break;
    case 'G':  // BINFLOAT
      take_number(8);
      push(kFloat);
      break;

    case 0x8c:  // SHORT_BINUNICODE
    case 'U':   // SHORT_BINSTRING, the text of Python 2
      push_text(PickleKind::kText, take_number(1));
      break;
    case 'X':  // BINUNICODE
    case 'T':  // BINSTRING
      push_text(PickleKind::kText, take_number(4));
      break;
    case 0x8d:  // BINUNICODE8
      push_text(PickleKind::kText, take_number(8));
      break;
    case 'C':  // SHORT_BINBYTES
      push_text(PickleKind::kBytes, take_number(1));
      break;
    case 'B':  // BINBYTES
      push_text(PickleKind::kBytes, take_number(4));
      break;
    case 0x8e:  // BINBYTES8
      push_text(PickleKind::kBytes, take_number(8));
      break;

    case ')':  // EMPTY_TUPLE
      push_tuple(0);
      break;
    case 0x85:  // TUPLE1
    case 0x86:  // TUPLE2
    case 0x87:  // TUPLE3
      push_tuple(opcode - 0x84u);
      break;
    case 't':  // TUPLE
      push({PickleKind::kTuple, 0, {}, pop_to_mark()});
      break;
    case ']':  // EMPTY_LIST
      push({PickleKind::kList, 0, {}, {}});
      break;
    case '}':  // EMPTY_DICT
      push({PickleKind::kDict, 0, {}, {}});
      break;
    case 0x8f:  // EMPTY_SET
      push(kOpaque);
      break;
    case 'a':  // APPEND
      extend(PickleKind::kList, "list", {pop()});
      break;
    case 'e':  // APPENDS
      extend(PickleKind::kList, "list", pop_to_mark());
      break;
    case 's': {  // SETITEM
      const PickleId item = pop();
      const PickleId key = pop();
      extend(PickleKind::kDict, "mapping", {key, item});
      break;
    }
    case 'u':  // SETITEMS
      extend(PickleKind::kDict, "mapping", pop_to_mark());
      break;
    case 0x90:  // ADDITEMS
      extend(PickleKind::kOpaque, "set", pop_to_mark());
      break;

    case 'q':  // BINPUT
      remember(take_number(1));
      break;
    case 'r':  // LONG_BINPUT
      remember(take_number(4));
      break;
    case 0x94:  // MEMOIZE
      remember(memo_.size());
      break;
    case 'h':  // BINGET
      recall(take_number(1));
      break;
    case 'j':  // LONG_BINGET
      recall(take_number(4));
      break;

    case 'c': {  // GLOBAL
      const std::string_view module = take_line();
      push_global(module, take_line());
      break;
    }
    case 0x93: {  // STACK_GLOBAL
      const PickleId name = pop();
      const PickleId module = pop();
      if (value(name).kind != PickleKind::kText ||
          value(module).kind != PickleKind::kText)
        refuse("the name of a global is not text");
      push_global(value(module).text, value(name).text);
      break;
    }
    case 'Q':  // BINPERSID
      persistent_id();
      break;
    case 'R':  // REDUCE
      reduce();
      break;
    case 'b':  // BUILD
      build();
      break;
    default:
      refuse(fmt::format("opcode {} is refused: weights do not need it",
                         opcode_name(opcode)));
  }
  return true;
}

Pickle PickleMachine::run() {
  do {
    at_ = next_;
  } while (step(static_cast<unsigned char>(take_number(1))));
  out_.length = next_;
  return std::move(out_);
}

Pickle read_pickle(std::string_view bytes, const std::string& source) {
  return PickleMachine(bytes, source).run();
}

}  // namespace autoglm
