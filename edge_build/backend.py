"""What a backend folder must offer: one constant, BACKEND, found by folder name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pocketlm.edge_build.kv_cache import CachePlan
from pocketlm.edge_build.kv_scales import KvScales
from pocketlm.edge_build.lowered_cache import NO_CACHE, LoweredCache
from pocketlm.edge_build.lowering_memory import UNMEASURED, LoweringMemory
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py.components import Component
from pocketlm.runtime_py.kv_choice import KvChoice, KvPrecision
from pocketlm.runtime_py.manifest import (
    ActivationQuantization,
    AttentionQuantization,
    CacheEntry,
    CacheQuantization,
)
from pocketlm.runtime_py.memory_model import RunChoices
from pocketlm.runtime_py.sampling import SamplingOptions


@dataclass(frozen=True)
class LoweringInput:
    """Everything that a backend turns into an artifact.

    Attributes:
        caches: values stored as this backend does at the precision asked for.
        kv_scales: constant scales, where `caches` are "per_channel".
        stop_ids, bos_id, pad_id: for stock runners' metadata.
        tokenizer_size: ids that the tokenizer can give; some stock runners read as many logits.
        options: backend options from the command line, by name.
        advance: called with (done, total, what) for progress.
        sampling: the published defaults, for stock runners' metadata.
        lowered: what was lowered before, for backends whose lowering takes long.
    """

    config: ModelConfig
    weights: WeightStore
    caches: CachePlan
    stop_ids: tuple[int, ...]
    bos_id: int | None
    pad_id: int | None
    tokenizer_size: int
    options: Mapping[str, str] = field(default_factory=dict)
    advance: Callable[[int, int, str], None] = lambda done, total, what: None
    kv_scales: KvScales | None = None
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    lowered: LoweredCache = NO_CACHE


@dataclass(frozen=True)
class Artifact:
    """What a backend made: files in its folder, and what the manifest says of them.

    Attributes:
        model: path of the file that the runtime opens, relative to the bundle.
        files: every file written, relative to the bundle.
        components: what of the files runtimes call, as the files say.
        logits_rows: as a manifest's; a backend need not have more than one.
    """

    model: str
    files: tuple[str, ...]
    activation_quantization: ActivationQuantization
    runtime_floor: Mapping[str, str]
    caches: tuple[CacheEntry, ...]
    rewind_tokens: int | None
    logits_size: int
    components: tuple[Component, ...]
    options: Mapping[str, str]
    attention_quantization: AttentionQuantization = "none"
    logits_rows: int = 1


class Lower(Protocol):
    def __call__(self, source: LoweringInput, bundle: Path) -> Artifact:
        """Write the artifact below `bundle / backend name`."""
        ...


class PlanArtifact(Protocol):
    def __call__(
        self, config: ModelConfig, plan: CachePlan, options: Mapping[str, str]
    ) -> RunChoices:
        """Return what a manifest will say of an artifact with these caches.

        `options` has no defaults.
        """
        ...


# Config and caches as a backend stores them → what it rounds there.
RoundedAttention = Callable[[ModelConfig, CachePlan], AttentionQuantization]


def no_rounded_attention(config: ModelConfig, plan: CachePlan) -> AttentionQuantization:
    """Return what a backend rounds that keeps keys and values whole."""
    return "none"


def true_rings(config: ModelConfig, plan: CachePlan, options: Mapping[str, str]) -> RunChoices:
    """Local layers have true rings, and no option changes how the artifact is run."""
    return RunChoices(plan.layers, dict(options), config.vocab_size, plan.logits_rows)


@dataclass(frozen=True)
class Backend:
    """One backend.

    Attributes:
        lower: LoweringInput, bundle folder → Artifact.
        options: names of the options it takes, each with its choices; the first is the default.
        kv: precisions that it can keep keys and values in, each with how it stores them.
        stock_runner_mixes_kv: its stock LLM runner has caches of two precisions in one model.
        plan_artifact: what shapes decide before anything is built.
        tokenizer_repairs: what its stock runner needs of tokenizer.json, by the names of
            edge_build/runner_files/repairs.
        template_repairs: likewise of the chat template.
        refuse: why no product can have weights of a scheme; None if it can.
        tools: distributions whose versions shape the bytes of its artifacts.
        lowering_memory: what its lowering holds.
        activations: what its products round of their inputs, where weights are quantized.
        attention: what its attention rounds with some caches.
    """

    name: str
    lower: Lower
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kv: Mapping[KvPrecision, CacheQuantization] = field(default_factory=lambda: {"float32": "none"})
    stock_runner_mixes_kv: bool = True
    plan_artifact: PlanArtifact = true_rings
    tokenizer_repairs: tuple[str, ...] = ()
    template_repairs: tuple[str, ...] = ()
    refuse: Callable[[QuantScheme], str | None] = lambda scheme: None
    tools: tuple[str, ...] = ()
    lowering_memory: LoweringMemory = UNMEASURED
    activations: ActivationQuantization = "none"
    attention: RoundedAttention = no_rounded_attention

    def keeps(self, choice: KvChoice) -> bool:
        """Say whether caches can be kept so."""
        return {choice.local, choice.global_} <= self.kv.keys()

    def stored(self, plan: CachePlan, choice: KvChoice) -> CachePlan:
        """Return a plan whose caches are kept as this backend keeps such precisions."""
        return plan.stored(self.kv[choice.local], self.kv[choice.global_])
