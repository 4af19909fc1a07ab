// Where this process's memory is, at moments that matter: the end of a phase.
#pragma once

#include <stddef.h>

#include "engine.h"

#ifdef __cplusplus
extern "C" {
#endif

// Has the allocator give each large block a mapping of its own, and small ones one heap, so that
// what is freed goes back at once and what is left can be told apart. Call it first of all.
void phases_prepare(void);

// Tells what is resident now, by mapping and by region, and the most that was resident since the
// last call. Linux resets that peak on request; where it cannot, the peak is of the whole run and
// the line says so.
void phases_mark(const char *name, const engine_region *regions, size_t count);

#ifdef __cplusplus
}
#endif
