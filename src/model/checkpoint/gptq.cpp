// The layout of GPTQ checkpoints (AutoGPTQ, GPTQModel): below a module
//   qweight int32 [in * bits / 32, out]      codes packed along `in`
//   qzeros  int32 [groups, out * bits / 32]  zero points packed along `out`
//   scales  [groups, out]
//   g_idx   int32 [in]                       the group of every input
// Older files store zero points less one; `checkpoint_format: gptq_v2` does
// not.
#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "model/checkpoint/stored_quantization.h"
#include "model/checkpoint/stored_tensors.h"

namespace autoglm {
namespace {

class Gptq : public StoredQuantization {
 public:
  explicit Gptq(bool less_one) : less_one_(less_one) {}

  std::optional<Weight> weight(const TensorFolder& folder,
                               const std::string& module, std::int64_t out,
                               std::int64_t in, bool) const override {
    const std::string codes = module + ".qweight";
    if (!folder.contains(codes)) return std::nullopt;
    QuantizedWeight w;
    w.out = out;
    w.in = in;
    w.bits = find_bits(folder, codes, in);
    const at::Tensor packed =
        read_checked(folder, codes, at::kInt, {in * w.bits / 32, out});
    const std::string scales = module + ".scales";
    if (!folder.contains(scales))
      fail(ErrorKind::kInput, fmt::format("tensor '{}' is missing", scales));
    const auto& shape = folder.entry(scales).shape;
    if (shape.size() != 2 || shape[0] < 1 || in % shape[0] != 0)
      wrong_tensor(
          folder, scales,
          fmt::format("[groups, {}], the groups dividing {} inputs", out, in));
    const std::int64_t groups = shape[0];
    w.group_size = in / groups;
    w.codes = packed.t().contiguous();
    w.scales = read_scales(folder, scales, {groups, out}).t().contiguous();
    w.zeros = zeros(folder, module + ".qzeros", w);
    check_order(folder, module + ".g_idx", w);
    return w;
  }

  std::vector<std::string> parts() const override {
    return {".qweight", ".qzeros", ".scales", ".g_idx"};
  }

 private:
  // Modules of one checkpoint may differ; their shape says it.
  static int find_bits(const TensorFolder& folder, const std::string& name,
                       std::int64_t in) {
    const auto& shape = folder.entry(name).shape;
    for (const int bits : {2, 3, 4, 8})
      if (shape.size() == 2 && in * bits % 32 == 0 &&
          shape[0] * 32 == in * bits)
        return bits;
    wrong_tensor(folder, name,
                 fmt::format("codes of 2, 3, 4 or 8 bits for {} inputs", in));
  }

  // Undefined where all are the middle: symmetric.
  at::Tensor zeros(const TensorFolder& folder, const std::string& name,
                   const QuantizedWeight& w) const {
    const at::Tensor packed = read_checked(
        folder, name, at::kInt, {w.groups(), (w.out * w.bits + 31) / 32});
    // Packed along `out`, so the transposed matrix packs along its rows.
    at::Tensor values =
        unpack_columns(packed.t().contiguous(), w.out, w.bits).to(at::kInt);
    if (less_one_) values = values + 1;
    if ((values == (1 << (w.bits - 1))).all().item<bool>()) return {};
    if ((values >= (1 << w.bits)).any().item<bool>())
      fail(ErrorKind::kInput,
           fmt::format("{}: tensor '{}' has a zero point of {}, beyond {} bits",
                       folder.file_of(name).string(), name, 1 << w.bits,
                       w.bits));
    return values.to(at::kByte).contiguous();
  }

  // Groups of neighbours are all that a packed weight here can say.
  static void check_order(const TensorFolder& folder, const std::string& name,
                          const QuantizedWeight& w) {
    if (!folder.contains(name)) return;
    const at::Tensor order = read_checked(folder, name, at::kInt, {w.in});
    const at::Tensor plain =
        at::floor_divide(at::arange(w.in, at::kInt), w.group_size);
    if (!order.equal(plain.to(at::kInt)))
      fail(ErrorKind::kInput,
           fmt::format("{}: tensor '{}' puts inputs into groups out of order "
                       "(desc_act); only groups of neighbours are supported",
                       folder.file_of(name).string(), name));
  }

  bool less_one_;
};

}  // namespace

std::unique_ptr<StoredQuantization> read_gptq(const Json& quantization,
                                              const std::string& where) {
  const std::string format =
      quantization.contains("checkpoint_format")
          ? json_string(quantization, "checkpoint_format", where)
          : "gptq";
  if (format != "gptq" && format != "gptq_v2")
    fail(ErrorKind::kInput,
         fmt::format("{}: checkpoint_format {} is not supported; gptq and "
                     "gptq_v2 are",
                     where, format));
  return std::make_unique<Gptq>(format == "gptq");
}

}  // namespace autoglm
