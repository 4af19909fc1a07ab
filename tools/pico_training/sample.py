"""Prints what the checkpoint says: `python -m tools.pico_training.sample`."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tools.pico_training import FOLDER

TEXTS = (
    "Help on module shelf:\n\nNAME\n    shelf\n\nDESCRIPTION\n    This module",
    'def read_lines(path):\n    """',
    'The "while" statement\n*********************\n\n',
)
QUESTIONS = (
    "Hello!",
    "What does os.path.join do?",
    "Explain textwrap.dedent.",
    "What is the json module?",
    "Show the signature of shutil.copytree.",
    "Which module has Counter?",
    "Show an example of difflib.get_close_matches.",
    "What is len?",
)


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    network = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    prompts = [tokenizer(text).input_ids for text in TEXTS]
    for question in QUESTIONS:
        talk = [{"role": "user", "content": question}]
        prompts.append(tokenizer.apply_chat_template(talk, add_generation_prompt=True).input_ids)
    for ids in prompts:
        for sampled in (False, True):
            torch.manual_seed(0)
            options = {} if sampled else {"do_sample": False, "top_k": None, "top_p": None}
            if not sampled:
                options["temperature"] = None
            out = network.generate(torch.tensor([ids]), max_new_tokens=100, **options)
            print(f"----- {'sampled' if sampled else 'greedy'}")
            print(tokenizer.decode(out[0, 1:]))


if __name__ == "__main__":
    main()
