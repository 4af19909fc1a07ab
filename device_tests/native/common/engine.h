// What a runtime must offer the runner: one artifact, loaded, with its caches.
#pragma once

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

extern const char *const ENGINE_BACKEND;

// Each ends the run with event_fail where it cannot go on.
engine *engine_load(const bundle *opened, const engine_settings *settings);

// Processes tokens that stand at `position` and after, at most the bundle's chunk of them.
// Returns the logits after the last one, [logits_size]; valid until the next call.
const float *engine_run(engine *loaded, const int64_t *tokens, int count, long position);

// Releases the runtime's memory.
void engine_close(engine *loaded);

#ifdef __cplusplus
}
#endif
