"""How much memory each stage of a build will hold at most, term by term, before it runs.

What backends hold stands with them (`Backend.lowering_memory`), every other constant here. They
are fitted to what benchmarks/build_memory.py measures, within a tenth; run it again when a stage
changes.
Resident bytes: mapped pages of files count while they are in use.
"""

import math
from dataclasses import dataclass

from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.calibration.generation import GENERATED_LENGTH, GENERATED_SEQUENCES
from pocketlm.edge_build.calibration.text import BUILT_IN_TOKENS
from pocketlm.edge_build.eager_memory import (
    EAGER_WIDE_TENSORS,
    MB,
    MemoryTerm,
    eager_terms,
    kept_weight_bytes,
    tokenizer_term,
)
from pocketlm.edge_build.golden_plan import (
    all_tokens,
    golden_tokens,
    golden_ways,
    longest_pass,
    text_rows,
)
from pocketlm.edge_build.golden_rows import PIECE_ROWS
from pocketlm.edge_build.kv_rule import KV_TOKENS
from pocketlm.edge_build.lowering_memory import LoweringMemory
from pocketlm.edge_build.mixed_precision.sensitivity import (
    SENSITIVITY_ROWS,
    SENSITIVITY_TOKENS,
    STATISTICS_SEQUENCES,
    WEIGHTS_TOGETHER,
)
from pocketlm.edge_build.preparation import KV_STAGE, Preparation
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.fold_search import EXPONENTS, SEARCH_TOKENS
from pocketlm.edge_build.quantization.layer_by_layer import PIECE_TOKENS
from pocketlm.edge_build.quantization.recipe import OWN_GRID_METHOD
from pocketlm.models.weight_shapes import weight_shapes

# Comes first and is not kept: what it measures is in the user's cache, weight by weight.
RECIPE_STAGE = "recipe"

# Blocks of a million weights: a few for each scale that is tried, and what the allocator keeps of
# them, 45 to 95 MB; fewer where weights stay as they are.
_QUANTIZE_BYTES = 60 * MB
_COPY_BYTES = 30 * MB
# What the tokenizer's many small pieces find room in, after a lowering left holes.
_HOLES_BYTES = 75 * MB
# Parts of torch that load when they are first used, and stay: by the eager model, and by an export.
_EAGER_LIBRARIES_BYTES = 85 * MB
_EXPORT_LIBRARIES_BYTES = 150 * MB
# Blocks in float64, of two threads: 126 MB in all were measured, where rounding takes 43.
_GRID_SEARCH_BYTES = 80 * MB
# Rows of logits, and those before a soft cap or of the piece before.
_LOGITS_COPIES = 2


# An unquantized weight has four bytes, but fewer copies.
_FLOAT_CODE_BYTES = 3.4


@dataclass(frozen=True)
class StageMemory:
    """What a stage holds at its highest point."""

    name: str
    terms: tuple[MemoryTerm, ...]

    @property
    def peak_bytes(self) -> int:
        return sum(term.size_bytes for term in self.terms)


def predict_memory(prepared: Preparation, resident_bytes: int) -> tuple[StageMemory, ...]:
    """Return the peak of each stage, in order.

    Args:
        resident_bytes: what the process holds before the first stage.
    """
    held = [MemoryTerm("Python, torch and this program", resident_bytes)]
    blocks = _QUANTIZE_BYTES if _is_quantized(prepared) else _COPY_BYTES
    stages: list[StageMemory] = []
    eager = MemoryTerm("parts of torch for eager models", _EAGER_LIBRARIES_BYTES)
    if prepared.spec.bits_per_weight is not None:
        stages.append(StageMemory(RECIPE_STAGE, (*held, eager, *_planning(prepared))))
    if "calibrate" in prepared.stage_names:
        stages.append(StageMemory("calibrate", (*held, eager, *_calibrate(prepared))))
    if "fold" in prepared.stage_names:
        stages.append(StageMemory("fold", (*held, eager, *_fold(prepared))))
    quantize = [MemoryTerm("blocks of weights", blocks)]
    if prepared.method_statistics:
        quantize += (eager, *_layer_by_layer(prepared))
    elif prepared.weights_with_text:
        quantize.append(MemoryTerm("moments of the head's inputs", _table_bytes(prepared)))
    if OWN_GRID_METHOD in prepared.method_names:
        quantize.append(MemoryTerm("search of the checkpoint's grid", _GRID_SEARCH_BYTES))
    stages.append(StageMemory("quantize", (*held, *quantize)))
    if KV_STAGE in prepared.stage_names:
        stages.append(StageMemory(KV_STAGE, (*held, eager, *_kv(prepared))))
    held.append(MemoryTerm("parts of torch for export", _EXPORT_LIBRARIES_BYTES))
    for backend in prepared.backends:
        stages.append(StageMemory(backend.name, (*held, *_lowering(prepared, backend))))
        held.append(MemoryTerm(f"left by lowering to {backend.name}", _left(prepared, backend)))
    stages.append(StageMemory("golden", (*held, *_golden(prepared))))
    names = tuple(stage.name for stage in stages if stage.name != RECIPE_STAGE)
    assert names == prepared.stage_names
    return tuple(stages)


