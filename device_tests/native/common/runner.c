// Runs a language model bundle as a script says, and tells what happened in JSON lines (events.h).
//
//   runner BUNDLE --script FILE [--threads N] [--logits FILE] [--library FILE] [--packed-cache FILE]
//
// A script has one command a line:
//   phase NAME         mark the end of a phase of memory (event_phase)
//   reset              start again at position 0
//   feed ID ID ...     process these tokens, in chunks
//   feed+ ID ID ...    likewise, and append the last row of logits to the logits file
//   decode COUNT       feed the greedy choice back, COUNT times
//   decode+ COUNT      likewise, with every row
//
// The logits file holds float32 rows of the vocabulary's length. What a cache holds follows from the
// position alone, so a reset clears nothing: no slot is read before it is written again.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "events.h"

typedef struct {
  const char *folder, *script, *logits;
  engine_settings engine;
} arguments;

typedef struct {
  const bundle *opened;
  engine *loaded;
  FILE *logits;
  long position;
  const float *row;  // after the last token
  int64_t *tokens;
  size_t room;
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

static int64_t greedy(const session *s) {
  long best = 0;
  for (long id = 1; id < s->opened->vocab_size; id++) {
    if (s->row[id] > s->row[best]) best = id;
  }
  return best;
}

static void keep_row(session *s) {
  size_t columns = (size_t)s->opened->vocab_size;
  if (!s->logits) event_fail("the script keeps rows of logits; --logits FILE is missing");
  if (fwrite(s->row, sizeof *s->row, columns, s->logits) != columns || fflush(s->logits) != 0) {
    event_fail("the logits file cannot be written: %s", strerror(errno));
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
  event("{\"event\":\"run\",\"tokens\":%zu,\"position\":%ld,\"greedy_id\":%lld,\"clock_s\":%.6f,"
        "\"wall_s\":%.6f}",
        count, s->position, (long long)greedy(s), start, taken);
}

static size_t read_tokens(session *s, char *text) {
  size_t count = 0;
  for (char *word = strtok(text, " \t"); word; word = strtok(NULL, " \t")) {
    if (count == s->room) {
      s->room = s->room ? 2 * s->room : 256;
      s->tokens = realloc(s->tokens, s->room * sizeof *s->tokens);
      if (!s->tokens) event_fail("out of memory");
    }
    s->tokens[count] = whole_number(word, 0, "a token id");
    if (s->tokens[count] >= s->opened->vocab_size) {
      event_fail("token id %s: the vocabulary has %ld", word, s->opened->vocab_size);
    }
    count++;
  }
  return count;
}

static void decode(session *s, long count, int keep) {
  if (!s->row) event_fail("decode before any feed: there is no choice to feed back");
  for (long i = 0; i < count; i++) {
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
    event_phase(rest);
  } else if (strcmp(line, "reset") == 0) {
    s->position = 0;
    s->row = NULL;
  } else if (strcmp(line, "feed") == 0 && rest) {
    size_t count = read_tokens(s, rest);
    if (count) process(s, s->tokens, count, keep);
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
  arguments asked = read_arguments(count, given);
  char error[512];
  bundle opened;
  event("{\"event\":\"start\",\"backend\":\"%s\",\"clock_s\":%.6f}", ENGINE_BACKEND,
        event_clock_s());
  if (bundle_open(&opened, asked.folder, ENGINE_BACKEND, error, sizeof error) != 0) {
    event_fail("%s", error);
  }
  session s = {.opened = &opened};
  if (asked.logits && !(s.logits = fopen(asked.logits, "wb"))) {
    event_fail("%s: %s", asked.logits, strerror(errno));
  }
  event_phase("started");
  double start = event_clock_s();
  s.loaded = engine_load(&opened, &asked.engine);
  event("{\"event\":\"loaded\",\"clock_s\":%.6f,\"wall_s\":%.6f}", start, event_clock_s() - start);
  event_phase("loaded");
  run_script(&s, asked.script);
  if (s.logits && fclose(s.logits) != 0) event_fail("%s: %s", asked.logits, strerror(errno));
  engine_close(s.loaded);
  free(s.tokens);
  bundle_close(&opened);
  event("{\"event\":\"end\",\"clock_s\":%.6f}", event_clock_s());
  return 0;
}
