"""The texts that golden answers are recorded on. Every bundle is held against the same ones."""

# Ordinary text in several scripts, code, and the characters that tokenizers get wrong.
TOKENIZER_TEXTS = (
    "Hello, world!",
    "  two leading spaces, a tab\tand a\nnew line\n\n    indented",
    "def add(a: int, b: int) -> int:\n    return a + b  # 1234567890",
    "Größe, façade, naïve; Ελληνικά; 漢字かな交じり文; עברית; العربية",
    "emoji 🙂👩‍👩‍👧 and a flag 🇺🇳",
    "",
)

SHORT_PROMPTS = (
    ("short", "Return True if the"),
    ("code", "def __init__(self, "),
)

CHATS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("user", "What does os.path.join do?"),),
    (
        ("user", "Hello!"),
        ("assistant", "Hello. How can I help?"),
        ("user", "Explain what a list is."),
    ),
    (
        ("user", "Which types are sequences?"),
        ("assistant", "Lists, tuples and ranges."),
        ("user", "And strings?"),
        ("assistant", "Strings too."),
        ("user", "Can a tuple change?"),
        ("assistant", "No. It is immutable."),
        ("user", "Show me one."),
    ),
)
SYSTEM_CHAT = (("system", "Answer briefly."), ("user", "What is a tuple?"))

# Long enough to wrap every ring; repeated with a count where a model's window is longer still.
LONG_TEXT = """\
A sequence is an ordered collection of items. Lists, tuples and ranges are the basic sequence \
types; strings and bytes are sequences of characters and of small integers. The operators in and \
not in test for membership, plus concatenates two sequences of the same type, and multiplication \
by an integer repeats one. Indexing starts at zero, and a negative index counts from the end.

A mapping object maps hashable values to arbitrary objects. Mappings are mutable. There is \
currently only one standard mapping type, the dictionary. Keys are unique within a dictionary \
while values may not be. If the same key is written twice the last value is kept. Dictionaries \
preserve insertion order, and updating a key does not affect the order.

def merge(first, second):
    \"\"\"Return a sorted list of the items of two sorted lists.\"\"\"
    result = []
    while first and second:
        source = first if first[0] <= second[0] else second
        result.append(source.pop(0))
    return result + first + second

Exceptions are raised by the interpreter, or by the program itself with the raise statement. An \
except clause names the errors that it handles; a finally clause runs whether or not an error \
occurred. Code that opens a file should close it again, which the with statement does when the \
block is left, no matter how. Iterators return one item at a time, so that a loop over a large \
file needs the memory of one line only. A generator function is a simple way to write one.
"""
