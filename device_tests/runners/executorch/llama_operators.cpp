// The `llama::` operators of a bundle's program. ExecuTorch's libraries without torch lack them, so
// the runner brings its own, written from their schemas; tests hold them against the wheel's.
//
// Layouts: queries [1, T, H, D]; keys and values [1, S, K, D], all S slots of the cache; a mask
// [T, S] float32 to add, or none, and then a query sees all positions up to its own.
#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>
#include <executorch/runtime/kernel/kernel_includes.h>
#include <executorch/runtime/kernel/thread_parallel_interface.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "rows.h"

namespace {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::runtime::Error;
using executorch::runtime::KernelRuntimeContext;

constexpr float kHidden = -std::numeric_limits<float>::infinity();

// What one call attends to; strides are in elements.
struct Shapes {
  int64_t tokens, heads, shared_heads, slots, size;
};

// Which slots a query may see.
class Visibility {
 public:
  Visibility(const std::optional<Tensor>& mask, bool is_causal, int64_t start, int64_t slots)
      : mask_(mask.has_value() ? mask->const_data_ptr<float>() : nullptr),
        causal_(is_causal),
        start_(start),
        slots_(slots) {}

  // Slots from 0 to this one may be seen.
  int64_t end(int64_t token) const {
    return mask_ == nullptr && causal_ ? std::min(slots_, start_ + token + 1) : slots_;
  }

  // What is added to the score of a slot.
  float added(int64_t token, int64_t slot) const {
    return mask_ == nullptr ? 0.0f : mask_[token * slots_ + slot];
  }

 private:
  const float* mask_;
  bool causal_;
  int64_t start_, slots_;
};

// Float32 queries, keys and values.
struct FloatRows {
  const float *query, *key, *value;

  // One row of queries, against any row of keys.
  struct Query {
    const float *query, *key;
    float score(int64_t key_row, int64_t size) const {
      return rows::dot(query, key + key_row * size, size);
    }
  };

  Query query_of(int64_t row, int64_t size) const { return {query + row * size, key}; }

  void add_value(float weight, int64_t row, int64_t size, float* out) const {
    rows::add(weight, value + row * size, size, out);
  }
};

// int8 codes; a value is (code - zero point) * scale, a scale and a zero point a row.
struct CodeRows {
  const int8_t *query, *key, *value;
  const float *query_scales, *key_scales, *value_scales;
  const int8_t *query_zeros, *key_zeros, *value_zeros;

  // A row of queries without its zero point: then that of a key takes one product.
  struct Query {
    const CodeRows& all;
    std::vector<int16_t> centered;
    int32_t sum;
    float scale;

    float score(int64_t key_row, int64_t size) const {
      const int32_t exact = rows::dot(centered.data(), all.key + key_row * size, size) -
                            all.key_zeros[key_row] * sum;
      return scale * all.key_scales[key_row] * float(exact);
    }
  };

  Query query_of(int64_t row, int64_t size) const {
    Query found{*this, std::vector<int16_t>(size_t(size)), 0, query_scales[row]};
    for (int64_t i = 0; i < size; i++) {
      found.centered[size_t(i)] = int16_t(query[row * size + i] - query_zeros[row]);
      found.sum += found.centered[size_t(i)];
    }
    return found;
  }

