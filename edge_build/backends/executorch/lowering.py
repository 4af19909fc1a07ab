"""LoweringInput → executorch/model.pte, checked: what was meant to be quantized is."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from pocketlm.edge_build.backend import Artifact, LoweringInput
from pocketlm.edge_build.backends.executorch.choices import (
    ACTIVATIONS,
    DELEGATE,
    UNROLL,
    rounded_attention,
)
from pocketlm.edge_build.backends.executorch.inspection import ProgramReport, inspect_program
from pocketlm.edge_build.backends.executorch.metadata import constant_methods
from pocketlm.edge_build.backends.executorch.program import logits_size, simplify_views, trace
from pocketlm.edge_build.backends.executorch.shared_constants import write_shared
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.models.decoder import Decoder
from pocketlm.runtime_py.components import DECODER, Component
from pocketlm.runtime_py.engines.executorch.deferred_packages import load_program_modules
from pocketlm.runtime_py.engines.executorch.metadata import Constant
from pocketlm.runtime_py.engines.executorch.program_file import quiet_libraries
from pocketlm.runtime_py.manifest import ActivationQuantization

FILE = "executorch/model.pte"
# Least version on which every operator of these programs was seen to run.
RUNTIME_FLOOR = {"executorch": "1.5.1"}

# Outside a delegate each of these would mean that a matrix product fell back to slow kernels.
# Choosing scales is no sign of it: int8 caches do that, but restore nothing outside delegates.
_FALLEN_BACK = ("linear", "addmm", "::mm", "bmm", "dequantize")
STEPS = 5


def lower(source: LoweringInput, bundle: Path) -> Artifact:
    """Write `executorch/model.pte` below the bundle.

    Raises:
        BuildError: executorch is missing, or the lowered program is not what the recipe asked for.
    """
    path = bundle / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet_executorch():
        _write(source, path)
        source.advance(4, STEPS, "checking the file")
        report = inspect_program(path)
    check_program(source, report)
    source.advance(STEPS, STEPS, "done")
    return Artifact(
        model=FILE,
        files=(FILE,),
        activation_quantization=_activation_quantization(source),
        runtime_floor=RUNTIME_FLOOR,
        caches=source.caches.layers,
        rewind_tokens=source.caches.rewind_tokens,
        logits_size=logits_size(source),
        logits_rows=source.caches.logits_rows,
        components=(_decoder(report, len(source.caches.layers)),),
        options=DELEGATE,
        attention_quantization=rounded_attention(source.config, source.caches),
    )


def _write(source: LoweringInput, path: Path) -> None:
    # A layer that reads another's cache takes values from far before: unrolling cannot follow.
    if source.options.get(UNROLL) == "off" or source.config.shares_caches:
        _write_every_layer(source, path)
        return
    # Loaded only here, so that ExecuTorch's private modules may be missing where this is off.
    from pocketlm.edge_build.backends.executorch.unroll.writing import write_unrolled

    write_unrolled(source, path)


def _write_every_layer(source: LoweringInput, path: Path) -> None:
    lowered, _ = lowered_program(source, constant_methods(source))
    source.advance(3, STEPS, "writing the file")
    unshared = path.with_name(f"{path.name}.unshared")
    try:
        with unshared.open("wb") as file:
            lowered.write_to_file(file)
        write_shared(unshared, path)
    finally:
        unshared.unlink(missing_ok=True)


def lowered_program(source: LoweringInput, methods: Mapping[str, Constant]) -> tuple[Any, Any]:
    """Trace and lower a model as it is.

    Args:
        methods: constant methods of the program.

    Returns:
        executorch's program manager, and that of the edge dialect which it came from.
    """
    import_operators()
    from executorch.exir import (
        EdgeCompileConfig,
        ExecutorchBackendConfig,
        to_edge_transform_and_lower,
    )
    from executorch.exir.passes import MemoryPlanningPass

    source.advance(0, STEPS, "tracing")
    traced: ExportedProgram = trace(source)
    source.advance(1, STEPS, "lowering to XNNPACK")
    edge = to_edge_transform_and_lower(
        traced,
        transform_passes=[simplify_views],
        partitioner=[_partitioner()],
        constant_methods=dict(methods),
        # Its checks walk the graph twenty times; the finished file is checked instead.
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    del traced
    settings = ExecutorchBackendConfig(
        # Runners pass their own token buffers.
        memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False),
        emit_mutable_buffer_names=True,
    )
    return edge.to_executorch(settings), edge


def _partitioner() -> Any:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend
    from executorch.exir.backend.compile_spec_schema import CompileSpec
    from executorch.exir.backend.partitioner import DelegationSpec

    class Partitioner(XnnpackPartitioner):
        """Takes the same nodes, with less work before."""

        def __init__(self) -> None:
            super().__init__()
            # This key leaves out the delegate's passes for convolutions and pooling. Each of them
            # traces the graph of each delegate anew, which took two fifths of the lowering.
            specs = [CompileSpec("dqlinear_partitioner", b"")]
            self.delegation_spec = DelegationSpec(XnnpackBackend.__name__, specs)

        def ops_to_not_decompose(self, program: ExportedProgram) -> tuple[list[Any], None]:
            """Return them without a condition on nodes, which would decompose everything twice.

            Before the edge dialect one more, which only reads a size: for it alone executorch would
            decompose the whole graph once more, and change nothing. Whatever else would have to be
            decomposed is written as the operators that it becomes.
            """
            kept, _ = super().ops_to_not_decompose(program)
            if program.dialect == "ATEN":
                kept = [*kept, torch.ops.aten.sym_size.int]
            return kept, None

    return Partitioner()


def check_program(source: LoweringInput, report: ProgramReport) -> None:
    """Hold a lowered program against what was asked for.

    Raises:
        BuildError: a weight, operator or cache is not as planned.
    """
    outside = sorted(o for o in report.operators if any(part in o for part in _FALLEN_BACK))
    if outside:
        raise BuildError(
            f"executorch: {', '.join(outside)} stayed outside XNNPACK, which would run it slowly "
            "and unquantized; this executorch version lowers differently, use the pinned one"
        )
    missing = wanted_linears(source) - report.linears
    if missing:
        found = ", ".join(f"{n} × {kind} {shape}" for (kind, shape), n in missing.items())
        raise BuildError(
            f"executorch: the recipe's linear layers are not all in XNNPACK delegates, missing: "
            f"{found}; use the pinned executorch version"
        )
    planned = sum(cache.size_bytes for cache in source.caches.layers)
    found_bytes = sum(report.caches.values())
    if planned != found_bytes:
        raise BuildError(
            f"executorch: the file plans {found_bytes} bytes of key/value caches, the cache plan "
            f"says {planned}; use the pinned executorch version"
        )


def wanted_linears(source: LoweringInput) -> Counter[tuple[str, tuple[int, ...]]]:
    """Return kind and [out, in] of every linear layer that the weights ask for, counted."""
    with torch.device("meta"):
        decoder = Decoder(source.config)
    wanted: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for name, module in decoder.named_modules():
        if isinstance(module, torch.nn.Linear):
            stored = source.weights.head_name() if name == "lm_head" else name
            kind = _weight_kind(source.weights.schemes[stored])
            wanted[kind, (module.out_features, module.in_features)] += 1
    return wanted


def _decoder(report: ProgramReport, layers: int) -> Component:
    return Component(
        name=DECODER,
        file=FILE,
        entry_point="forward",
        signature=report.signature,
        caches=tuple(range(layers)),
        planned_bytes=report.planned_bytes,
    )


def _weight_kind(scheme: QuantScheme | None) -> str:
    if scheme is None:
        return "float32"
    return f"int{scheme.bits} in groups" if scheme.group_size else f"int{scheme.bits} per channel"


def _activation_quantization(source: LoweringInput) -> ActivationQuantization:
    names = set(source.weights.names()) - {"embed_tokens"} | {source.weights.head_name()}
    quantized = any(source.weights.schemes[name] is not None for name in names)
    return ACTIVATIONS if quantized else "none"


@contextmanager
def quiet_executorch() -> Iterator[None]:
    """Keep executorch's and torch's warnings and notices to themselves.

    Raises:
        BuildError: executorch is missing.
    """
    with quiet_libraries():
        try:
            load_program_modules()
        except ImportError as error:
            raise _missing(error) from error
        yield


def import_operators() -> Any:
    """Load executorch's compiler and its operators.

    Raises:
        BuildError: a part is missing.
    """
    try:
        import executorch.exir.passes.quant_fusion_pass
        import executorch.kernels.quantized  # noqa: F401
        from executorch.extension.llm.custom_ops import custom_ops
    except ImportError as error:
        raise _missing(error) from error
    return custom_ops


def _missing(error: ImportError) -> BuildError:
    return BuildError(
        f"backend executorch: cannot import its build tools ({error}); "
        "pip install 'executorch==1.5.1' with the torch that it names"
    )
