// What a runtime must offer the runner: one artifact, loaded, with its caches.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bundle.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct engine engine;

typedef struct {
  int threads;
  const char *library;       // of a runtime that is opened by name; NULL is beside the runner
  const char *packed_cache;  // file for packed weights, where the runtime has one; NULL is none
} engine_settings;

// Memory of the engine's own whose purpose is known. Its resident pages are counted one by one.
typedef struct {
  const char *part;  // "kv-global", "kv-ring", "activations", "logits"
  const void *start;
  size_t bytes;
} engine_region;

extern const char *const ENGINE_BACKEND;

// Each ends the run with event_fail where it cannot go on.
engine *engine_load(const bundle *opened, const engine_settings *settings);

// Processes tokens that stand at `position` and after, at most the bundle's chunk of them.
// Returns the logits after the last one, [logits_size]; valid until the next call.
const float *engine_run(engine *loaded, const int64_t *tokens, int count, long position);

// Writes up to `room` regions; returns how many there are. Several may be of one part.
size_t engine_regions(const engine *loaded, engine_region *out, size_t room);

// Releases the runtime's memory.
void engine_close(engine *loaded);

#ifdef __cplusplus
}
#endif
