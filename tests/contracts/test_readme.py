"""The README's tree names what is there, sorted, and nothing else."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def tree_entries() -> list[str]:
    block = re.search(r"```tree\n(.*?)```", README, re.DOTALL)
    assert block, "README.md has no ```tree block"
    return [line.split()[0] for line in block.group(1).splitlines() if line.strip()]


def test_tree_lists_every_tracked_entry_of_the_top_folder() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = {
        first + ("/" if rest else "")
        for first, _, rest in (path.partition("/") for path in listed.stdout.splitlines())
        if not first.startswith(".")
    }
    named = {entry for entry in tree_entries() if entry.rstrip("/").count("/") == 0}
    assert named == tracked


def test_tree_is_sorted_and_every_entry_exists() -> None:
    entries = tree_entries()
    assert entries == sorted(entries)
    for entry in entries:
        assert (ROOT / entry).exists(), f"README's tree names {entry}, which does not exist"


def test_readme_shows_both_set_up_commands() -> None:
    assert "make demo" in README and "make test" in README
