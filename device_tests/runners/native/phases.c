#include "phases.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "events.h"

enum { MAX_PATHS = 128, LINE_BYTES = 4096, OWN_MAPPING_BYTES = 64 * 1024, PAGES_AT_ONCE = 512 };

typedef struct {
  char path[256];
  long rss_kb, anonymous_kb, dirty_kb, swap_kb;
} mapped;

typedef struct {
  size_t resident, swapped;  // pages
} pages;

void phases_prepare(void) {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
  // One heap for all threads: each other one would keep pages that were freed.
  mallopt(M_ARENA_MAX, 1);
#endif
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

// Counts the pages of a range. A page that was only ever read is the kernel's one page of zeros and
// takes nothing: mapped by this process alone is what tells the others.
static pages count_pages(int pagemap, const void *start, size_t bytes) {
  const uint64_t exclusive = 1ull << 56, file = 1ull << 61, swapped = 1ull << 62;
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t first = (size_t)start / page, end = ((size_t)start + bytes + page - 1) / page;
  uint64_t entries[PAGES_AT_ONCE];
  pages found = {0, 0};
  while (first < end) {
    size_t now = end - first < PAGES_AT_ONCE ? end - first : PAGES_AT_ONCE;
    ssize_t got = pread(pagemap, entries, now * sizeof *entries, (off_t)(first * sizeof *entries));
    if (got <= 0) break;
    for (size_t i = 0; i < (size_t)got / sizeof *entries; i++) {
      if (entries[i] & swapped) found.swapped++;
      else if (entries[i] & (exclusive | file)) found.resident++;
    }
    first += now;
  }
  return found;
}

// Has the kernel forget the highest resident size so far.
static int reset_peak(void) {
  int file = open("/proc/self/clear_refs", O_WRONLY);
  if (file < 0) return 0;
  int done = write(file, "5", 1) == 1;
  close(file);
  return done;
}

static void print_mappings(const mapped *found, size_t count) {
  char text[600];
  const char *comma = "";
  printf("\"mappings\":[");
  for (size_t i = 0; i < count; i++) {
    if (!found[i].rss_kb && !found[i].swap_kb) continue;
    printf("%s{\"path\":%s,\"resident_bytes\":%ld,\"anonymous_bytes\":%ld,\"dirty_bytes\":%ld,"
           "\"swap_bytes\":%ld}",
           comma, event_text(text, sizeof text, found[i].path), 1024 * found[i].rss_kb,
           1024 * found[i].anonymous_kb, 1024 * found[i].dirty_kb, 1024 * found[i].swap_kb);
    comma = ",";
  }
  putchar(']');
}

static void print_regions(const engine_region *regions, size_t count) {
  char text[100];
  const long page = sysconf(_SC_PAGESIZE);
  int pagemap = open("/proc/self/pagemap", O_RDONLY);
  const char *comma = "";
  printf("\"regions\":[");
  for (size_t i = 0; i < count; i++) {
    pages found = {0, 0};
    if (pagemap >= 0) found = count_pages(pagemap, regions[i].start, regions[i].bytes);
    printf("%s{\"part\":%s,\"bytes\":%zu,\"resident_bytes\":%ld,\"swap_bytes\":%ld}", comma,
           event_text(text, sizeof text, regions[i].part), regions[i].bytes,
           page * (long)found.resident, page * (long)found.swapped);
    comma = ",";
  }
  printf("],\"regions_are_counted\":%s", pagemap >= 0 ? "true" : "false");
  if (pagemap >= 0) close(pagemap);
}

void phases_mark(const char *name, const engine_region *regions, size_t count) {
  static mapped found[MAX_PATHS];
  static int peak_is_of_phase = 1;
  char text[600];
  long peak_kb = status_kb("VmHWM");
  size_t mappings = read_mappings(found);
  printf("{\"event\":\"phase\",\"phase\":%s,\"clock_s\":%.6f,\"peak_bytes\":%ld,"
         "\"peak_is_of_phase\":%s,",
         event_text(text, sizeof text, name), event_clock_s(), 1024 * peak_kb,
         peak_is_of_phase ? "true" : "false");
  print_regions(regions, count);
  putchar(',');
  print_mappings(found, mappings);
  puts("}");
  fflush(stdout);
  peak_is_of_phase = reset_peak();
}
