"""Checks all input of a build before it writes a byte, and keeps what it read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pocketlm.edge_build import backends
from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.calibration.measured import InputStatistic, Sequences, Statistic
from pocketlm.edge_build.calibration.text import text_sequences
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.kv_cache import CachePlan, check_choice, plan_caches
from pocketlm.edge_build.kv_rule import kv_candidates
from pocketlm.edge_build.mixed_precision.recipe_budget import RecipeBudget
from pocketlm.edge_build.mixed_precision.recipe_writing import mixed_recipe
from pocketlm.edge_build.option_checks import check_kv, check_options, check_schemes
from pocketlm.edge_build.quantization import methods, recipes
from pocketlm.edge_build.quantization.folds import FoldGroup, fold_groups, fold_notes
from pocketlm.edge_build.quantization.own_recipe import (
    OWN_RECIPE,
    find_grids,
    keep_own_codes,
    own_grid_notes,
    own_recipe,
    shared_weights_notes,
)
from pocketlm.edge_build.quantization.recipe import (
    DEFAULT_METHOD,
    QuantRecipe,
    QuantRule,
    QuantScheme,
)
from pocketlm.edge_build.quantization.recipes import DEFAULT_RECIPE
from pocketlm.edge_build.quantization.rules import choose_rules, refuse_unmatched
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.edge_build.staging import refuse_existing
from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.edge_build.text_files import TextFiles, read_text_files
from pocketlm.models.checkpoint import Checkpoint, open_checkpoint
from pocketlm.runtime_py.kv_choice import KvChoice
from pocketlm.runtime_py.manifest import MANIFEST_NAME

# It measures what `--kv auto` chooses among.
KV_STAGE = "kv"


@dataclass(frozen=True)
class Preparation:
    """A checked build.

    Attributes:
        rules: what happens to each weight.
        calibration: tokens of the user's text; empty where the model's own or the built-in text is
            read, if any.
        recipe_toml: the file of a recipe that was planned for this build; None before it is, and
            where another recipe was asked for.
        weight_notes: what the build says of weights whose own codes it does not keep, or that it
            does not fold.
        measured_kv: what keys and values are kept in by backend, as it was measured; empty before,
            and where the user named it.
    """

    spec: BuildSpec
    recipe: QuantRecipe
    rules: dict[str, QuantRule]
    backends: tuple[Backend, ...]
    checkpoint: Checkpoint
    text: TextFiles
    caches: CachePlan
    calibration: Sequences = ()
    weight_notes: tuple[str, ...] = ()
    recipe_toml: str | None = None
    measured_kv: Mapping[str, KvChoice] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a build prints for the user."""
        return (*self.checkpoint.notes, *self.text.notes, *self.weight_notes)

    def kv_choices(self, backend: Backend) -> tuple[KvChoice, ...]:
        """Return what was asked for; with `--kv auto` all that is tried, most bytes first."""
        if self.spec.kv == "auto":
            return kv_candidates(self.caches, backend.kv, mixes=backend.stock_runner_mixes_kv)
        return (KvChoice.named(self.spec.kv),)

    @property
    def measures_kv(self) -> bool:
        """Whether the build measures what keys and values are kept in."""
        return any(len(self.kv_choices(backend)) > 1 for backend in self.backends)

    def caches_of(self, backend: Backend) -> CachePlan:
        """Return the caches as a backend stores values at the precision asked for, or measured."""
        choices = self.kv_choices(backend)
        if len(choices) > 1:
            assert backend.name in self.measured_kv, "not measured yet"
            choices = (self.measured_kv[backend.name],)
        return backend.stored(self.caches, choices[0])

    @property
    def method_names(self) -> tuple[str, ...]:
        """The methods that choose codes and scales."""
        schemes = (rule.scheme for rule in self.rules.values())
        return tuple(sorted({scheme.method for scheme in schemes if scheme is not None}))

    @property
    def method_statistics(self) -> tuple[InputStatistic, ...]:
        """What methods need to know of inputs that quantized layers give, so of all but a table."""
        found = {
            kind
            for name in self.weights_with_text
            if name != "embed_tokens"
            for kind in self._method_of(name).statistics
        }
        return tuple(sorted(found))

    @property
    def fold_groups(self) -> tuple[FoldGroup, ...]:
        """The weights whose input channels are scaled before they are quantized."""
        return fold_groups(self.checkpoint.config, self.rules)

    @property
    def weights_with_text(self) -> tuple[str, ...]:
        """The weights whose method reads a calibration text.

        A table that is only looked up has no inputs to be calibrated on.
        """
        looked_up = {"embed_tokens"} if "lm_head" in self.rules else set()
        quantized = (name for name, rule in self.rules.items() if rule.scheme is not None)
        return tuple(
            name for name in quantized if name not in looked_up and self._method_of(name).needs_text
        )

    def _method_of(self, name: str) -> methods.Method:
        scheme = self.rules[name].scheme
        assert scheme is not None, "asked for quantized weights only"
        return methods.load(scheme.method)

    @property
    def float_statistics(self) -> tuple[tuple[Statistic, ...], tuple[str, ...]]:
        """What the float model is measured for, and the weights whose inputs that are.

        Bounds of keys and values, for constant scales of caches; and the inputs of a head that is
        the table, which is quantized before a quantized model can run.
        """
        plans = (
            backend.stored(self.caches, choice)
            for backend in self.backends
            for choice in self.kv_choices(backend)
        )
        constant = any(c.quantization == "per_channel" for plan in plans for c in plan.layers)
        bounds: tuple[Statistic, ...] = ("kv_bounds",) if constant else ()
        table = self.rules["embed_tokens"].scheme
        if table is None or "lm_head" in self.rules:
            return bounds, ()
        wanted = methods.load(table.method).statistics
        # Nothing runs beside the float model itself.
        alone = tuple(sorted(kind for kind in wanted if kind != "cross_moments"))
        return (*alone, *bounds), ("embed_tokens",) if alone else ()

    @property
    def is_generating(self) -> bool:
        """Whether the model writes the text that methods need.

        A table alone needs so little that the built-in text has it.
        """
        layers = set(self.weights_with_text) - {"embed_tokens"}
        return bool(layers) and not self.calibration

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages of this build that a later run could take over, in order."""
        needed = self.weights_with_text or self.float_statistics[0]
        calibrate = ("calibrate",) if needed else ()
        fold = ("fold",) if self.fold_groups else ()
        kv = (KV_STAGE,) if self.measures_kv else ()
        return (
            *calibrate,
            *fold,
            "quantize",
            *kv,
            *(backend.name for backend in self.backends),
            "golden",
        )

    def options_of(self, backend: Backend) -> dict[str, str]:
        """Return the value of every option of a backend."""
        defaults = {option: choices[0] for option, choices in backend.options.items()}
        return {**defaults, **self.spec.backend_options.get(backend.name, {})}

    @property
    def quantized_shapes(self) -> tuple[tuple[QuantScheme, int], ...]:
        """The scheme of each quantized weight, and its input channels."""
        return tuple(
            (rule.scheme, self.checkpoint.shape(name)[1])
            for name, rule in self.rules.items()
            if rule.scheme is not None
        )

    @property
    def parameters(self) -> int:
        return sum(math.prod(self.checkpoint.shape(name)) for name in self.rules)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights in the store: codes with float32 scales, or float32."""
        total = 0.0
        for name, rule in self.rules.items():
            shape = self.checkpoint.shape(name)
            if rule.scheme is None:
                total += 4 * math.prod(shape)
            else:
                scales = shape[0] * rule.scheme.groups(shape[1])
                total += math.prod(shape) * rule.scheme.bits / 8 + 4 * scales
        return int(total)

    @property
    def disk_bytes(self) -> int:
        """Bytes that the build writes at most: the store, and two such for each artifact."""
        return self.weight_bytes * (1 + 2 * len(self.backends))