  void add_value(float weight, int64_t row, int64_t size, float* out) const {
    rows::add(weight * value_scales[row], value + row * size, float(value_zeros[row]), size, out);
  }
};

// One head's attention of one token. Slots that may not be seen are not looked at.
template <typename Rows>
void attend_one(const Rows& all, const Shapes& s, const Visibility& seen, float scale,
                int64_t token, int64_t head, std::vector<float>& weights, float* out) {
  const int64_t shared = head / (s.heads / s.shared_heads), end = seen.end(token);
  const auto query = all.query_of(token * s.heads + head, s.size);
  float largest = kHidden;
  for (int64_t slot = 0; slot < end; slot++) {
    const float added = seen.added(token, slot);
    weights[slot] = kHidden;
    if (added == kHidden) continue;
    weights[slot] = scale * query.score(slot * s.shared_heads + shared, s.size) + added;
    largest = std::max(largest, weights[slot]);
  }
  std::memset(out, 0, size_t(s.size) * sizeof(float));
  if (largest == kHidden) return;
  float total = 0.0f;
  for (int64_t slot = 0; slot < end; slot++) {
    if (weights[slot] == kHidden) continue;
    const float weight = std::exp(weights[slot] - largest);
    total += weight;
    all.add_value(weight, slot * s.shared_heads + shared, s.size, out);
  }
  for (int64_t i = 0; i < s.size; i++) out[i] /= total;
}

template <typename Rows>
void attend(const Rows& all, const Shapes& s, const Visibility& seen, float scale, float* out) {
  executorch::extension::parallel_for(
      0, s.tokens * s.heads, 1, [&](int64_t begin, int64_t end) {
        std::vector<float> weights(static_cast<size_t>(s.slots));
        for (int64_t i = begin; i < end; i++) {
          attend_one(all, s, seen, scale, i / s.heads, i % s.heads, weights, out + i * s.size);
        }
      });
}

bool shapes_of(const Tensor& query, const Tensor& key, const Tensor& value,
               const std::optional<Tensor>& mask, Shapes* found) {
  if (query.dim() != 4 || key.dim() != 4 || value.dim() != 4 || query.size(0) != 1) return false;
  *found = {query.size(1), query.size(2), key.size(2), key.size(1), query.size(3)};
  const bool alike = key.size(3) == found->size && value.size(3) == found->size &&
                     value.size(1) == found->slots && value.size(2) == found->shared_heads;
  const bool masked = !mask.has_value() ||
                      (mask->dim() == 2 && mask->size(0) >= found->tokens &&
                       mask->size(1) == found->slots && mask->scalar_type() == ScalarType::Float);
  return alike && masked && found->shared_heads > 0 && found->heads % found->shared_heads == 0;
}

float scale_of(const std::optional<double>& scale, int64_t size) {
  return scale.has_value() ? float(*scale) : 1.0f / std::sqrt(float(size));
}

Tensor& custom_sdpa_out(KernelRuntimeContext& context, const Tensor& query, const Tensor& key,
                        const Tensor& value, int64_t start, const std::optional<Tensor>& mask,
                        double, bool is_causal, const std::optional<double>& scale, Tensor& out) {
  Shapes s;
  ET_KERNEL_CHECK(context, shapes_of(query, key, value, mask, &s), InvalidArgument, out);
  ET_KERNEL_CHECK(context, query.scalar_type() == ScalarType::Float, InvalidArgument, out);
  ET_KERNEL_CHECK(context, key.scalar_type() == ScalarType::Float, InvalidArgument, out);
  ET_KERNEL_CHECK(context, executorch::runtime::resize_tensor(out, query.sizes()) == Error::Ok,
                  InvalidArgument, out);
  const FloatRows all{query.const_data_ptr<float>(), key.const_data_ptr<float>(),
                      value.const_data_ptr<float>()};
  attend(all, s, Visibility(mask, is_causal, start, s.slots), scale_of(scale, s.size),
         out.mutable_data_ptr<float>());
  return out;
}

Tensor& custom_quantized_sdpa_out(
    KernelRuntimeContext& context, const Tensor& query, const Tensor& key, const Tensor& value,
    int64_t start, const std::optional<Tensor>& mask, double, bool is_causal,
    const std::optional<double>& scale, const std::optional<Tensor>& query_zeros,
    const std::optional<Tensor>& query_scales, const std::optional<Tensor>& key_zeros,
    const std::optional<Tensor>& key_scales, const std::optional<Tensor>& value_zeros,
    const std::optional<Tensor>& value_scales, bool sequence_is_dim_2, Tensor& out) {
  Shapes s;
  const bool complete = query_zeros.has_value() && query_scales.has_value() &&
                        key_zeros.has_value() && key_scales.has_value() &&
                        value_zeros.has_value() && value_scales.has_value();
  ET_KERNEL_CHECK(context, complete && !sequence_is_dim_2, InvalidArgument, out);
  ET_KERNEL_CHECK(context, shapes_of(query, key, value, mask, &s), InvalidArgument, out);
  ET_KERNEL_CHECK(context, query.scalar_type() == ScalarType::Char, InvalidArgument, out);
  ET_KERNEL_CHECK(context, key.scalar_type() == ScalarType::Char, InvalidArgument, out);
  ET_KERNEL_CHECK(context, executorch::runtime::resize_tensor(out, query.sizes()) == Error::Ok,
                  InvalidArgument, out);
  const CodeRows all{query.const_data_ptr<int8_t>(),         key.const_data_ptr<int8_t>(),
                     value.const_data_ptr<int8_t>(),         query_scales->const_data_ptr<float>(),
                     key_scales->const_data_ptr<float>(),    value_scales->const_data_ptr<float>(),
                     query_zeros->const_data_ptr<int8_t>(),  key_zeros->const_data_ptr<int8_t>(),
                     value_zeros->const_data_ptr<int8_t>()};
  attend(all, s, Visibility(mask, is_causal, start, s.slots), scale_of(scale, s.size),
         out.mutable_data_ptr<float>());
  return out;
}

// Bytes of one slot of a cache [B, S, ...], and how many slots a batch has.
struct Slots {
  int64_t batches, count;
  size_t bytes;
};

bool slots_of(const Tensor& value, const Tensor& cache, Slots* found) {
  if (value.dim() != cache.dim() || value.dim() < 2 || value.size(0) != cache.size(0) ||
      value.scalar_type() != cache.scalar_type()) {
    return false;
  }
  size_t bytes = cache.element_size();
  for (int64_t i = 2; i < cache.dim(); i++) {
    if (value.size(i) != cache.size(i)) return false;
    bytes *= size_t(cache.size(i));
  }
  *found = {cache.size(0), cache.size(1), bytes};
  return true;
}

void copy_slot(const Tensor& value, Tensor& cache, const Slots& slots, int64_t batch, int64_t token,
               int64_t slot) {
  const auto* from = static_cast<const uint8_t*>(value.const_data_ptr());
  auto* to = static_cast<uint8_t*>(cache.mutable_data_ptr());
  std::memcpy(to + size_t(batch * slots.count + slot) * slots.bytes,
              from + size_t(batch * value.size(1) + token) * slots.bytes, slots.bytes);
}

// The result stands for the cache in the graph; nobody reads it.
Tensor& update_cache_out(KernelRuntimeContext& context, const Tensor& value, Tensor& cache,
                         int64_t start, Tensor& out) {
  Slots slots;
  ET_KERNEL_CHECK(context, slots_of(value, cache, &slots), InvalidArgument, out);
  ET_KERNEL_CHECK(context, start >= 0 && start + value.size(1) <= slots.count, InvalidArgument, out);
  for (int64_t batch = 0; batch < slots.batches; batch++) {
    for (int64_t token = 0; token < value.size(1); token++) {
      copy_slot(value, cache, slots, batch, token, start + token);
    }
  }
  return out;
}

Tensor& update_cache_with_indices_out(KernelRuntimeContext& context, const Tensor& value,
                                      Tensor& cache, int64_t, const Tensor& indices, Tensor& out) {
  Slots slots;
  ET_KERNEL_CHECK(context, slots_of(value, cache, &slots), InvalidArgument, out);
  ET_KERNEL_CHECK(context, indices.dim() == 2 && indices.scalar_type() == ScalarType::Long,
                  InvalidArgument, out);
  ET_KERNEL_CHECK(context,
                  indices.size(0) == slots.batches && indices.size(1) == value.size(1),
                  InvalidArgument, out);
  const int64_t* chosen = indices.const_data_ptr<int64_t>();
  for (int64_t batch = 0; batch < slots.batches; batch++) {
    for (int64_t token = 0; token < value.size(1); token++) {
      const int64_t slot = chosen[batch * value.size(1) + token];
      ET_KERNEL_CHECK(context, slot >= 0 && slot < slots.count, InvalidArgument, out);
      copy_slot(value, cache, slots, batch, token, slot);
    }
  }
  return out;
}

}  // namespace

EXECUTORCH_LIBRARY(llama, "custom_sdpa.out", custom_sdpa_out);
EXECUTORCH_LIBRARY(llama, "custom_quantized_sdpa.out", custom_quantized_sdpa_out);
EXECUTORCH_LIBRARY(llama, "update_cache.out", update_cache_out);
EXECUTORCH_LIBRARY(llama, "update_cache_with_indices.out", update_cache_with_indices_out);
