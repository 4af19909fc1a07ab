"""A rule that matches nothing is refused by name, unless its recipe ships with the product."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pocketlm.cli import main
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.planned_bundle import BuildChoices, plan_bundle
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.recipe import QuantRecipe, QuantRule
from pocketlm.edge_build.quantization.rules import refuse_unmatched
from pocketlm.models import shapes

NAMES = (
    "embed_tokens",
    *(f"layers.{n}.{part}" for n in range(12) for part in ("attention_norm", "mlp.down_proj")),
    *(f"layers.{n}.mlp.up_proj" for n in range(12)),
    "norm",
)


def recipe_of(*patterns: str) -> QuantRecipe:
    return QuantRecipe("mine.toml", tuple(QuantRule(one, None, "a test") for one in patterns))


@pytest.mark.parametrize(
    ("pattern", "advice"),
    [
        ("layers.*.mlp.dwn_proj", "the nearest are layers.*.mlp.down_proj, "),
        ("layers.12.mlp.up_proj", "the nearest are layers.*.mlp.up_proj, "),
        ("mlp.down_proj", "the nearest are layers.*.mlp.down_proj, "),
        ("Embed_tokens", "the nearest are embed_tokens, "),
        ("lm_head", "embed_tokens is the head too;"),
        ("layers", "the nearest are "),
        ("", "the nearest are "),
    ],
)
def test_a_pattern_that_matches_nothing_is_named_with_the_nearest(
    pattern: str, advice: str
) -> None:
    with pytest.raises(BuildError) as caught:
        refuse_unmatched(NAMES, recipe_of("embed_tokens", pattern, "*"))
    begin = f"--recipe mine.toml: the rule for {pattern!r} matches no weight of this model; "
    assert str(caught.value).startswith(begin + advice)


@pytest.mark.parametrize(
    "patterns", [("*",), ("*", "norm"), ("layers.1?.*", "layers.[0-9].*", "*norm", "*")]
)
def test_patterns_that_match_are_accepted_though_earlier_ones_decide(
    patterns: tuple[str, ...],
) -> None:
    refuse_unmatched(NAMES, recipe_of(*patterns))


def test_recipes_of_the_product_are_for_tied_models_too() -> None:
    recipe = recipes.load("int4-g32").with_method("gptq")
    assert recipes.is_shipped(recipe)
    assert "lm_head" in {rule.pattern for rule in recipe.rules}


def test_a_build_and_a_plan_stop_before_anything_is_written(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    mine, out = tmp_path / "mine.toml", tmp_path / "out"
    mine.write_text('[[rules]]\npattern = "layers.*.ffn"\nbits = 8\n[[rules]]\npattern = "*"\n')
    arguments = ("build", tiny_checkpoint("gemma3_text"), "--out", out, "--recipe", mine)
    result = CliRunner().invoke(main, [*map(str, arguments), "--backend", "onnx"])
    assert result.exit_code == 2
    assert "--recipe mine.toml: the rule for 'layers.*.ffn' matches no weight" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]
    with pytest.raises(BuildError, match=r"the rule for 'layers\.\*\.ffn' matches no weight"):
        plan_bundle("270m", shapes.load("gemma-3-270m").config, BuildChoices(recipe=str(mine)))
