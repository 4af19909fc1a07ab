#include "events.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PATHS = 128, LINE_BYTES = 4096 };

typedef struct {
  char path[256];
  long rss_kb, anonymous_kb, dirty_kb, swap_kb;
} mapped;

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

// Sums mappings of one file, and all that have none under a name of their own kind.
static size_t read_mappings(mapped *found) {
  FILE *file = fopen("/proc/self/smaps", "r");
  if (!file) return 0;
  char line[LINE_BYTES];
  size_t count = 0;
  mapped *now = NULL;
  while (fgets(line, sizeof line, file)) {
    unsigned long start, end;
    int at = 0;
    long kb;
    if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &start, &end, &at) == 2 && at) {
      char *path = line + at;
      path[strcspn(path, "\n")] = 0;
      if (!*path) path = (char *)"[anonymous]";
      size_t i = 0;
      while (i < count && strncmp(found[i].path, path, sizeof found[i].path - 1) != 0) i++;
      if (i == count && count < MAX_PATHS) {
        memset(&found[count], 0, sizeof *found);
        snprintf(found[count++].path, sizeof found->path, "%s", path);
      }
      now = i < count ? &found[i] : NULL;
    } else if (now && sscanf(line, "Rss: %ld", &kb) == 1) {
      now->rss_kb += kb;
    } else if (now && sscanf(line, "Anonymous: %ld", &kb) == 1) {
      now->anonymous_kb += kb;
    } else if (now && sscanf(line, "Private_Dirty: %ld", &kb) == 1) {
      now->dirty_kb += kb;
    } else if (now && sscanf(line, "Swap: %ld", &kb) == 1) {
      now->swap_kb += kb;
    }
  }
  fclose(file);
  return count;
}

static long status_kb(const char *name) {
  FILE *file = fopen("/proc/self/status", "r");
  char line[256];
  long kb = 0;
  size_t length = strlen(name);
  while (file && fgets(line, sizeof line, file)) {
    if (strncmp(line, name, length) == 0 && line[length] == ':') kb = atol(line + length + 1);
  }
  if (file) fclose(file);
  return kb;
}

// Has the kernel forget the highest resident size so far.
static int reset_peak(void) {
  int file = open("/proc/self/clear_refs", O_WRONLY);
  if (file < 0) return 0;
  int done = write(file, "5", 1) == 1;
  close(file);
  return done;
}

void event_phase(const char *name) {
  static mapped found[MAX_PATHS];
  static int peak_is_of_phase = 1;
  char text[600];
  long peak_kb = status_kb("VmHWM");
  size_t count = read_mappings(found);
  printf("{\"event\":\"phase\",\"phase\":%s,\"clock_s\":%.6f,\"peak_bytes\":%ld,"
         "\"peak_is_of_phase\":%s,\"mappings\":[",
         event_text(text, sizeof text, name), event_clock_s(), 1024 * peak_kb,
         peak_is_of_phase ? "true" : "false");
  const char *comma = "";
  for (size_t i = 0; i < count; i++) {
    if (!found[i].rss_kb && !found[i].swap_kb) continue;
    printf("%s{\"path\":%s,\"resident_bytes\":%ld,\"anonymous_bytes\":%ld,\"dirty_bytes\":%ld,"
           "\"swap_bytes\":%ld}",
           comma, event_text(text, sizeof text, found[i].path), 1024 * found[i].rss_kb,
           1024 * found[i].anonymous_kb, 1024 * found[i].dirty_kb, 1024 * found[i].swap_kb);
    comma = ",";
  }
  puts("]}");
  fflush(stdout);
  peak_is_of_phase = reset_peak();
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
