"""Seeded changes of each kind of file: bytes before → bytes after."""

from random import Random

from tests.mutations.json_mutations import mutate_bytes, mutate_json

_TEMPLATE_PARTS = (
    "{{", "}}", "{%", "%}", "{% if x %}", "{% endfor %}", "{{ x.__class__ }}", "{{ 9 ** 9 ** 9 }}",
    "{% for i in range(10 ** 9) %}x{% endfor %}", "{{ raise_exception('\\x1b[31mno') }}",
    "{{ messages[7].content }}", "{{ 'a' * 10 ** 9 }}", "{{ 1 / 0 }}", "{{ eos_token.x.y }}",
    "\x1b[2J", "{{ '\\u009b' }}", "{{ '%1000000000d' % 1 }}", "{{ strftime_now('%\x00') }}",
    "{{ bos_token | batch(10 ** 9, 'x') | list | length }}", "{{ '\\ud800' }}",
)  # fmt: skip
# Metadata and nearly all of what is said of tensors.
_GGUF_HEADER = 3000
# It takes whatever time it is allowed, so it stands in few inputs.
_ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
_TOML_VALUES = (
    '""', '"x"', "0", "-1", "16", "33", "4.0", "true", "[]", "[4]", "1979-05-27", "nan", "inf",
    "9" * 400, '"\\u001b[31m"', '"[!"', "0x20", "{}", '{bits = 4}', '"*"', "[" * 2000 + "]" * 2000,
)  # fmt: skip
_WORDS = (
    "", "x", "0", "-1", "1.5", "nan", "1e400", "9" * 19, "9" * 5000, "\u00b2", "../x", "/etc/x",
    "\x1b[2J", "\u202e", "@@", "@@ end", "\0", "a" * 5000, "yes", "no", "dead", "running", "ended",
)  # fmt: skip


def change_json(data: bytes, random: Random) -> bytes:
    return mutate_json(data.decode(), random)


def change_template(data: bytes, random: Random) -> bytes:
    if random.random() < 0.3:
        return mutate_bytes(data, random)
    text = data.decode()
    place = random.randrange(len(text) + 1)
    part = _ENDLESS if random.random() < 0.01 else random.choice(_TEMPLATE_PARTS)
    return (text[:place] + part + text[place:]).encode()


def change_words(data: bytes, random: Random) -> bytes:
    """Change what a shell prints: a word becomes another, a line is lost or comes twice."""
    if random.random() < 0.3:
        return mutate_bytes(mutate_bytes(data, random), random)
    lines = data.decode().split("\n")
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.randrange(len(lines))
        words = lines[place].split(" ")
        words[random.randrange(len(words))] = random.choice(_WORDS)
        changed = ([" ".join(words)], [], [lines[place]] * 2)
        lines[place : place + 1] = random.choices(changed, (8, 1, 1))[0]
        lines = lines or [""]
    return "\n".join(lines).encode()


def change_events(data: bytes, random: Random) -> bytes:
    """Change one of the JSON lines that a runner writes."""
    lines = data.splitlines()
    place = random.randrange(len(lines))
    lines[place] = mutate_json(lines[place].decode(), random)
    return b"\n".join(lines) + b"\n"


def change_header(data: bytes, random: Random) -> bytes:
    """Change the header of a safetensors file; mostly its length follows."""
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    if random.random() < 0.1:
        return mutate_bytes(data[:8], random) + header + body
    changed = mutate_json(header.decode(), random)
    if random.random() < 0.1:
        body = body[: random.randrange(len(body))]
    return len(changed).to_bytes(8, "little") + changed + body


def change_gguf(data: bytes, random: Random) -> bytes:
    """Change the header of a GGUF file, or cut the file."""
    if random.random() < 0.1:
        return data[: random.randrange(len(data))]
    return mutate_bytes(data[:_GGUF_HEADER], random) + data[_GGUF_HEADER:]


def change_recipe(data: bytes, random: Random) -> bytes:
    if random.random() < 0.2:
        return mutate_bytes(data, random)
    lines = data.decode().splitlines()
    places = [i for i, line in enumerate(lines) if " = " in line]
    place = random.choice(places)
    key = lines[place].split(" = ")[0]
    value = random.choice(_TOML_VALUES)
    changes = (f"{key} = {value}", f"{key}s = {value}", f"rules = {value}", "", "[[rules]]")
    lines[place] = random.choices(changes, (8, 1, 1, 1, 1))[0]
    return "\n".join(lines).encode()
