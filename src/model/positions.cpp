#include "autoglm/model/positions.h"

#include <algorithm>
#include <limits>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

at::TensorOptions on(const at::Tensor& like, at::ScalarType dtype) {
  return at::TensorOptions(dtype).device(like.device());
}

// Index of the first hit of every row, or T where there is none. [B, T] bool.
at::Tensor first_index(const at::Tensor& hits) {
  const at::Tensor any = hits.any(1);
  const at::Tensor first = hits.to(at::kInt).argmax(1);
  return at::where(any, first, at::full_like(first, hits.size(1)));
}

at::Tensor is_one_of(const at::Tensor& ids,
                     const std::vector<std::int64_t>& wanted) {
  at::Tensor hits = at::zeros_like(ids, at::kBool);
  for (const std::int64_t id : wanted) hits = hits.logical_or(ids == id);
  return hits;
}

// The start of a row that has no start token: later than any token, so that
// nothing is a filling, however far the text goes on.
constexpr std::int64_t kNoStart = std::numeric_limits<std::int64_t>::max() / 2;

// Where the start token and the blank of every prompt are.
void find_blanks(const BlankIds& blank, const at::Tensor& ids, KvCache& state) {
  const std::int64_t tokens = ids.size(1);
  const at::Tensor start = first_index(is_one_of(ids, {blank.start}));
  state.blank_start = start.masked_fill(start == tokens, kNoStart);
  at::Tensor at = at::full_like(start, tokens);
  for (const auto& group : blank.masks)
    at = at::where(at == tokens, first_index(is_one_of(ids, group)), at);
  // Without a blank the text goes on where the prompt ends.
  state.blank_at = at::minimum(at, at::clamp_min(state.blank_start - 1, 0));
}

// Columns of padding at the left of every row, [B].
at::Tensor left_padding(const at::Tensor& real) { return first_index(real); }

// Two-dimensional positions: the prompt counts up, the blank's filling keeps
// the blank's place and counts in the second dimension.
void place_in_blanks(const Architecture& a, const at::Tensor& ids,
                     const at::Tensor& real, std::int64_t past, KvCache& state,
                     AttentionContext& context) {
  const std::int64_t tokens = ids.size(1);
  if (past == 0) {
    find_blanks(a.blank, ids, state);
    // The published code of ChatGLM counts from the first real token, that of
    // 2021 from the left edge.
    if (real.defined() && a.rotary == Rotary::kTwoDimensional)
      state.blank_at = state.blank_at - left_padding(real);
  }
  const at::Tensor index =
      at::arange(past, past + tokens, on(ids, at::kLong)).unsqueeze(0);
  // The places of a prompt that was given some cannot be derived later.
  AUTOGLM_ENSURE(state.blank_start.defined());
  const at::Tensor start = state.blank_start.unsqueeze(1);
  const at::Tensor filling = index >= start;
  at::Tensor place = index.expand({ids.size(0), tokens});
  if (real.defined() && a.rotary == Rotary::kTwoDimensional)
    place = at::clamp_min(place - left_padding(real).unsqueeze(1), 0);
  context.positions = at::where(filling, state.blank_at.unsqueeze(1), place);
  context.block_positions =
      at::where(filling, index - start + 1, at::zeros_like(place));
  if (past == 0)
    state.context = (index < start).logical_and(start < kNoStart);
  else if (state.context.defined())
    state.context = at::cat(
        {state.context, at::zeros({ids.size(0), tokens}, on(ids, at::kBool))},
        1);
}

// The positions that were given, in one or two dimensions.
void take_positions(const Architecture& a, const at::Tensor& given,
                    KvCache& state, AttentionContext& context) {
  if (!a.two_dimensional()) {
    context.positions = given.to(at::kLong);
    return;
  }
  const at::Tensor positions = given.to(at::kLong);
  if (positions.dim() == 2) {
    context.positions = positions;
    context.block_positions = at::zeros_like(positions);
    return;
  }
  context.positions = positions.select(1, 0);
  context.block_positions = positions.select(1, 1);
  // Position 0 of the second dimension is what a prompt has; a row where all
  // have it is plain text.
  const at::Tensor outside = context.block_positions == 0;
  const at::Tensor prompt =
      outside.logical_and(outside.logical_not().any(1, /*keepdim=*/true));
  state.context =
      state.context.defined() ? at::cat({state.context, prompt}, 1) : prompt;
}

// Angles [B, T, n] of `positions` for n frequencies over `size` dims.
at::Tensor angles(const Architecture& a, const at::Tensor& positions,
                  std::int64_t size) {
  const at::Tensor exponent =
      at::arange(size / 2, on(positions, at::kFloat)) *
      (-2.0 / static_cast<double>(std::max<std::int64_t>(1, size)));
  at::Tensor frequency = at::pow(a.rotary_base, exponent);
  // The published code of ChatGLM-6B stores them in half precision.
  if (a.rotary == Rotary::kTwoDimensional)
    frequency = frequency.to(at::kHalf).to(at::kFloat);
  return positions.to(at::kFloat).unsqueeze(-1) * frequency;
}

// Learned positions end with their table.
void check_positions(const Architecture& a, const AttentionContext& context) {
  if (a.position_rows == 0 || context.positions.numel() == 0) return;
  for (const at::Tensor& positions :
       {context.positions, context.block_positions}) {
    if (!positions.defined()) continue;
    const auto [least, most] = positions.aminmax();
    for (const std::int64_t p :
         {least.item<std::int64_t>(), most.item<std::int64_t>()})
      if (p < 0 || p >= a.position_rows)
        fail(ErrorKind::kInput,
             fmt::format("position {} is beyond the {} positions of this "
                         "model; use shorter texts",
                         p, a.position_rows));
  }
}