def _planning(prepared: Preparation) -> list[MemoryTerm]:
    """Return what it takes to measure what single weights cost."""
    config, schemes = prepared.checkpoint.config, prepared.quantized_shapes
    longest = min(SENSITIVITY_TOKENS, config.max_position_embeddings)
    widest = max(columns for _, columns in schemes)
    factors = max(methods.load(s.method).prepared_bytes(columns) for s, columns in schemes)
    moments = 4 * widest**2 if "moments" in prepared.method_statistics else 0
    rows = SENSITIVITY_ROWS * config.vocab_size * 4
    return [
        tokenizer_term(prepared, holes=0),
        *eager_terms(prepared, longest, longest * STATISTICS_SEQUENCES, in_pieces=True),
        MemoryTerm("inputs of every layer", 4 * config.num_layers * longest * config.hidden_size),
        MemoryTerm("rows of logits", (1 + _LOGITS_COPIES * WEIGHTS_TOGETHER) * rows),
        MemoryTerm("moments of inputs", moments),
        MemoryTerm("factors of moments", WEIGHTS_TOGETHER * factors),
        MemoryTerm("blocks of weights", _QUANTIZE_BYTES),
    ]


def _fold(prepared: Preparation) -> list[MemoryTerm]:
    """Return what the search of scales of input channels holds."""
    lengths = _calibration_lengths(prepared)
    widest = max(prepared.checkpoint.shape(g.readers[0])[1] for g in prepared.fold_groups)
    inputs = 4 * len(EXPONENTS) * SEARCH_TOKENS * widest
    return [
        tokenizer_term(prepared, holes=0),
        *eager_terms(prepared, max(lengths), sum(lengths), in_pieces=len(lengths) > 1),
        MemoryTerm("blocks of weights", _QUANTIZE_BYTES),
        MemoryTerm("inputs in every scale", inputs),
    ]


def _layer_by_layer(prepared: Preparation) -> list[MemoryTerm]:
    """Return what it takes to quantize each layer for what the layers before it give."""
    lengths = _calibration_lengths(prepared)
    models = 2 if "cross_moments" in prepared.method_statistics else 1
    schemes = prepared.quantized_shapes
    factors = max(methods.load(s.method).prepared_bytes(columns) for s, columns in schemes)
    widest = max(columns for _, columns in schemes)
    squares = sum(kind != "maxima" for kind in prepared.method_statistics)
    tokens = models * sum(lengths)
    # The inputs of the MLP's last product are there for the whole text, all else of it in pieces.
    wide = 1 + EAGER_WIDE_TENSORS * min(1, models * PIECE_TOKENS / tokens)
    return [
        # The heap gives it back when the graphs of a backend take its place.
        tokenizer_term(prepared, holes=0),
        *eager_terms(prepared, max(lengths), tokens, in_pieces=len(lengths) > 1, wide_tensors=wide),
        MemoryTerm("moments of inputs", squares * 4 * widest**2),
        MemoryTerm("factors of moments", factors),
    ]


def _table_bytes(prepared: Preparation) -> int:
    """Return what it takes to quantize a tied table for the head's inputs, and nothing else."""
    scheme, size = prepared.rules["embed_tokens"].scheme, prepared.checkpoint.config.hidden_size
    assert scheme is not None, "it has a method"
    return 4 * size**2 + methods.load(scheme.method).prepared_bytes(size)


def _calibration_lengths(prepared: Preparation) -> list[int]:
    """Return the tokens of each sequence of the calibration text."""
    context_length = prepared.caches.context_length
    if prepared.is_generating:
        return [min(GENERATED_LENGTH, context_length)] * GENERATED_SEQUENCES
    built_in = min(BUILT_IN_TOKENS, context_length)
    return [len(tokens) for tokens in prepared.calibration] or [built_in]


