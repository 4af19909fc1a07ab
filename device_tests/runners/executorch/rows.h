// The inner loops of attention: what is done with one row of channels. On x86 they are compiled for
// several kinds of processor, and the loader takes the best that this one has; 64-bit ARM has the
// vectors that they need from its first version on.
#pragma once

#include <cstdint>

namespace rows {

// Returns the sum of a[i] * b[i].
float dot(const float* a, const float* b, int64_t size);

// Likewise of numbers that are at most 255 and 128 large: exact for rows of up to 65,536.
int32_t dot(const int16_t* a, const int8_t* b, int64_t size);

// Adds weight * row[i] to out[i].
void add(float weight, const float* row, int64_t size, float* out);

// Adds weight * (row[i] - zero) to out[i].
void add(float weight, const int8_t* row, float zero, int64_t size, float* out);

}  // namespace rows
