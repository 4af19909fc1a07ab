"""How apps run a .pte: ExecuTorch's LLM runners for C++ and Python, Android and iOS."""

from pocketlm.runtime_py.app_runtime import AppRuntime

_BACKEND = "executorch"

APPS = {
    "executorch": AppRuntime(_BACKEND, "load {model} with TextLLMRunner (C++ or Python)"),
    "executorch-android": AppRuntime(
        _BACKEND,
        'implementation("org.pytorch:executorch-android:{executorch}"), then LlmModule with '
        "{model} and tokenizer.json, from a path, not from assets",
    ),
    "executorch-ios": AppRuntime(
        _BACKEND,
        "add the Swift package executorch {executorch} with executorch_llm, backend_xnnpack, "
        "kernels_optimized and kernels_quantized, then TextRunner",
    ),
}
