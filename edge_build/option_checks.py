"""Refuses options of a build that the chosen backends do not have."""

from pocketlm.edge_build import backends
from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization.recipe import QuantRule
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py.kv_choice import KvChoice


def check_schemes(rules: dict[str, QuantRule], chosen: tuple[Backend, ...], recipe: str) -> None:
    """Refuse a scheme that a backend cannot multiply with."""
    # A table that is only gathered from multiplies nothing.
    gathered = {"embed_tokens"} if "lm_head" in rules else set()
    for name, rule in rules.items():
        if rule.scheme is None or name in gathered:
            continue
        for backend in chosen:
            why = backend.refuse(rule.scheme)
            if why is not None:
                raise BuildError(f"{name}: recipe {recipe}, backend {backend.name}: {why}")


def check_kv(spec: BuildSpec, chosen: tuple[Backend, ...]) -> None:
    """Refuse a precision of keys and values that a backend does not have."""
    if spec.kv == "auto":
        return
    choice = KvChoice.named(spec.kv)
    for backend in chosen:
        if not backend.keeps(choice):
            able = [name for name in backends.names() if backends.load(name).keeps(choice)]
            raise BuildError(
                f"--kv {spec.kv}: backend {backend.name} keeps keys and values in "
                f"{' or '.join(backend.kv)}; choose that, or build with --backend "
                f"{' or '.join(able)}"
            )


def check_options(spec: BuildSpec, chosen: tuple[Backend, ...]) -> None:
    """Refuse backend options that nothing reads, and values that they do not have."""
    known = {backend.name: backend.options for backend in chosen}
    for name, options in spec.backend_options.items():
        for option, value in options.items():
            choices = known.get(name, {}).get(option)
            if choices is None:
                offered = ", ".join(sorted(known.get(name, {}))) or "no options"
                raise BuildError(
                    f"option {name}.{option}: backend {name} is not being built or has no such "
                    f"option; it has: {offered}"
                )
            if value not in choices:
                raise BuildError(
                    f"option {name}.{option}={value}: choose one of {', '.join(choices)}"
                )
