"""How apps run a graph: ONNX Runtime itself, or onnxruntime-genai."""

from pocketlm.runtime_py.app_runtime import TOKENIZER, AppRuntime

_BACKEND = "onnx"
_GENAI_CONFIG = "genai_config.json"
_CHAT_FILES = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")

APPS = {
    "genai": AppRuntime(
        _BACKEND,
        "give this folder to onnxruntime-genai's Model",
        (_GENAI_CONFIG, TOKENIZER, *_CHAT_FILES),
        {
            _GENAI_CONFIG: "onnxruntime-genai takes no ring caches, and caches of one precision "
            "only; build with -O onnx.local-cache=windowed, and --kv float32 or int8"
        },
        keeps_folders=True,
        takes_max_length=True,
    ),
    "onnxruntime": AppRuntime(_BACKEND, "open {model} with ONNX Runtime {onnxruntime} or newer"),
}