void make_mask(const at::Tensor& ids, const at::Tensor& real,
               const at::Tensor& prompt, std::int64_t past,
               AttentionContext& context) {
  const std::int64_t tokens = ids.size(1);
  const bool prefix =
      tokens > 1 && prompt.defined() && prompt.any().item<bool>();
  if (real.defined() || prefix || (past > 0 && tokens > 1)) {
    const at::Tensor seen =
        real.defined() ? real
                       : at::ones({1, past + tokens}, on(ids, at::kBool));
    context.bias = additive_mask(seen, prefix ? prompt : at::Tensor(), tokens);
  }
}

}  // namespace

void turn_positions(const Architecture& a, AttentionContext& context) {
  if (a.rotary == Rotary::kNone) return;
  at::Tensor angle;
  if (a.rotary == Rotary::kTwoDimensional)
    angle = at::cat({angles(a, context.positions, a.rotary_size / 2),
                     angles(a, context.block_positions, a.rotary_size / 2)},
                    -1);
  else
    angle = angles(a, context.positions, a.rotary_size);
  context.cosine = angle.cos();
  context.sine = angle.sin();
}

at::Tensor additive_mask(const at::Tensor& real, const at::Tensor& context,
                         std::int64_t tokens) {
  const std::int64_t all = real.size(1);
  const at::Tensor row =
      at::arange(all - tokens, all, on(real, at::kLong)).unsqueeze(1);
  const at::Tensor column = at::arange(all, on(real, at::kLong)).unsqueeze(0);
  at::Tensor seen = (column <= row).unsqueeze(0);
  if (context.defined()) seen = seen.logical_or(context.unsqueeze(1));
  const at::Tensor allowed = seen.logical_and(real.unsqueeze(1))
                                 .logical_or((column == row).unsqueeze(0));
  return at::zeros(allowed.sizes(), on(real, at::kFloat))
      .masked_fill(allowed.logical_not(),
                   -std::numeric_limits<float>::infinity())
      .unsqueeze(1);
}

AttentionContext attention_context(const Model& model, const at::Tensor& ids,
                                   const at::Tensor& mask,
                                   const at::Tensor& given_positions,
                                   KvCache* cache) {
  const Architecture& a = model.architecture;
  const std::int64_t batch = ids.size(0), tokens = ids.size(1);
  const std::int64_t past = cache != nullptr ? cache->length() : 0;
  AttentionContext context;
  context.cache = cache;
  KvCache scratch;  // what a cache would remember, where there is none
  KvCache& state = cache != nullptr ? *cache : scratch;
  if (cache != nullptr && cache->keys.empty()) {
    cache->keys.resize(model.blocks.size());
    cache->values.resize(model.blocks.size());
    cache->index_keys.resize(model.blocks.size());
  }
  const bool pairs = mask.defined() && mask.dim() == 4;
  AUTOGLM_ENSURE(!pairs || cache == nullptr);
  at::Tensor real =
      mask.defined() && !pairs ? mask.to(at::kBool) : at::Tensor();
  if (cache != nullptr && (real.defined() || cache->mask.defined())) {
    const auto ones = [&](std::int64_t n) {
      return at::ones({batch, n}, on(ids, at::kBool));
    };
    real = cache->mask =
        at::cat({cache->mask.defined() ? cache->mask : ones(past),
                 real.defined() ? real : ones(tokens)},
                1);
  }

  if (given_positions.defined()) {
    take_positions(a, given_positions, state, context);
  } else if (a.two_dimensional() && a.blank.known()) {
    place_in_blanks(a, ids, real, past, state, context);
  } else {
    context.positions =
        real.defined()
            ? at::clamp_min(real.to(at::kLong).cumsum(1) - 1, 0)
                  .narrow(1, real.size(1) - tokens, tokens)
            : at::arange(past, past + tokens, on(ids, at::kLong)).unsqueeze(0);
    if (a.two_dimensional())
      context.block_positions = at::zeros_like(context.positions);
  }
  check_positions(a, context);
  turn_positions(a, context);
  // Finite, as the published code has it: a row that sees nothing is a pad.
  if (pairs)
    context.bias = (mask.to(at::kFloat) - 1).mul(65504).to(ids.device());
  else
    make_mask(ids, real, state.context, past, context);
  return context;
}

at::Tensor rotate(const at::Tensor& x, const AttentionContext& context,
                  Rotary rotary) {
  const std::int64_t pairs = x.size(-1) / 2;
  if (pairs == 0 || rotary == Rotary::kNone) return x;
  const at::Tensor wide = x.to(at::kFloat);
  at::Tensor cosine = context.cosine.unsqueeze(1);  // over the heads
  at::Tensor sine = context.sine.unsqueeze(1);
  at::Tensor split;  // the two partners of every pair along `side`
  std::int64_t side = -2;
  if (rotary == Rotary::kInterleaved) {
    split = wide.unflatten(-1, {pairs, 2});
    side = -1;
  } else if (rotary == Rotary::kHalf) {
    split = wide.unflatten(-1, {2, pairs});
  } else {
    split = wide.unflatten(-1, {2, 2, pairs / 2});
    cosine = cosine.unflatten(-1, {2, pairs / 2});
    sine = sine.unflatten(-1, {2, pairs / 2});
  }
  const at::Tensor first = split.select(side, 0);
  const at::Tensor second = split.select(side, 1);
  return at::stack(
             {first * cosine - second * sine, second * cosine + first * sine},
             side)
      .reshape(x.sizes())
      .to(x.scalar_type());
}

}  // namespace autoglm
