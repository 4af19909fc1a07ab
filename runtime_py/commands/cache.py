"""pocketlm cache: what lies in the user's cache, and how to remove it."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from pocketlm.runtime_py.commands.flags import json_option
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.terminal import say
from pocketlm.runtime_py.user_cache import cache_folder, lowered_folder

EVERYTHING = "all"
# Jobs on this machine lie there too; `pocketlm jobs` lists and removes those.
KINDS = {
    "lowered": "lowered programs: a build of the same shapes skips lowering",
    "evaluations": "what `pocketlm eval` measured, token by token",
    "sensitivities": "what single weights cost, for mixed-precision recipes",
    "advice": "bundles that `pocketlm advise` built, and what it measured",
    "runners": "runners for devices, compiled",
    "packages": "runtimes of other processors, for runners",
    "doubles": "emulated devices of `make test-devices`",
    "tests": "published tokenizers and weights of `make test-assets`",
}


@dataclass(frozen=True)
class Held:
    """One kind of thing in the cache."""

    name: str
    what: str
    path: str
    files: int
    size_bytes: int


@click.command("cache", short_help="List or remove cached files.")
@click.argument("action", type=click.Choice(["list", "remove"]), default="list", required=False)
@click.argument("kind", metavar="[WHAT]", required=False)
@json_option
def cache(action: str, kind: str | None, as_json: bool) -> None:
    """List or remove cached files, such as lowered programs.

    They are in $POCKETLM_CACHE, else in the user's cache. If you remove them, pocketlm makes or
    downloads them again when it needs them. WHAT is a name of the list, or `all`.

    \b
    Examples:
      pocketlm cache list
      pocketlm cache remove lowered
      pocketlm cache remove all --json
    """
    if action == "list" and kind is not None:
        raise RunError(f"cache list {kind}: list takes no name; did you mean cache remove {kind}?")
    if action == "remove" and kind not in (*KINDS, EVERYTHING):
        raise RunError(
            f"cache remove {kind or ''}: name what to remove, one of {', '.join(KINDS)}, or "
            f"{EVERYTHING}"
        )
    wanted = KINDS if kind in (None, EVERYTHING) else (str(kind),)
    held = [found for name in wanted if (found := _held(name)).files]
    if action == "remove":
        for entry in held:
            _remove(Path(entry.path))
    if as_json:
        document = {"action": action, "held": [asdict(entry) for entry in held]}
        click.echo(json.dumps(document, indent=1))
        return
    for entry in held:
        done = "removed " if action == "remove" else ""
        size = f"{entry.size_bytes / 1e6:,.1f} MB in {entry.files:,} files"
        say(f"{done}{entry.name:9} {size:28} {entry.what}")
    if not held:
        say(f"nothing in {cache_folder()}")


def _folder(name: str) -> Path:
    return lowered_folder() if name == "lowered" else cache_folder() / name


def _held(name: str) -> Held:
    folder = _folder(name)
    sizes = [p.lstat().st_size for p in folder.rglob("*") if p.is_symlink() or p.is_file()]
    return Held(name, KINDS[name], str(folder), len(sizes), sum(sizes))


def _remove(folder: Path) -> None:
    """Remove a folder; of a link only the link."""
    try:
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be removed ({error.strerror}: {error.filename}); end what uses it "
            "or change its rights, and run the command again"
        ) from error