def prepare(spec: BuildSpec, recipe_toml: str | None = None) -> Preparation:
    """Check everything that can be checked from headers.

    Where bits a weight are asked for, rules are provisional until the recipe is planned: of as many
    bytes.

    Args:
        recipe_toml: of the planned recipe.

    Raises:
        ModelError, BuildError: the checkpoint or the options do not allow the build.
    """
    refuse_existing(spec.out, spec.replace)
    _refuse_bundle(spec.checkpoint)
    named = _named_recipe(spec)
    chosen = tuple(backends.load(name) for name in dict.fromkeys(spec.backends or backends.names()))
    check_options(spec, chosen)
    check_kv(spec, chosen)
    checkpoint = open_checkpoint(spec.checkpoint)
    config = checkpoint.config
    files = CheckpointFiles.of(checkpoint, spec.tokenizer)
    text = read_text_files(files, config)
    context_length = spec.resolved_context(config.max_position_embeddings)
    chunk = spec.resolved_chunk(context_length)
    caches = plan_caches(config, context_length, chunk, spec.resolved_logits_rows(chunk))
    if spec.kv != "auto":
        check_choice(caches, KvChoice.named(spec.kv))
    grids = find_grids(checkpoint)
    asked = spec.recipe == OWN_RECIPE
    free = spec.recipe is None and spec.method is None and spec.bits_per_weight is None
    is_own = asked or (free and grids.decide)
    recipe = own_recipe(checkpoint, grids, chosen) if is_own else named
    if spec.bits_per_weight is not None:
        method = spec.method or DEFAULT_METHOD
        budget = RecipeBudget.of(checkpoint, spec.bits_per_weight, method)
        recipe = mixed_recipe(budget, recipe_toml)
    if not recipes.is_shipped(recipe):
        refuse_unmatched(checkpoint.names(), recipe)
    rules = keep_own_codes(choose_rules(checkpoint.shapes, recipe), grids, chosen)
    check_schemes(rules, chosen, recipe.name)
    calibration: Sequences = ()
    if spec.calibration_text is not None:
        calibration = text_sequences(
            spec.calibration_text, text, context_length, spec.resolved_calibration_tokens
        )
    weight_notes = (
        *own_grid_notes(rules, grids, recipe.name, checkpoint),
        *shared_weights_notes(rules, grids, chosen),
        *fold_notes(config, rules),
    )
    prepared = Preparation(
        spec,
        recipe,
        rules,
        chosen,
        checkpoint,
        text,
        caches,
        calibration,
        weight_notes,
        recipe_toml,
    )
    _check_calibration(prepared)
    return prepared


