// ExecuTorch's libraries without torch, from its wheel. Caches are buffers inside the program.
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/backend/backend_options_map.h>
#include <executorch/runtime/backend/options.h>

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "../native/engine.h"
#include "../native/events.h"

// In the library, but in no header of the wheel.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

using executorch::extension::from_blob;
using executorch::extension::Module;
using executorch::runtime::BackendOptions;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::HierarchicalAllocator;
using executorch::runtime::Span;
using executorch::runtime::LoadBackendOptionsMap;

extern "C" const char* const ENGINE_BACKEND = "executorch";

struct engine {
  const bundle* opened;
  std::vector<Span<uint8_t>> buffers;  // planned memory, by what the program calls memory 1, 2, ...
  std::unique_ptr<HierarchicalAllocator> planned;
  std::unique_ptr<Module> program;
  std::vector<EValue> outputs;
};

namespace {

void check(Error error, const char* what) {
  if (error != Error::Ok) event_fail("%s: ExecuTorch error 0x%x", what, unsigned(error));
}

// Planned memory of our own: pages that take memory when they are written, and whose purpose is
// known. Module's own would be written whole at once, caches that no token has reached included.
void plan_memory(engine& loaded) {
  const auto meta = loaded.program->method_meta("forward");
  if (!meta.ok()) check(meta.error(), "loading the program");
  for (size_t i = 0; i < meta->num_memory_planned_buffers(); i++) {
    const auto size = meta->memory_planned_buffer_size(i);
    if (!size.ok()) check(size.error(), "planned memory");
    void* data = mmap(nullptr, std::max<size_t>(size_t(*size), 1), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) event_fail("no memory for %lld bytes", (long long)*size);
    loaded.buffers.emplace_back(static_cast<uint8_t*>(data), size_t(*size));
  }
  loaded.planned = std::make_unique<HierarchicalAllocator>(
      Span<Span<uint8_t>>(loaded.buffers.data(), loaded.buffers.size()));
}

// Packed weights in a file that a second run maps, instead of memory that only swap can free.
void load(engine& loaded, const char* packed_cache) {
  Module& program = *loaded.program;
  if (packed_cache == nullptr) {
    check(program.load(), "loading the program");
    plan_memory(loaded);
    check(program.load_forward(loaded.planned.get()), "loading the method");
    return;
  }
  BackendOptions<3> options;
  check(options.set_option("weight_cache_enabled", true), "weight_cache_enabled");
  check(options.set_option("packed_cache_path", packed_cache), "packed_cache_path");
  check(options.set_option("save_weight_cache_on_disk", true), "save_weight_cache_on_disk");
  LoadBackendOptionsMap map;
  check(map.set_options("XnnpackBackend", options.view()), "options of XNNPACK");
  check(program.load(map), "loading the program");
  plan_memory(loaded);
  check(program.load_forward(loaded.planned.get(), nullptr, &map), "loading the method");
}

}  // namespace

extern "C" engine* engine_load(const bundle* opened, const engine_settings* settings) {
  event("{\"event\":\"runtime\",\"name\":\"executorch\",\"version\":\"%s\","
        "\"kernels\":\"xnnpack\"}",
        EXECUTORCH_VERSION);
  executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(
      uint32_t(settings->threads));
  // Mapped, not locked: phones allow 64 KB of locked memory, and an embedding table is read by row.
  auto program = std::make_unique<Module>(opened->model_path, Module::LoadMode::Mmap);
  auto* loaded = new engine{opened, {}, nullptr, std::move(program), {}};
  load(*loaded, settings->packed_cache);
  // The first call packs the weights. What it writes at position 0 is written again before it is
  // seen.
  const int64_t token = 0;
  engine_run(loaded, &token, 1, 0);
  return loaded;
}

extern "C" const float* engine_run(engine* loaded, const int64_t* tokens, int count,
                                   long position) {
  int64_t start = position;
  auto ids = from_blob(const_cast<int64_t*>(tokens), {1, count}, executorch::aten::ScalarType::Long);
  auto place = from_blob(&start, {1}, executorch::aten::ScalarType::Long);
  auto result = loaded->program->forward({EValue(*ids), EValue(*place)});
  if (!result.ok()) check(result.error(), "run");
  loaded->outputs = std::move(*result);
  const auto& logits = loaded->outputs.at(0).toTensor();
  const ssize_t row = logits.size(logits.dim() - 1);
  if (row != loaded->opened->logits_size) {
    event_fail("the program gives rows of %zd logits, the manifest says %ld", row,
               loaded->opened->logits_size);
  }
  // A call of a few tokens has a row after each.
  return logits.const_data_ptr<float>() + (logits.numel() - row);
}

// The builder puts caches of global layers, then rings, into memory of their own behind that of
// activations; what a model does not have takes no number. Logits lie among the activations.
extern "C" size_t engine_regions(const engine* loaded, engine_region* out, size_t room) {
  const bundle* opened = loaded->opened;
  auto is_ring = [](const bundle_cache& c) { return c.overwrites != 0; };
  const bundle_cache *first = opened->caches, *last = first + opened->layers;
  std::vector<const char*> parts = {"activations"};
  if (!std::all_of(first, last, is_ring)) parts.push_back("kv-global");
  if (std::any_of(first, last, is_ring)) parts.push_back("kv-ring");
  std::vector<engine_region> found;
  for (size_t i = 0; i < std::min(parts.size(), loaded->buffers.size()); i++) {
    found.push_back({parts[i], loaded->buffers[i].data(), loaded->buffers[i].size()});
  }
  const uint8_t* start = loaded->buffers.at(0).data();
  const uint8_t* end = start + loaded->buffers.at(0).size();
  if (!loaded->outputs.empty()) {
    const auto& logits = loaded->outputs[0].toTensor();
    auto* row = static_cast<const uint8_t*>(logits.const_data_ptr());
    const uint8_t* after = row + logits.nbytes();
    if (row >= start && after <= end) {
      found[0].bytes = size_t(row - start);
      found.push_back({"logits", row, logits.nbytes()});
      found.push_back({"activations", after, size_t(end - after)});
    }
  }
  std::copy_n(found.begin(), std::min(found.size(), room), out);
  return found.size();
}

extern "C" void engine_close(engine* loaded) {
  const auto buffers = loaded->buffers;
  delete loaded;
  for (const auto& buffer : buffers) munmap(buffer.data(), buffer.size());
}
