// Runs a language model bundle as a script says, and tells what happened in JSON lines (events.h).
//
//   runner BUNDLE --script FILE [--threads N] [--logits FILE] [--library FILE]
//                 [--packed-cache FILE]
//
// A script has one command a line:
//   phase NAME         mark the end of a phase of memory (phases_mark)
//   reset              start again at position 0
//   choices COUNT      greedy choices are among the first COUNT ids, which is what a tokenizer has
//   columns [ID ...]   rows that are kept from now on have these columns; without ids, all
//   feed ID ID ...     process these tokens, in chunks
//   feed+ ID ID ...    likewise, and append the last row of logits to the logits file
//   decode COUNT       feed the greedy choice back, COUNT times
//   decode+ COUNT      likewise, with every row
//
// The logits file holds rows of float32: the columns asked for, in that order. What a cache holds
// follows from the position alone, so a reset clears nothing: no slot is read before it is written
// again.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "events.h"
#include "phases.h"

enum { MAX_REGIONS = 1024 };

typedef struct {
  const char *folder, *script, *logits;
  engine_settings engine;
} arguments;

typedef struct {
  int64_t *ids;
  size_t count, room;
} token_list;

typedef struct {
  const bundle *opened;
  engine *loaded;
  FILE *logits;
  long position, choices;
  const float *row;  // after the last token
  token_list tokens, columns;
} session;

static long whole_number(const char *text, long least, const char *what) {
  char *end;
  errno = 0;
  long number = strtol(text, &end, 10);
  if (errno || end == text || *end || number < least) {
    event_fail("%s: %s is no number of at least %ld", what, text, least);
  }
  return number;
}

static arguments read_arguments(int count, char **given) {
  arguments found = {NULL, NULL, NULL, {1, NULL, NULL}};
  for (int i = 1; i < count; i++) {
    const char *name = given[i], *value = i + 1 < count ? given[i + 1] : NULL;
    if (name[0] != '-') {
      found.folder = name;
      continue;
    }
    if (!value) event_fail("%s needs a value", name);
    i++;
    if (strcmp(name, "--script") == 0) {
      found.script = value;
    } else if (strcmp(name, "--logits") == 0) {
      found.logits = value;
    } else if (strcmp(name, "--threads") == 0) {
      found.engine.threads = (int)whole_number(value, 1, name);
    } else if (strcmp(name, "--library") == 0) {
      found.engine.library = value;
    } else if (strcmp(name, "--packed-cache") == 0) {
      found.engine.packed_cache = value;
    } else {
      event_fail("%s: unknown option", name);
    }
  }
  if (!found.folder || !found.script) event_fail("usage: runner BUNDLE --script FILE [options]");
  return found;
}

// The largest of those that are numbers: each comparison with NaN would be false.
static int64_t greedy(const session *s) {
  long best = -1;
  for (long id = 0; id < s->choices; id++) {
    if (!isnan(s->row[id]) && (best < 0 || s->row[id] > s->row[best])) best = id;
  }
  return best < 0 ? 0 : best;
}

static long first_nan(const session *s) {
  long id = 0;
  while (id < s->choices && !isnan(s->row[id])) id++;
  return id < s->choices ? id : -1;
}

static void write_logits(session *s, const float *logits, size_t count) {
  if (fwrite(logits, sizeof *logits, count, s->logits) != count) {
    event_fail("the logits file cannot be written: %s", strerror(errno));
  }
}

static void keep_row(session *s) {
  if (!s->logits) event_fail("the script keeps rows of logits; --logits FILE is missing");
  for (size_t i = 0; i < s->columns.count; i++) write_logits(s, s->row + s->columns.ids[i], 1);
  if (!s->columns.count) write_logits(s, s->row, (size_t)s->opened->vocab_size);
}

// Tells of a row that is kept what its columns do not: whether it is whole, and its spread.
static void print_spread(const session *s) {
  const long columns = s->opened->vocab_size;
  double sum = 0, squares = 0;
  int finite = 1;
  for (long id = 0; id < columns; id++) {
    sum += (double)s->row[id];
    finite = finite && isfinite(s->row[id]);
  }
  const double mean = sum / (double)columns;
  for (long id = 0; id < columns; id++) {
    squares += ((double)s->row[id] - mean) * ((double)s->row[id] - mean);
  }
  if (finite) {
    printf(",\"finite\":true,\"mean\":%.9g,\"std\":%.9g", mean, sqrt(squares / (double)columns));
  } else {
    printf(",\"finite\":false");
  }
}

