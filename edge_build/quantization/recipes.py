"""The named recipes, as data, recipes from a TOML file, and those that a manifest keeps.

To add one, append it to `RECIPES`: its rules are tried in order, so the last must match everything.
`build --recipe`, `list recipes` and the planned bundles of `fit` take it from there. Then add its
row to the table in docs/quantization.md, and its name to `_SMALLER_RECIPES` of
device_tests/fit/variants.py if `fit` shall propose it.
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.recipe import (
    DEFAULT_METHOD,
    QuantRecipe,
    QuantRule,
    QuantScheme,
)
from pocketlm.runtime_py.errors import unknown_name
from pocketlm.runtime_py.manifest import RecipeRule

T = TypeVar("T", str, int)

# The table that is gathered from, and the head that is often the same tensor.
EMBEDDING_PATTERNS = ("embed_tokens", "lm_head")


def _embedding_rules(scheme: QuantScheme | None, reason: str) -> tuple[QuantRule, ...]:
    return tuple(QuantRule(pattern, scheme, reason) for pattern in EMBEDDING_PATTERNS)


def _grouped(group_size: int) -> QuantRecipe:
    scheme = QuantScheme(4, group_size)
    name = f"int4-g{group_size}"
    return QuantRecipe(
        name,
        (
            # One table for both ends: a tied model stores it once.
            *_embedding_rules(scheme, f"{name}: the embedding and head share one 4-bit table"),
            QuantRule("*", scheme, f"{name}: 4 bits, one scale per {group_size} input channels"),
        ),
    )


RECIPES: tuple[QuantRecipe, ...] = (
    QuantRecipe("none", (QuantRule("*", None, "recipe none keeps float32"),)),
    QuantRecipe(
        "int8-channel",
        (QuantRule("*", QuantScheme(8), "int8-channel: 8 bits, one scale per output channel"),),
    ),
    QuantRecipe(
        "int4-channel",
        (
            # A whole row of the vocabulary table under one 4-bit scale costs 3 dB more than
            # blocks of 32, and every logit reads it.
            *_embedding_rules(QuantScheme(4, 32), "int4-channel: embedding and head in groups"),
            QuantRule("*", QuantScheme(4), "int4-channel: 4 bits, one scale per output channel"),
        ),
    ),
    QuantRecipe(
        "int4-g32-head8",
        (
            *_embedding_rules(QuantScheme(8), "int4-g32-head8: every logit reads the table"),
            QuantRule("*", QuantScheme(4, 32), "int4-g32-head8: 4 bits in groups of 32"),
        ),
    ),
    QuantRecipe(
        "int8-head4",
        (
            # Calibrated where it is the head too, on a text of 512 tokens: seconds of work for a
            # third of what the recipe loses. A head of its own would take a pass of every layer.
            QuantRule(
                "embed_tokens",
                QuantScheme(4, 32, "gptq"),
                "int8-head4: 4 bits in groups of 32, a token reads one row",
            ),
            QuantRule(
                "lm_head", QuantScheme(4, 32), "int8-head4: 4 bits in groups of 32, as the table"
            ),
            QuantRule("*", QuantScheme(8), "int8-head4: 8 bits, one scale per output channel"),
        ),
    ),
    _grouped(32),
    _grouped(64),
    _grouped(128),
)
# Chosen by what artifacts of a real model measure without data, not by size (docs/quantization.md,
# "Why the default is the default").
DEFAULT_RECIPE = "int8-head4"
NAMES = tuple(recipe.name for recipe in RECIPES)


def load(name: str) -> QuantRecipe:
    """Return a recipe by name, or read it from a path that ends in .toml.

    Raises:
        BuildError: no such recipe, or a file that is not one.
    """
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    if name.endswith(".toml"):
        return _read_toml(Path(name))
    raise BuildError(f"{unknown_name('--recipe', name, NAMES)}, or the path of a .toml file")


def is_shipped(recipe: QuantRecipe) -> bool:
    """Say whether a recipe is one of `RECIPES`, whatever its methods are."""
    return recipe.name in NAMES


def recorded(recipe: QuantRecipe) -> tuple[RecipeRule, ...]:
    """Return a recipe's rules as a manifest keeps them."""
    return tuple(
        RecipeRule(rule.pattern, 32, None, rule.reason)
        if rule.scheme is None
        else RecipeRule(
            rule.pattern,
            rule.scheme.bits,
            rule.scheme.group_size,
            rule.reason,
            rule.scheme.method,
            rule.scheme.zero_points,
            rule.scheme.scale_dtype,
        )
        for rule in recipe.rules
    )


def of_record(name: str, rules: Iterable[RecipeRule]) -> QuantRecipe:
    """Return the recipe of recorded rules.

    Raises:
        BuildError: a group size that no recipe has.
    """
    return QuantRecipe(
        name,
        tuple(
            QuantRule(
                rule.pattern,
                None
                if rule.bits == 32
                else QuantScheme(
                    rule.bits,
                    rule.group_size,
                    rule.method or DEFAULT_METHOD,
                    rule.zero_points,
                    rule.scale_dtype,
                ),
                rule.reason,
            )
            for rule in rules
        ),
    )


def parse(path: Path, text: str) -> QuantRecipe:
    """Read the text of a recipe file.

    Args:
        path: names it.

    Raises:
        BuildError: it is no recipe.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BuildError(f"--recipe {path}: cannot be read as TOML: {error}") from error
    rules = document.get("rules")
    if not isinstance(rules, list) or not rules:
        raise BuildError(f"--recipe {path}: needs at least one [[rules]] table with a pattern")
    # With its ending, so that no file passes for the built-in recipe of the same name.
    return QuantRecipe(path.name, tuple(_read_rule(path, entry) for entry in rules))


def _read_toml(path: Path) -> QuantRecipe:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BuildError(f"--recipe {path}: no such file") from error
    except (OSError, ValueError) as error:
        raise BuildError(f"--recipe {path}: cannot be read as TOML: {error}") from error
    return parse(path, text)


def _read_rule(path: Path, entry: Any) -> QuantRule:
    known = {"pattern", "bits", "group_size", "method", "reason"}
    if not isinstance(entry, dict) or "pattern" not in entry or set(entry) - known:
        raise BuildError(
            f"--recipe {path}: rule {entry!r} must have a pattern, and may have bits "
            "(4, 8 or 32), group_size, method and reason"
        )
    pattern = _typed(path, entry, "pattern", str, "")
    bits = _typed(path, entry, "bits", int, 32)
    group_size = _typed(path, entry, "group_size", int, None)
    method = _typed(path, entry, "method", str, DEFAULT_METHOD)
    reason = _typed(path, entry, "reason", str, f"{path.name}: {pattern}")
    assert pattern is not None
    assert reason is not None
    assert method is not None
    try:
        methods.load(method)
        if bits != 32:
            return QuantRule(pattern, QuantScheme(bits or 0, group_size, method), reason)
    except BuildError as error:
        raise BuildError(f"--recipe {path}: rule for {pattern!r}: {error}") from error
    if group_size is not None:
        raise BuildError(
            f"--recipe {path}: rule {pattern!r} has group_size={group_size} and no bits; give "
            "bits = 4, or leave group_size out to keep float32"
        )
    return QuantRule(pattern, None, reason)


def _typed(
    path: Path, entry: dict[str, Any], key: str, kind: type[T], default: T | None
) -> T | None:
    value = entry.get(key, default)
    if value is not default and type(value) is not kind:
        wanted = "a string" if kind is str else "a whole number"
        raise BuildError(f"--recipe {path}: {key} = {value!r} must be {wanted}")
    return value
