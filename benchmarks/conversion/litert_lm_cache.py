"""Loads a .litertlm file once, so that its packed weights are in a cache file for later loads."""

import argparse
from pathlib import Path

import litert_lm


def main() -> None:
    """Read the command line and load."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("artifact")
    parser.add_argument("cache", type=Path)
    parser.add_argument("--context", type=int, required=True)
    arguments = parser.parse_args()
    arguments.cache.mkdir(exist_ok=True)
    for old in arguments.cache.iterdir():
        old.unlink()
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.FATAL)
    litert_lm.Engine(
        arguments.artifact,
        backend=litert_lm.Backend.CPU(),
        max_num_tokens=arguments.context,
        cache_dir=str(arguments.cache),
    ).close()


if __name__ == "__main__":
    main()
