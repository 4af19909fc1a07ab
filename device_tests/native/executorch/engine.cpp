// ExecuTorch's libraries without torch, from its wheel. Caches are buffers inside the program.
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/backend/backend_options_map.h>
#include <executorch/runtime/backend/options.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

#include "../common/engine.h"
#include "../common/events.h"

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
using executorch::runtime::LoadBackendOptionsMap;

extern "C" const char* const ENGINE_BACKEND = "executorch";

struct engine {
  const bundle* opened;
  std::unique_ptr<Module> program;
  std::vector<EValue> outputs;
};

namespace {

void check(Error error, const char* what) {
  if (error != Error::Ok) event_fail("%s: ExecuTorch error 0x%x", what, unsigned(error));
}

// Packed weights in a file that a second run maps, instead of memory that only swap can free.
void load(Module& program, const char* packed_cache) {
  if (packed_cache == nullptr) {
    check(program.load_forward(), "loading the program");
    return;
  }
  BackendOptions<3> options;
  check(options.set_option("weight_cache_enabled", true), "weight_cache_enabled");
  check(options.set_option("packed_cache_path", packed_cache), "packed_cache_path");
  check(options.set_option("save_weight_cache_on_disk", true), "save_weight_cache_on_disk");
  LoadBackendOptionsMap map;
  check(map.set_options("XnnpackBackend", options.view()), "options of XNNPACK");
  check(program.load(map), "loading the program");
  check(program.load_forward(nullptr, nullptr, &map), "loading the method");
}

}  // namespace

extern "C" engine* engine_load(const bundle* opened, const engine_settings* settings) {
  executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(
      uint32_t(settings->threads));
  // Mapped, not locked: phones allow 64 KB of locked memory, and an embedding table is read by row.
  auto program = std::make_unique<Module>(opened->model_path, Module::LoadMode::Mmap);
  load(*program, settings->packed_cache);
  auto* loaded = new engine{opened, std::move(program), {}};
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
  if (logits.numel() != loaded->opened->logits_size) {
    event_fail("the program gives %zd logits, the manifest says %ld", ssize_t(logits.numel()),
               loaded->opened->logits_size);
  }
  return logits.const_data_ptr<float>();
}

extern "C" void engine_close(engine* loaded) { delete loaded; }
