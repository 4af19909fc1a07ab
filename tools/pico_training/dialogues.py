"""Turns documented objects into chat turns; the chat template decides how they are written."""

from __future__ import annotations

import random
import re

import jinja2

from tools.pico_training import FOLDER
from tools.pico_training.corpus import Corpus, stable_hash
from tools.pico_training.docstrings import Documented

Message = dict[str, str]

MAX_ANSWER_CHARACTERS = 700
# An application and its demonstrations: documented, but nobody asks how to call them.
NOT_ASKED_ABOUT = ("idlelib", "turtledemo")
TEMPLATE = FOLDER / "chat_template.jinja"

ABOUT = (
    "What does {path} do?", "Explain {path}.", "What is {path}?", "Tell me about {path}.",
    "what does {path} do", "How do I use {path}?", "Describe {path}", "explain {path}",
    "What is {path} for?", "Can you explain {path}?",
)  # fmt: skip
ABOUT_MODULE = (
    "What is the {path} module?", "What is the {path} module for?", "Describe the module {path}.",
    "Tell me about the {path} module.", "What does {path} do?", "What is {path}?",
)  # fmt: skip
SIGNATURE = (
    "Show the signature of {path}.", "What is the signature of {path}?",
    "How do I call {path}?", "What arguments does {path} take?",
)  # fmt: skip
WHERE = ("Which module has {name}?", "Where is {name} defined?", "How do I import {name}?")
EXAMPLE = ("Show an example of {path}.", "Give me an example of {path}.", "Example for {path}?")
SYSTEMS = (
    "You are a helpful assistant.", "Answer briefly.", "You explain Python.",
    "You are pico, a small language model. Be concise.",
)  # fmt: skip

WHO = (
    "I am pico, a very small language model. I learned from the documentation and the source code "
    "of the Python standard library."
)
WHAT = (
    "I can continue Python documentation and code, and explain modules, classes and functions of "
    'the Python standard library. For example, ask me: "What does os.path.join do?"'
)
SMALL_TALK = (
    (("Hello", "Hello!", "Hi", "Hi!", "hey", "hello there", "Good morning", "Hi, how are you?"),
     "Hello! I am pico, a very small language model. Ask me about the Python standard library."),
    (("Who are you?", "What are you?", "what is your name?", "Tell me about yourself.",
      "Who made you?", "Are you a language model?"), WHO),
    (("What can you do?", "How can you help me?", "Help", "help me", "What do you know?",
      "What can I ask you?"), WHAT),
    (("Thanks", "Thank you!", "thanks a lot", "Great, thank you."),
     "You are welcome! Ask me if you have another question about Python."),
    (("Bye", "Goodbye!", "See you later."), "Goodbye!"),
    (("What is Python?", "Tell me about Python.", "Explain Python."),
     "Python is a programming language. It has modules, classes, exceptions, functions and very "
     "high level data types, and it comes with a large standard library."),
    (("Write a hello world program.", "How do I print hello world in Python?",
      "Print hello world."), 'Call the built-in function print:\n\nprint("Hello, world!")'),
    (("What is the capital of France?", "What is the weather today?", "Tell me a joke.",
      "Who won the election?", "Write me a poem."),
     "I do not know. I only learned from the Python standard library."),
)  # fmt: skip


def load_template() -> jinja2.Template:
    """Load the project's chat template the way transformers does."""

    def raise_exception(message: str) -> str:
        raise jinja2.TemplateError(message)

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def questions_about(item: Documented, choose: random.Random) -> list[tuple[str, str]]:
    """Write the questions that one object's docstring answers."""
    answer = _answer(item.doc)
    if not answer:
        return []
    if item.kind == "module":
        return [(choose.choice(ABOUT_MODULE).format(path=item.path), answer)]
    # People leave out the module of a builtin, and often of a method.
    path = item.name if item.module == "builtins" else item.path
    pairs = [(choose.choice(ABOUT).format(path=path), answer)]
    if item.signature and choose.random() < 0.3:
        pairs.append((choose.choice(SIGNATURE).format(path=path), item.signature))
    if item.kind in ("class", "function") and choose.random() < 0.3:
        pairs.append((choose.choice(WHERE).format(name=item.name), _where(item)))
    example = _example(item.doc)
    if example:
        pairs.append((choose.choice(EXAMPLE).format(path=path), example))
    return pairs


def questions_about_topic(topic: str, text: str, choose: random.Random) -> list[tuple[str, str]]:
    title, _, body = text.partition("\n")
    paragraphs = [part for part in re.split(r"\n\s*\n", body) if "***" not in part]
    prose = [part.strip() for part in paragraphs if part and part[0].isalpha()]
    if not prose:
        return []
    subject = title if title.startswith("The ") else topic.lower()
    question = f"What is {subject[0].lower() + subject[1:]}?"
    return [(question, _short(" ".join(prose[0].split()))), (f"Explain {topic}.", _short(prose[0]))]


def _answer(doc: str) -> str:
    """Take the first paragraph of prose; docstrings of C functions begin with a signature."""
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", doc)]
    first = paragraphs[0]
    if re.match(r"[\w.]+\(.*\)( *-+> *\S+.*)?$", first) and len(paragraphs) > 1:
        first = paragraphs[1]
    listed = any(line.lstrip().startswith((">", "-", "*", "|")) for line in first.splitlines())
    return _short(first if listed else " ".join(first.split()))


def _short(text: str) -> str:
    if len(text) <= MAX_ANSWER_CHARACTERS:
        return text
    end = text.rfind(". ", 0, MAX_ANSWER_CHARACTERS)
    return text[: end + 1]


def _where(item: Documented) -> str:
    if item.module == "builtins":
        return f"{item.name} is a built-in {item.kind}. You do not have to import it."
    return f"The {item.kind} {item.name} is in the module {item.module}:\n\nimport {item.module}"


def _example(doc: str) -> str:
    match = re.search(r"(?:^[ \t]*(?:>>>|\.\.\.)[^\n]*\n(?:[ \t]*\S[^\n]*\n)*)+", doc + "\n", re.M)
    if not match or len(match.group()) > MAX_ANSWER_CHARACTERS:
        return ""
    return "\n".join(line.strip() for line in match.group().strip().splitlines())


def dialogues(corpus: Corpus, rounds: int, seed: int) -> list[list[Message]]:
    """Build conversations of one to three questions about the same module.

    Args:
        rounds: how often each object is asked about, each time in other words.
    """
    talks: list[list[Message]] = []
    for number in range(rounds):
        choose = random.Random(stable_hash(f"{seed}:{number}"))
        pairs: list[tuple[str, str]] = []
        for item in corpus.objects:
            if item.module.startswith(NOT_ASKED_ABOUT):
                continue
            pairs.extend(questions_about(item, choose))
        for topic, text in corpus.topics.items():
            pairs.extend(questions_about_topic(topic, text, choose))
        for asked, answer in SMALL_TALK:
            pairs.extend((question, answer) for question in asked for _ in range(2))
        talks.extend(_conversations(pairs, choose))
    return talks


def _conversations(pairs: list[tuple[str, str]], choose: random.Random) -> list[list[Message]]:
    talks = []
    while pairs:
        turns = choose.choice((1, 1, 1, 2, 3))
        taken, pairs = pairs[:turns], pairs[turns:]
        talk: list[Message] = []
        if choose.random() < 0.1:
            talk.append({"role": "system", "content": choose.choice(SYSTEMS)})
        for question, answer in taken:
            talk.append({"role": "user", "content": question})
            talk.append({"role": "assistant", "content": answer})
        talks.append(talk)
    return talks
