"""python -m pocketlm: the command line."""

from pocketlm.cli import main

if __name__ == "__main__":
    main(prog_name="pocketlm")