def _kv(prepared: Preparation) -> list[MemoryTerm]:
    """Return what it takes to measure what caches may be kept in."""
    built_in = min(BUILT_IN_TOKENS, prepared.caches.context_length)
    tokens = min(KV_TOKENS, len(prepared.calibration[0]) if prepared.calibration else built_in)
    # Float32 caches are one way for all backends.
    ways = 1 + sum(len(prepared.kv_choices(backend)) - 1 for backend in prepared.backends)
    rows = min(PIECE_ROWS, tokens) * prepared.checkpoint.config.vocab_size * 4
    return [
        tokenizer_term(prepared, holes=0),
        *eager_terms(prepared, tokens, ways * tokens),
        MemoryTerm("small weights of the float model", kept_weight_bytes(prepared)),
        # Of every way, before and after a soft cap; of the float model, and one way's logarithms.
        MemoryTerm("rows of logits", (_LOGITS_COPIES * (ways + 1) + 2) * rows),
    ]


def _lowering(prepared: Preparation, backend: Backend) -> list[MemoryTerm]:
    lowering = backend.lowering_memory
    tables = _rotary_bytes(prepared) if lowering.mapped_tensors else 0
    terms = [
        MemoryTerm(f"tools of {backend.name}", lowering.library_bytes),
        MemoryTerm("graphs of the layers", _layers_bytes(prepared, lowering)),
        MemoryTerm("head and template, in copies", _copied_bytes(prepared, lowering)),
        MemoryTerm("largest weight, mapped", lowering.mapped_tensors * _largest_stored(prepared)),
        MemoryTerm("rotary tables", tables),
    ]
    return [term for term in terms if term.size_bytes]


def _left(prepared: Preparation, backend: Backend) -> int:
    left = backend.lowering_memory.left
    if left is None:
        return 0
    return left.library_bytes + _layers_bytes(prepared, left) + _copied_bytes(prepared, left)


def _layers_bytes(prepared: Preparation, held: LoweringMemory) -> int:
    return int(held.layer_bytes * prepared.checkpoint.config.num_layers)


def _copied_bytes(prepared: Preparation, held: LoweringMemory) -> int:
    shapes = weight_shapes(prepared.checkpoint.config)
    head = math.prod(shapes["embed_tokens"])
    layer = max(
        sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(f"layers.{i}."))
        for i in range(prepared.checkpoint.config.num_layers)
    )
    code_bytes = 1 if _is_quantized(prepared) else _FLOAT_CODE_BYTES
    return int((held.head_copies * head + held.template_copies * layer) * code_bytes)


def _calibrate(prepared: Preparation) -> list[MemoryTerm]:
    lengths, (statistics, _) = _calibration_lengths(prepared), prepared.float_statistics
    reading: list[MemoryTerm] = []
    if statistics:
        reading = eager_terms(prepared, max(lengths), sum(lengths), in_pieces=len(lengths) > 1)
    elif prepared.is_generating:
        reading = eager_terms(prepared, 1, GENERATED_SEQUENCES)
    if prepared.is_generating:
        reading.append(MemoryTerm("keys and values of own texts", _generated_bytes(prepared)))
    moments = 4 * prepared.checkpoint.config.hidden_size**2 if "moments" in statistics else 0
    return [
        tokenizer_term(prepared, holes=0),
        *reading,
        *([MemoryTerm("moments of inputs", moments)] if moments else []),
    ]


def _generated_bytes(prepared: Preparation) -> int:
    config = prepared.checkpoint.config
    values = sum(2 * config.layers[layer].key_value_size for layer in config.cached_layers)
    rows = sum(_calibration_lengths(prepared))
    logits = _LOGITS_COPIES * GENERATED_SEQUENCES * config.vocab_size
    return 4 * (values * rows + logits)


def _golden(prepared: Preparation) -> list[MemoryTerm]:
    ways = golden_ways(prepared)
    rows = min(max(golden_tokens(prepared), text_rows(prepared)), PIECE_ROWS)
    logits_bytes = ways * rows * prepared.checkpoint.config.vocab_size * 4
    return [
        tokenizer_term(prepared, holes=_HOLES_BYTES),
        # All sequences are read in all ways at once, from the same weights.
        *eager_terms(prepared, longest_pass(prepared), ways * all_tokens(prepared)),
        MemoryTerm("rows of logits", _LOGITS_COPIES * logits_bytes),
    ]


def _is_quantized(prepared: Preparation) -> bool:
    return any(rule.scheme is not None for rule in prepared.rules.values())


def _largest_stored(prepared: Preparation) -> int:
    """Return the bytes of the largest tensor in the weight store."""
    sizes = []
    for name, rule in prepared.rules.items():
        bits = rule.scheme.bits if rule.scheme else 32
        sizes.append(math.prod(prepared.checkpoint.shape(name)) * bits // 8)
    return max(sizes)


def _rotary_bytes(prepared: Preparation) -> int:
    columns = sum(rotary.dim for rotary in prepared.checkpoint.config.rotaries)
    return columns * prepared.caches.context_length * 4
