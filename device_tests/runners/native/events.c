#include "events.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

double event_clock_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void event(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
}

const char *event_text(char *buffer, size_t size, const char *text) {
  size_t used = 0;
  buffer[used++] = '"';
  for (; *text && used + 8 < size; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\') {
      buffer[used++] = '\\';
      buffer[used++] = (char)c;
    } else if (c < 0x20) {
      used += (size_t)snprintf(buffer + used, size - used, "\\u%04x", c);
    } else {
      buffer[used++] = (char)c;
    }
  }
  buffer[used++] = '"';
  buffer[used] = 0;
  return buffer;
}

void event_fail(const char *format, ...) {
  char reason[1024], text[2100];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(reason, sizeof reason, format, arguments);
  va_end(arguments);
  event("{\"event\":\"error\",\"reason\":%s}", event_text(text, sizeof text, reason));
  exit(3);
}