def _named_recipe(spec: BuildSpec) -> QuantRecipe:
    """Return the recipe for a checkpoint that has none of its own."""
    keeps_grid = spec.recipe == OWN_RECIPE
    named = recipes.load(DEFAULT_RECIPE if keeps_grid else spec.recipe or DEFAULT_RECIPE)
    if spec.method is None:
        return named
    methods.load(spec.method)
    if keeps_grid:
        raise BuildError(
            f"--method {spec.method}: recipe {OWN_RECIPE} keeps the checkpoint's own codes, so "
            "there is nothing to choose; leave one of them out"
        )
    return named.with_method(spec.method)


def _check_calibration(prepared: Preparation) -> None:
    """Refuse a method without its data, and a text that nothing reads."""
    path, method = prepared.spec.calibration_text, prepared.spec.method
    if method is not None and not prepared.method_names:
        raise BuildError(
            f"--method {method}: recipe {prepared.recipe.name} keeps float32, so there is nothing "
            "to choose; leave it out, or take another recipe"
        )
    planned = prepared.spec.bits_per_weight is not None
    needed = planned or prepared.weights_with_text or prepared.float_statistics[0]
    if path is not None and not (needed or prepared.measures_kv):
        raise BuildError(
            f"--calibrate {path}: no method of this build needs data; add --method gptq, or leave "
            "it out"
        )


def _refuse_bundle(folder: Path) -> None:
    if (folder / MANIFEST_NAME).is_file() and not (folder / "config.json").exists():
        raise BuildError(
            f"{folder}: a bundle, built already; run it with pocketlm run {folder} --prompt TEXT, "
            "or give the checkpoint that it was built from"
        )
