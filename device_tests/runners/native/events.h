// What a runner tells: JSON lines on stdout, one an event, flushed one by one, so that a run that
// is killed leaves all that happened before.
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// Seconds of a clock that never goes back; the sampler's clock too.
double event_clock_s(void);

// printf of one line. Texts go through event_text first.
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
void event(const char *format, ...);

// Writes a JSON string, quotes included, cut to the buffer.
const char *event_text(char *buffer, size_t size, const char *text);

// Says why the run ends, and ends it with status 3.
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2), noreturn))
#endif
void event_fail(const char *format, ...);

#ifdef __cplusplus
}
#endif
