// Watches a process from beside it, so that a run that is killed still leaves its last minutes.
//
//   sampler PID INTERVAL_MS ROLLUP_EVERY
//
// Prints a JSON line at the interval until the process is gone: resident and peak size, what the
// machine has left, pressure, faults, temperature. Every ROLLUP_EVERY lines come sizes that the
// kernel has to add up first. A file that this system lacks leaves its fields out. Linked
// statically: it must start where nothing else does.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
  const char *in_file;  // name in front of the number
  const char *out;
  long unit;
} field;

static const field STATUS[] = {
    {"VmRSS:", "resident_bytes", 1024},      {"VmHWM:", "peak_bytes", 1024},
    {"RssAnon:", "anonymous_bytes", 1024},   {"RssFile:", "file_bytes", 1024},
    {"RssShmem:", "shared_bytes", 1024},     {"VmSwap:", "swap_bytes", 1024},
    {"Threads:", "threads", 1},              {NULL, NULL, 0},
};
static const field ROLLUP[] = {
    {"Pss:", "proportional_bytes", 1024},
    {"Private_Dirty:", "private_dirty_bytes", 1024},
    {"Private_Clean:", "private_clean_bytes", 1024},
    {NULL, NULL, 0},
};
static const field MACHINE[] = {
    {"MemTotal:", "machine_total_bytes", 1024},
    {"MemAvailable:", "machine_available_bytes", 1024},
    {"MemFree:", "machine_free_bytes", 1024},
    {"SwapTotal:", "machine_swap_total_bytes", 1024},
    {"SwapFree:", "machine_swap_free_bytes", 1024},
    {NULL, NULL, 0},
};
static const field COUNTERS[] = {
    {"pgmajfault ", "major_faults", 1},
    {"workingset_refault_file ", "file_refaults", 1},
    {"pswpin ", "swap_in_pages", 1},
    {"pswpout ", "swap_out_pages", 1},
    {"oom_kill ", "oom_kills", 1},
    {NULL, NULL, 0},
};

static double clock_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Prints the fields that a file has; returns whether it could be opened.
static int print_fields(const char *path, const field *fields) {
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  char line[512];
  while (fgets(line, sizeof line, file)) {
    for (const field *f = fields; f->in_file; f++) {
      size_t length = strlen(f->in_file);
      if (strncmp(line, f->in_file, length) != 0) continue;
      printf(",\"%s\":%lld", f->out, atoll(line + length) * f->unit);
    }
  }
  fclose(file);
  return 1;
}

// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", then "full ...", in microseconds.
static void print_pressure(void) {
  FILE *file = fopen("/proc/pressure/memory", "r");
  char line[256];
  while (file && fgets(line, sizeof line, file)) {
    const char *total = strstr(line, "total=");
    if (total) {
      printf(",\"pressure_%.4s_us\":%lld", line, atoll(total + strlen("total=")));
    }
  }
  if (file) fclose(file);
}

static void print_temperature(void) {
  long warmest = 0;
  for (int zone = 0; zone < 64; zone++) {
    char path[64];
    long now = 0;
    snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%d/temp", zone);
    FILE *file = fopen(path, "r");
    if (!file) break;
    if (fscanf(file, "%ld", &now) == 1 && now > warmest) warmest = now;
    fclose(file);
  }
  if (warmest) printf(",\"warmest_celsius\":%.1f", (double)warmest / 1000);
}

// A process that has ended but was not waited for is gone too.
static int is_alive(const char *status_path) {
  FILE *file = fopen(status_path, "r");
  char line[256];
  int alive = file != NULL;
  while (file && fgets(line, sizeof line, file)) {
    if (strncmp(line, "State:", 6) == 0) alive = !strchr("ZX", line[strspn(line + 6, " \t") + 6]);
  }
  if (file) fclose(file);
  return alive;
}

int main(int count, char **given) {
  if (count != 4) {
    fprintf(stderr, "usage: sampler PID INTERVAL_MS ROLLUP_EVERY\n");
    return 2;
  }
  long pid = atol(given[1]), interval_ms = atol(given[2]), every = atol(given[3]);
  if (pid < 1 || interval_ms < 1 || every < 1) {
    fprintf(stderr, "sampler: each number must be at least 1\n");
    return 2;
  }
  char status[64], rollup[64];
  snprintf(status, sizeof status, "/proc/%ld/status", pid);
  snprintf(rollup, sizeof rollup, "/proc/%ld/smaps_rollup", pid);
  struct timespec pause = {interval_ms / 1000, interval_ms % 1000 * 1000000};
  for (long sample = 0; is_alive(status); sample++) {
    printf("{\"clock_s\":%.6f", clock_s());
    print_fields(status, STATUS);
    if (sample % every == 0) print_fields(rollup, ROLLUP);
    print_fields("/proc/meminfo", MACHINE);
    print_fields("/proc/vmstat", COUNTERS);
    print_pressure();
    print_temperature();
    puts("}");
    fflush(stdout);
    nanosleep(&pause, NULL);
  }
  return 0;
}
