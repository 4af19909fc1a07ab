#include "bundle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What is read here stands alike in all of these.
static const double OLDEST_FORMAT = 1, NEWEST_FORMAT = 2;

static char *joined(const char *folder, const char *name) {
  size_t size = strlen(folder) + strlen(name) + 2;
  char *path = malloc(size);
  if (path) snprintf(path, size, "%s/%s", folder, name);
  return path;
}

// A path of the manifest may not leave the folder.
static int is_inside(const char *path) {
  if (path[0] == '/' || path[0] == 0) return 0;
  for (const char *part = path; part; part = strchr(part, '/')) {
    if (*part == '/') part++;
    if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == 0)) return 0;
  }
  return 1;
}

static int read_caches(bundle *out) {
  const json *caches = json_get(out->backend, "caches");
  out->layers = json_count(caches);
  out->caches = calloc(out->layers ? out->layers : 1, sizeof *out->caches);
  if (!out->layers || !out->caches) return -1;
  for (size_t i = 0; i < out->layers; i++) {
    const json *entry = json_at(caches, i);
    const char *dtype = json_text(json_get(entry, "dtype"));
    bundle_cache *cache = &out->caches[i];
    // Kinds of caches that keep a window use slots again; those without one keep every position.
    cache->overwrites = json_number(json_get(entry, "window"), 0) > 0;
    cache->capacity = (long)json_number(json_get(entry, "capacity"), 0);
    cache->heads = (long)json_number(json_get(entry, "num_key_value_heads"), 0);
    cache->head_dim = (long)json_number(json_get(entry, "head_dim"), 0);
    cache->item_bytes = dtype && strcmp(dtype, "int8") == 0 ? 1 : 4;
    if (cache->capacity < 1 || cache->heads < 1 || cache->head_dim < 1) return -1;
  }
  return 0;
}

static int read_fields(bundle *out, const char *folder, const char *backend) {
  out->backend = json_get(json_get(out->manifest, "backends"), backend);
  const char *model = json_text(json_get(out->backend, "model"));
  out->context_length = (long)json_number(json_get(out->manifest, "context_length"), 0);
  out->prefill_chunk = (long)json_number(json_get(out->manifest, "prefill_chunk"), 0);
  out->vocab_size =
      (long)json_number(json_get(json_get(out->manifest, "model"), "vocab_size"), 0);
  out->logits_size = (long)json_number(json_get(out->backend, "logits_size"), 0);
  if (!model || !is_inside(model) || out->context_length < 1 || out->prefill_chunk < 1 ||
      out->vocab_size < 1 || out->logits_size < out->vocab_size) {
    return -1;
  }
  out->model_path = joined(folder, model);
  return out->model_path ? read_caches(out) : -1;
}

int bundle_open(bundle *out, const char *folder, const char *backend, char *error, size_t size) {
  memset(out, 0, sizeof *out);
  char *path = joined(folder, "manifest.json");
  out->manifest = path ? json_read_file(path, error, size) : NULL;
  free(path);
  if (!out->manifest) return -1;
  double version = json_number(json_get(out->manifest, "format_version"), 0);
  if (version < OLDEST_FORMAT || version > NEWEST_FORMAT) {
    snprintf(error, size, "%s: bundle format %g, this runner reads %g to %g", folder, version,
             OLDEST_FORMAT, NEWEST_FORMAT);
  } else if (read_fields(out, folder, backend) != 0) {
    snprintf(error, size, "%s: the manifest has no usable backend %s", folder, backend);
  } else {
    return 0;
  }
  bundle_close(out);
  return -1;
}

void bundle_close(bundle *opened) {
  json_free(opened->manifest);
  free(opened->model_path);
  free(opened->caches);
  memset(opened, 0, sizeof *opened);
}