static void process(session *s, const int64_t *tokens, size_t count, int keep) {
  long chunk = s->opened->prefill_chunk;
  if (s->position + (long)count > s->opened->context_length) {
    event_fail("%zu tokens at position %ld: the bundle has room for %ld", count, s->position,
               s->opened->context_length);
  }
  double start = event_clock_s();
  for (size_t done = 0; done < count;) {
    size_t left = count - done, now = left < (size_t)chunk ? left : (size_t)chunk;
    s->row = engine_run(s->loaded, tokens + done, (int)now, s->position);
    s->position += (long)now;
    done += now;
  }
  double taken = event_clock_s() - start;
  if (keep) keep_row(s);
  printf("{\"event\":\"run\",\"tokens\":%zu,\"position\":%ld,\"greedy_id\":%lld,\"clock_s\":%.6f,"
         "\"wall_s\":%.6f",
         count, s->position, (long long)greedy(s), start, taken);
  if (keep) print_spread(s);
  event("}");
}

static void read_tokens(const session *s, char *text, token_list *out) {
  out->count = 0;
  for (char *word = text ? strtok(text, " \t") : NULL; word; word = strtok(NULL, " \t")) {
    if (out->count == out->room) {
      out->room = out->room ? 2 * out->room : 256;
      out->ids = realloc(out->ids, out->room * sizeof *out->ids);
      if (!out->ids) event_fail("out of memory");
    }
    int64_t id = whole_number(word, 0, "a token id");
    if (id >= s->opened->vocab_size) {
      event_fail("token id %s: the vocabulary has %ld", word, s->opened->vocab_size);
    }
    out->ids[out->count++] = id;
  }
}

static void mark_phase(const session *s, const char *name) {
  static engine_region regions[MAX_REGIONS];
  size_t count = s->loaded ? engine_regions(s->loaded, regions, MAX_REGIONS) : 0;
  phases_mark(name, regions, count < MAX_REGIONS ? count : MAX_REGIONS);
}

static void decode(session *s, long count, int keep) {
  if (!s->row) event_fail("decode before any feed: there is no choice to feed back");
  for (long i = 0; i < count; i++) {
    long nan = first_nan(s);
    if (nan >= 0) {
      event_fail("the logit of id %ld is NaN after %ld tokens, so there is no greedy choice; the "
                 "artifact is damaged, or a kernel computes wrongly on this processor",
                 nan, s->position);
    }
    int64_t next = greedy(s);
    process(s, &next, 1, keep);
  }
}

static void run_line(session *s, char *line) {
  line[strcspn(line, "\r\n")] = 0;
  char *rest = strchr(line, ' ');
  if (rest) *rest++ = 0;
  int keep = line[0] && line[strlen(line) - 1] == '+';
  if (keep) line[strlen(line) - 1] = 0;
  if (!*line) {
    return;
  } else if (strcmp(line, "phase") == 0 && rest) {
    mark_phase(s, rest);
  } else if (strcmp(line, "reset") == 0) {
    s->position = 0;
    s->row = NULL;
  } else if (strcmp(line, "choices") == 0 && rest) {
    long count = whole_number(rest, 1, "choices");
    s->choices = count < s->opened->vocab_size ? count : s->opened->vocab_size;
  } else if (strcmp(line, "columns") == 0) {
    read_tokens(s, rest, &s->columns);
  } else if (strcmp(line, "feed") == 0 && rest) {
    read_tokens(s, rest, &s->tokens);
    if (s->tokens.count) process(s, s->tokens.ids, s->tokens.count, keep);
  } else if (strcmp(line, "decode") == 0 && rest) {
    decode(s, whole_number(rest, 1, "decode"), keep);
  } else {
    event_fail("%s: no such command", line);
  }
}

static void run_script(session *s, const char *path) {
  FILE *script = fopen(path, "r");
  if (!script) event_fail("%s: %s", path, strerror(errno));
  char *line = NULL;
  size_t room = 0;
  while (getline(&line, &room, script) >= 0) run_line(s, line);
  free(line);
  fclose(script);
}

int main(int count, char **given) {
  phases_prepare();
  arguments asked = read_arguments(count, given);
  char error[512];
  bundle opened;
  event("{\"event\":\"start\",\"backend\":\"%s\",\"pid\":%d,\"clock_s\":%.6f}", ENGINE_BACKEND,
        (int)getpid(), event_clock_s());
  if (bundle_open(&opened, asked.folder, ENGINE_BACKEND, error, sizeof error) != 0) {
    event_fail("%s", error);
  }
  session s = {.opened = &opened, .choices = opened.vocab_size};
  if (asked.logits && !(s.logits = fopen(asked.logits, "wb"))) {
    event_fail("%s: %s", asked.logits, strerror(errno));
  }
  mark_phase(&s, "started");
  double start = event_clock_s();
  s.loaded = engine_load(&opened, &asked.engine);
  event("{\"event\":\"loaded\",\"clock_s\":%.6f,\"wall_s\":%.6f}", start, event_clock_s() - start);
  mark_phase(&s, "loaded");
  run_script(&s, asked.script);
  if (s.logits && fclose(s.logits) != 0) event_fail("%s: %s", asked.logits, strerror(errno));
  engine_close(s.loaded);
  free(s.tokens.ids);
  free(s.columns.ids);
  bundle_close(&opened);
  event("{\"event\":\"end\",\"clock_s\":%.6f}", event_clock_s());
  return 0;
}
