"""Recipes from TOML files: every wrong type is named, and nothing passes by chance."""

from pathlib import Path

import pytest

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.recipe import QuantRule, QuantScheme


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_says_patterns_bits_groups_and_reasons(tmp_path: Path) -> None:
    text = """
    [[rules]]
    pattern = "lm_head"
    [[rules]]
    pattern = "*"
    bits = 4
    group_size = 64
    reason = "small"
    """
    assert recipes.load(write(tmp_path, text)).rules == (
        QuantRule("lm_head", None, "mine.toml: lm_head"),
        QuantRule("*", QuantScheme(4, 64), "small"),
    )


@pytest.mark.parametrize("key", ["pattern", "reason"])
@pytest.mark.parametrize("value", ["4", "4.0", "true", "[]", "1979-05-27", "nan"])
def test_a_text_of_another_type_is_named(tmp_path: Path, key: str, value: str) -> None:
    rest = 'pattern = "*"\n' if key != "pattern" else ""
    path = write(tmp_path, f"[[rules]]\n{rest}{key} = {value}")
    with pytest.raises(BuildError, match=rf"mine\.toml: {key} = .* must be a string"):
        recipes.load(path)


@pytest.mark.parametrize("key", ["bits", "group_size"])
@pytest.mark.parametrize("value", ['""', '"4"', "4.0", "true", "[]", "[4]", "inf", "nan"])
def test_a_number_of_another_type_is_named(tmp_path: Path, key: str, value: str) -> None:
    bits = "bits = 4\n" if key != "bits" else ""
    path = write(tmp_path, f'[[rules]]\npattern = "*"\n{bits}{key} = {value}')
    with pytest.raises(BuildError, match=rf"mine\.toml: {key} = .* must be a whole number"):
        recipes.load(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bits = 5", "rule for '\\*': .*5"),
        ("bits = 0", "rule for .*0"),
        ("bits = 4\ngroup_size = 0", "rule for .*group_size"),
        ("bits = 4\ngroup_size = -32", "rule for .*group_size"),
        ("group_size = 32", "group_size=32 and no bits"),
    ],
)
def test_a_number_out_of_range_is_named_with_its_rule(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(BuildError, match=f"mine\\.toml: .*{message}"):
        recipes.load(write(tmp_path, f'[[rules]]\npattern = "*"\n{line}'))


@pytest.mark.parametrize("name", recipes.NAMES)
def test_rules_that_a_manifest_keeps_are_the_recipe_again(name: str) -> None:
    recipe = recipes.load(name)
    assert recipes.of_record(name, recipes.recorded(recipe)) == recipe


def test_a_file_called_like_a_built_in_recipe_keeps_its_own_rules(tmp_path: Path) -> None:
    path = write(tmp_path, '[[rules]]\npattern = "*"\nbits = 8', "int4-g32.toml")
    found = recipes.load(path)
    assert found.name == "int4-g32.toml"
    (rule,) = recipes.recorded(found)
    assert (rule.pattern, rule.bits, rule.group_size) == ("*", 8, None)
