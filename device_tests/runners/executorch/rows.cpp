#include "rows.h"

#if defined(__x86_64__) && __GNUC__ >= 12 && !defined(__clang__)
#define FOR_EACH_PROCESSOR \
  __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FOR_EACH_PROCESSOR
#endif

namespace rows {

FOR_EACH_PROCESSOR float dot(const float* a, const float* b, int64_t size) {
  // Sums that do not wait for each other.
  constexpr int64_t kLanes = 32;
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int64_t j = 0; j < kLanes; j++) lanes[j] += a[i + j] * b[i + j];
  }
  float sum = 0.0f;
  for (float lane : lanes) sum += lane;
  for (; i < size; i++) sum += a[i] * b[i];
  return sum;
}

FOR_EACH_PROCESSOR int32_t dot(const int16_t* a, const int8_t* b, int64_t size) {
  int32_t sum = 0;
  for (int64_t i = 0; i < size; i++) sum += int32_t(a[i]) * int32_t(b[i]);
  return sum;
}

FOR_EACH_PROCESSOR void add(float weight, const float* row, int64_t size, float* __restrict out) {
  for (int64_t i = 0; i < size; i++) out[i] += weight * row[i];
}

FOR_EACH_PROCESSOR void add(float weight, const int8_t* row, float zero, int64_t size,
                            float* __restrict out) {
  for (int64_t i = 0; i < size; i++) out[i] += weight * (float(row[i]) - zero);
}

}  // namespace rows
