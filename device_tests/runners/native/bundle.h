// What a runner needs of a device bundle: one backend's part of manifest.json.
#pragma once

#include <stddef.h>

#include "json.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  int overwrites;  // 0: every position has a slot of its own
  long capacity;   // slots
  long heads;      // of keys and values
  long head_dim;
  int item_bytes;  // 4: float32, 1: int8 codes
} bundle_cache;

typedef struct {
  json *manifest;
  const json *backend;
  char *model_path;
  long context_length;
  long prefill_chunk;  // most tokens of one call
  long vocab_size;
  long logits_size;  // columns beyond the vocabulary are padding
  size_t layers;
  bundle_cache *caches;  // one a layer
} bundle;

// Returns 0, or -1 with the reason in `error`. The bundle is read, its hashes are not checked: who
// brought it here did that.
int bundle_open(bundle *out, const char *folder, const char *backend, char *error, size_t size);
void bundle_close(bundle *opened);

#ifdef __cplusplus
}
#endif
