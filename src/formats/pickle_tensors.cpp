// What becomes of the known globals: storages, tensors, parameters.
#include "formats/pickle_machine.h"

namespace autoglm {

const std::vector<PickleId>& PickleMachine::tuple(PickleId id,
                                                  const char* what) {
  if (value(id).kind != PickleKind::kTuple)
    refuse(fmt::format("{} is not a tuple", what));
  return value(id).items;
}

std::int64_t PickleMachine::integer(PickleId id, const char* what) {
  if (value(id).kind != PickleKind::kInt)
    refuse(fmt::format("{} is not an integer of 64 bits", what));
  return value(id).number;
}

const PickleGlobal& PickleMachine::global(PickleId id, const char* what) {
  if (value(id).kind != PickleKind::kGlobal)
    refuse(fmt::format("{} is not a known global", what));
  return known_global(static_cast<std::size_t>(value(id).number));
}

// ("storage", type, key, location, count) and, in the old format, a sixth item
// for a view of another storage, None in every file seen.
void PickleMachine::persistent_id() {
  const std::vector<PickleId>& id = tuple(pop(), "a persistent id");
  if (id.size() < 5 || id.size() > 6 ||
      value(id[0]).kind != PickleKind::kText || value(id[0]).text != "storage")
    refuse("a persistent id is not that of a storage");
  const PickleGlobal& type = global(id[1], "the type of a storage");
  const bool untyped = type.kind == GlobalKind::kUntypedStorage;
  if (type.kind != GlobalKind::kStorageType && !untyped)
    refuse(fmt::format("{}.{} is not the type of a storage", type.module,
                       type.name));
  if (value(id[2]).kind != PickleKind::kText)
    refuse("the key of a storage is not text");
  if (id.size() == 6 && value(id[5]).kind != PickleKind::kNone)
    refuse("a storage that is a view of another one is not supported");
  const PickledStorage storage = {value(id[2]).text, type.dtype, untyped,
                                  integer(id[4], "the size of a storage")};
  out_.storages.push_back(storage);
  push({PickleKind::kStorage,
        static_cast<std::int64_t>(out_.storages.size() - 1),
        {},
        {}});
}

void PickleMachine::rebuild_tensor(const std::vector<PickleId>& arguments,
                                   bool has_dtype) {
  if (arguments.size() < (has_dtype ? 7u : 4u))
    refuse("a tensor has too few arguments");
  if (value(arguments[0]).kind != PickleKind::kStorage)
    refuse("the storage of a tensor is not a storage");
  const auto index = static_cast<std::size_t>(value(arguments[0]).number);
  const PickledStorage& storage = out_.storages[index];
  PickledTensor tensor = {
      index, storage.dtype,
      integer(arguments[1], "the storage offset of a tensor"), arguments[2],
      arguments[3]};
  tuple(tensor.size, "the size of a tensor");
  tuple(tensor.strides, "the stride of a tensor");
  if (has_dtype) {
    const PickleGlobal& dtype = global(arguments[6], "the dtype of a tensor");
    if (dtype.kind != GlobalKind::kDtype)
      refuse(fmt::format("{}.{} is not a dtype", dtype.module, dtype.name));
    tensor.dtype = dtype.dtype;
  }
  if (has_dtype ? !storage.untyped && tensor.dtype != storage.dtype
                : storage.untyped)
    refuse("the dtype of a tensor is not that of its storage");
  out_.tensors.push_back(tensor);
  push({PickleKind::kTensor,
        static_cast<std::int64_t>(out_.tensors.size() - 1),
        {},
        {}});
}

// What calling the global would have made, without calling anything.
void PickleMachine::reduce() {
  const PickleId argument_id = pop();
  const PickleGlobal& called = global(pop(), "what REDUCE calls");
  const std::vector<PickleId>& arguments =
      tuple(argument_id, "the argument list of REDUCE");
  switch (called.kind) {
    case GlobalKind::kOrderedDict:
      if (!arguments.empty())
        refuse("an OrderedDict made from arguments is not supported");
      return push({PickleKind::kDict, 0, {}, {}});
    case GlobalKind::kSize:
      if (arguments.size() != 1) refuse("torch.Size needs one argument");
      tuple(arguments[0], "the argument of torch.Size");
      return push(PickleId{arguments[0]});
    case GlobalKind::kRebuildTensor:
      return rebuild_tensor(arguments, false);
    case GlobalKind::kRebuildTensorV3:
      return rebuild_tensor(arguments, true);
    case GlobalKind::kRebuildParameter:
      if (arguments.empty() || value(arguments[0]).kind != PickleKind::kTensor)
        refuse("a parameter is not made from a tensor");
      return push(PickleId{arguments[0]});
    case GlobalKind::kInert:
      return push(kOpaque);
    case GlobalKind::kStorageType:
    case GlobalKind::kUntypedStorage:
    case GlobalKind::kDtype:
      refuse(fmt::format("{}.{} is called; it is only a name here",
                         called.module, called.name));
  }
}

// Attributes of a state dict (`_metadata`) and the contents of numpy arrays.
void PickleMachine::build() {
  pop();
  const PickleKind kind = value(top()).kind;
  if (kind != PickleKind::kDict && kind != PickleKind::kOpaque)
    refuse("BUILD gives attributes to what is neither a mapping nor inert");
}

}  // namespace autoglm
