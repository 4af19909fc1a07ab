// ONNX Runtime, opened by name: its symbols carry the release in their version, so linking against
// one release would tie the runner to it. Caches are ours, one buffer each, bound as input and as
// output: the graph writes them in place.
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../native/engine.h"
#include "../native/events.h"
#include "api.h"

const char *const ENGINE_BACKEND = "onnx";

struct engine {
  const bundle *opened;
  const OrtApi *api;
  OrtEnv *environment;
  OrtSession *session;
  OrtMemoryInfo *memory;
  OrtIoBinding *binding;
  OrtRunOptions *run_options;
  OrtValue **bound;        // key and value of each layer, then the logits
  engine_region *regions;  // their memory
  size_t count;
  int64_t *mask;  // only its length is read
};

static void check(const engine *e, OrtStatus *status, const char *what) {
  if (status) event_fail("%s: %s", what, e->api->GetErrorMessage(status));
}

static const char *option(const bundle *opened, const char *name) {
  return json_text(json_get(json_get(opened->backend, "options"), name));
}

// 1.29 is above 1.9; what follows the second number does not count.
static int is_older(const char *version, const char *floor) {
  long found[2] = {0, 0}, least[2] = {0, 0};
  sscanf(version, "%ld.%ld", &found[0], &found[1]);
  sscanf(floor, "%ld.%ld", &least[0], &least[1]);
  return found[0] < least[0] || (found[0] == least[0] && found[1] < least[1]);
}

static const OrtApi *open_runtime(const bundle *opened, const char *library) {
  const char *name = library ? library : ONNXRUNTIME_LIBRARY;
  // Without this, releases for Linux keep an id of the device and send statistics.
  setenv("ORT_DISABLE_TELEMETRY", "1", 0);
  void *handle = dlopen(name, RTLD_NOW);
  if (!handle) event_fail("ONNX Runtime cannot be opened: %s", dlerror());
  const OrtApiBase *(*base)(void);
  // C has no conversion from an object's address to a function's, POSIX promises this one.
  *(void **)&base = dlsym(handle, "OrtGetApiBase");
  if (!base) event_fail("%s: no ONNX Runtime: %s", name, dlerror());
  const char *version = base()->GetVersionString();
  const OrtApi *api = base()->GetApi(ORT_API_VERSION);
  const char *floor =
      json_text(json_get(json_get(opened->backend, "runtime_floor"), "onnxruntime"));
  if (!api || (floor && is_older(version, floor))) {
    event_fail("%s: ONNX Runtime %s; the bundle needs at least %s", name, version,
               floor ? floor : "1.16");
  }
  const char *disabled = option(opened, "mlas.disable_kleidiai");
  char text[64];
  event("{\"event\":\"runtime\",\"name\":\"onnxruntime\",\"version\":%s,"
        "\"kernels\":\"mlas.disable_kleidiai=%s\"}",
        event_text(text, sizeof text, version),
        disabled && strcmp(disabled, "1") == 0 ? "1" : "0");
  return api;
}

static int starts_with(const char *text, const char *prefix) {
  return strncmp(text, prefix, strlen(prefix)) == 0;
}

// The bundle's options are session configuration entries, or choose a kernel by the environment.
static OrtSessionOptions *session_options(const engine *e, int threads) {
  OrtSessionOptions *made;
  check(e, e->api->CreateSessionOptions(&made), "session options");
  check(e, e->api->SetIntraOpNumThreads(made, threads), "threads");
  const json *entries = json_get(e->opened->backend, "options");
  for (size_t i = 0; i < json_count(entries); i++) {
    const char *name = json_key(entries, i), *value = json_text(json_at(entries, i));
    if (!name || !value) continue;
    if (strcmp(name, "attention") == 0 && strcmp(value, "unfused") == 0) {
      setenv("ORT_GQA_DISABLE_FLASH_ATTENTION", "1", 0);
    } else if (starts_with(name, "session.") || starts_with(name, "optimization.") ||
               starts_with(name, "mlas.")) {
      check(e, e->api->AddSessionConfigEntry(made, name, value), name);
    }
  }
  return made;
}

// The kernels have packed copies of most weights; the rest comes back as it is read.
static void release_weights(const bundle *opened) {
  char name[PATH_MAX], path[PATH_MAX], line[PATH_MAX + 128];
  int length = snprintf(name, sizeof name, "%s.data", opened->model_path);
  if (length < 0 || (size_t)length >= sizeof name || !realpath(name, path)) return;
  FILE *maps = fopen("/proc/self/maps", "r");
  while (maps && fgets(line, sizeof line, maps)) {
    unsigned long start, end;
    int at = 0;
    line[strcspn(line, "\n")] = 0;
    if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &start, &end, &at) == 2 && at &&
        strcmp(line + at, path) == 0) {
      madvise((void *)start, end - start, MADV_DONTNEED);
    }
  }
  if (maps) fclose(maps);
}

static size_t size_of(const int64_t *shape, size_t rank, int type) {
  size_t bytes = type == ORT_INT8 ? 1 : type == ORT_FLOAT ? sizeof(float) : sizeof(int64_t);
  for (size_t i = 0; i < rank; i++) bytes *= (size_t)shape[i];
  return bytes;
}

