#include "model/recorded_step.h"

#include <limits>

#include "autoglm/core/error.h"

namespace autoglm {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

at::TensorOptions on(at::Device device, at::ScalarType dtype) {
  return at::TensorOptions(dtype).device(device);
}

// A buffer of `capacity` tokens that starts with those of `cached`: the buffer
// that holds them already, where it is large enough. Unfilled places are 0,
// since even what is not seen is multiplied by 0.
at::Tensor whole_buffer(const at::Tensor& cached, std::int64_t past,
                        std::int64_t capacity) {
  auto shape = cached.sizes().vec();
  shape[2] = capacity;
  at::Tensor out;
  if (cached.stride(1) / cached.stride(2) >= capacity) {
    out = cached.as_strided(shape, cached.strides(), cached.storage_offset());
  } else {
    out = at::empty(shape, cached.options());
    out.narrow(2, 0, past).copy_(cached.narrow(2, 0, past));
  }
  out.narrow(2, past, capacity - past).zero_();
  return out;
}

}  // namespace

RecordedStep::RecordedStep(const Model& model, KvCache cache,
                           std::int64_t batch, at::ScalarType dtype)
    : model_(model),
      cache_(std::move(cache)),
      dtype_(dtype),
      device_(device(model.embedding)),
      past_(cache_.length()),
      left_(cache_.expected - past_),
      ids_(at::zeros({batch, 1}, on(device_, at::kLong))) {
  place(cache_);
  make_buffers();
  rewind();
  work_ = device_kernels_for(device_)->capture(device_, [this] { run(); });
  // What the one run has left in the cache, the first step writes over.
  rewind();
}

// Positions of the next token and what they grow by, as forward() counts them.
void RecordedStep::place(const KvCache& cache) {
  KvCache counted = cache;  // counting adds to it
  const AttentionContext next =
      attention_context(model_, ids_, {}, {}, &counted);
  const std::int64_t batch = ids_.size(0);
  const auto both = [&](const at::Tensor& first, const at::Tensor& second) {
    return at::stack({first.expand({batch, 1}), second.expand({batch, 1})});
  };
  const at::Tensor zero = at::zeros_like(ids_), one = at::ones_like(ids_);
  first_ = both(next.positions,
                next.block_positions.defined() ? next.block_positions : zero);
  advance_ = both(one, zero);
  if (counted.blank_start.defined()) {
    // The filling of a blank keeps its place and counts in the second one.
    const at::Tensor filling = (counted.blank_start <= past_).unsqueeze(1);
    advance_ =
        both(at::where(filling, zero, one), at::where(filling, one, zero));
  }
  positions_ = first_.clone();
}

void RecordedStep::make_buffers() {
  const std::int64_t capacity = cache_.expected;
  if (past_ == 0) {
    // The shapes of keys and values, as a first step makes them.
    KvCache shapes;
    ForwardOptions options;
    options.dtype = dtype_;
    options.cache = &shapes;
    forward(model_, ids_, options);
    cache_.keys = shapes.keys;
    cache_.values = shapes.values;
    cache_.index_keys = shapes.index_keys;
  }
  for (auto* part : {&cache_.keys, &cache_.values})
    for (at::Tensor& cached : *part)
      if (cached.defined()) cached = whole_buffer(cached, past_, capacity);
  cache_.slot = at::zeros({1}, on(device_, at::kLong));
  cache_.filled = at::zeros({ids_.size(0)}, on(device_, at::kInt));
  columns_ = at::arange(capacity, on(device_, at::kLong));
  unpadded_ = at::zeros({1, 1, 1, capacity}, on(device_, at::kFloat));
  if (!cache_.mask.defined()) return;
  const at::Tensor padding =
      at::constant_pad_nd(cache_.mask.logical_not(), {0, capacity - past_}, 0);
  unpadded_ = unpadded_.masked_fill(padding.view({-1, 1, 1, capacity}), kNever);
}

void RecordedStep::rewind() {
  positions_.copy_(first_);
  cache_.slot.fill_(past_);
  cache_.filled.fill_(past_ + 1);
}

void RecordedStep::run() {
  AttentionContext context;
  context.cache = &cache_;
  context.positions = positions_.select(0, 0);
  if (model_.architecture.two_dimensional())
    context.block_positions = positions_.select(0, 1);
  context.bias = unpadded_.masked_fill(columns_ > cache_.slot, kNever);
  turn_positions(model_.architecture, context);
  ForwardOptions options;
  options.dtype = dtype_;
  logits_ = forward_in(model_, ids_, context, options).select(1, 0);
  positions_.add_(advance_);
  cache_.slot.add_(1);
  cache_.filled.add_(1);
}

at::Tensor RecordedStep::step(const at::Tensor& ids) {
  AUTOGLM_ENSURE(left_ > 0);
  --left_;
  ids_.copy_(ids);
  work_->replay();
  return logits_;
}

}  // namespace autoglm