static OrtValue *tensor(const engine *e, void *data, const int64_t *shape, size_t rank, int type) {
  OrtValue *value;
  check(e,
        e->api->CreateTensorWithDataAsOrtValue(e->memory, data, size_of(shape, rank, type), shape,
                                               rank, type, &value),
        "tensor");
  return value;
}

// Binds a new tensor of zeros, which are pages that take memory when they are written.
static OrtValue *bind_output(engine *e, const char *name, const char *part, const int64_t *shape,
                             size_t rank, int type) {
  size_t bytes = size_of(shape, rank, type);
  void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) event_fail("%s: no memory for %zu bytes", name, bytes);
  OrtValue *value = tensor(e, data, shape, rank, type);
  check(e, e->api->BindOutput(e->binding, name, value), name);
  e->regions[e->count] = (engine_region){part, data, bytes};
  e->bound[e->count++] = value;
  return value;
}

static void bind_cache(engine *e, size_t layer, const char *kind) {
  const bundle_cache *cache = &e->opened->caches[layer];
  const char *part = cache->overwrites ? "kv-ring" : "kv-global";
  int64_t shape[] = {1, cache->heads, cache->capacity, cache->head_dim};
  char past[64], present[64];
  snprintf(past, sizeof past, "past_key_values.%zu.%s", layer, kind);
  snprintf(present, sizeof present, "present.%zu.%s", layer, kind);
  OrtValue *value =
      bind_output(e, present, part, shape, 4, cache->item_bytes == 1 ? ORT_INT8 : ORT_FLOAT);
  check(e, e->api->BindInput(e->binding, past, value), past);
}

static void bind_buffers(engine *e) {
  const bundle *opened = e->opened;
  size_t count = 2 * opened->layers + 1;
  e->bound = calloc(count, sizeof *e->bound);
  e->regions = calloc(count, sizeof *e->regions);
  e->mask = malloc((size_t)opened->context_length * sizeof *e->mask);
  if (!e->bound || !e->regions || !e->mask) event_fail("out of memory");
  for (long i = 0; i < opened->context_length; i++) e->mask[i] = 1;
  for (size_t layer = 0; layer < opened->layers; layer++) {
    bind_cache(e, layer, "key");
    bind_cache(e, layer, "value");
  }
  int64_t shape[] = {1, 1, opened->logits_size};
  bind_output(e, "logits", "logits", shape, 3, ORT_FLOAT);
}

engine *engine_load(const bundle *opened, const engine_settings *settings) {
  if (settings->packed_cache) event_fail("ONNX Runtime maps no packed weights from a file");
  engine *e = calloc(1, sizeof *e);
  if (!e) event_fail("out of memory");
  e->opened = opened;
  e->api = open_runtime(opened, settings->library);
  check(e, e->api->CreateEnv(ORT_LOG_ERRORS, "pocketlm", &e->environment), "environment");
  OrtSessionOptions *options = session_options(e, settings->threads);
  check(e, e->api->CreateSession(e->environment, opened->model_path, options, &e->session),
        opened->model_path);
  e->api->ReleaseSessionOptions(options);
  release_weights(opened);
  check(e, e->api->CreateCpuMemoryInfo(ORT_DEVICE_ALLOCATOR, ORT_MEMORY_DEFAULT, &e->memory),
        "memory");
  check(e, e->api->CreateIoBinding(e->session, &e->binding), "binding");
  check(e, e->api->CreateRunOptions(&e->run_options), "run options");
  bind_buffers(e);
  return e;
}

const float *engine_run(engine *e, const int64_t *tokens, int count, long position) {
  int64_t ids_shape[] = {1, count}, mask_shape[] = {1, position + count};
  OrtValue *ids = tensor(e, (void *)tokens, ids_shape, 2, ORT_INT64);
  OrtValue *mask = tensor(e, e->mask, mask_shape, 2, ORT_INT64);
  check(e, e->api->BindInput(e->binding, "input_ids", ids), "input_ids");
  check(e, e->api->BindInput(e->binding, "attention_mask", mask), "attention_mask");
  check(e, e->api->RunWithBinding(e->session, e->run_options, e->binding), "run");
  e->api->ReleaseValue(ids);
  e->api->ReleaseValue(mask);
  return e->regions[e->count - 1].start;
}

size_t engine_regions(const engine *e, engine_region *out, size_t room) {
  for (size_t i = 0; i < e->count && i < room; i++) out[i] = e->regions[i];
  return e->count;
}

void engine_close(engine *e) {
  e->api->ReleaseIoBinding(e->binding);
  for (size_t i = 0; i < e->count; i++) {
    e->api->ReleaseValue(e->bound[i]);
    munmap((void *)e->regions[i].start, e->regions[i].bytes);
  }
  e->api->ReleaseRunOptions(e->run_options);
  e->api->ReleaseMemoryInfo(e->memory);
  e->api->ReleaseSession(e->session);
  e->api->ReleaseEnv(e->environment);
  free(e->bound);
  free(e->regions);
  free(e->mask);
  free(e);
}
