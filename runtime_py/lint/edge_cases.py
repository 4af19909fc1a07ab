"""Texts and chats on which tokenizers and template engines are known to part.

Every text has a kind, for reports. None is long: a reader answers all of them in a tenth of a
second once its files are loaded.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_CODE = (
    "def f(x):\n    return x\n",
    "class A:\n    def b(self):\n        if self.c:\n            return [\n                1,\n",
    "if x:\n\ty = 1\n\tif z:\n\t\ty = 2\n",
    "for i in range(10):\n  print(i)\n   # three\n     # five\n",
    "int main(void) {\n\treturn 0;\n}\r\n\r\n// end\r\n",
    '{\n  "key": [1, 2.50, -3e-7],\n  "other": {"a": null}\n}\n',
    "<div>\n        <p>text</p>\n                </div>",
    "SELECT  *\n  FROM t\n WHERE a = 'it''s';",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n\n# Title\n\n- item\n    - nested\n",
    "x = a  if b   else    c     # comment",
    "    >>> print('a')\n    a\n",
    "\n\n\n    leading and trailing    \n\n\n",
    "$ tar -xzf a.tgz && cd a/ ; make -j8 2>&1 | tee ~/log.txt",
    "https://example.org/a_b/c-d?e=f%20g&h=i#j",
    "f(x)=∫₀^∞ e^{−x²} dx ≈ ½√π",
    "latex: \\frac{a}{b} \\\\ \\begin{align} a &= b \\end{align}",
)

_LANGUAGES: Mapping[str, str] = {
    "English": "The quick brown fox isn't lazy; it's 3 o'clock.",
    "French": "L'été dernier, Zoé a mangé une crème brûlée à Nîmes — ça coûtait 7 €.",
    "German": "Der Größte übte früh; Straßenbahnhaltestelle, Äpfel, „Köln“.",
    "Spanish": "¿Qué pasó mañana? El pingüino comió jalapeños en Ñuñoa.",
    "Portuguese": "A avó não está; ações, órgãos e à mão.",
    "Polish": "Zażółć gęślą jaźń, Łódź.",
    "Czech": "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Turkish": "İstanbul'da ığdır çiçeği, Şişli'ye gönderdiğim.",
    "Vietnamese": "Tiếng Việt có nhiều dấu: ngữ pháp, đường phố, ổn định.",
    "Russian": "Съешь ещё этих мягких французских булок, йод.",
    "Greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία, ΐ και ΰ.",
    "Hebrew": "דג סקרן שט בים מאוכזב ולפתע מצא חברה.",
    "Arabic": "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر.",
    "Hindi": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का नाश।",
    "Thai": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "Korean": "다람쥐 헌 쳇바퀴에 타고파, 한국어 문장입니다.",
    "Japanese": "いろはにほへと ちりぬるを。ガギグゲゴ、パピプペポ。漢字",
    "Chinese": "我能吞下玻璃而不伤身体。繁體中文，標點！",
}

_UNUSUAL = (
    ("emoji", "👩‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️ 🏴󠁧󠁢󠁳󠁣󠁴󠁿"),
    ("emoji", "a🙂b🙃c"),
    ("rare characters", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𓀀 𠜎 ꙮ ﷽"),
    ("rare characters", "\U0010fffd\ue000"),
    ("ligatures", "ﬁnal oﬃce ①② ㎏ ｆｕｌｌ Ⅷ"),
    ("combining marks", "x̂ q̃ z̧̈ a̐éö̲"),
    ("combining marks", "Z͑ͫ̓a̴l̸g̵o"),
    ("right to left marks", "abc \u202eright\u202c to \u200fleft\u200e"),
    ("invisible characters", "zero\u200bwidth\u200d and\u2060joiner\ufeff"),
    ("invisible characters", "\ufeffBOM at the start"),
    ("invisible characters", "soft\u00adhyphen"),
    ("replacement", "a \ufffd b"),
    ("control characters", "bell\x07 escape\x1b[31m back\x08 del\x7f"),
    ("control characters", "vertical\x0btab form\x0cfeed next\x85line"),
    ("control characters", "unit\x1fseparator"),
    ("NUL", "before\x00after"),
    ("NUL", "\x00"),
    ("quotes", "“curly” ‘single’ «guillemets» ‹x› \"'`´"),
    ("dashes", "a-b a–b a—b a−b ... … ‥"),
    ("contractions", "I'm you're he'd we'll they've it's ISN'T I'M don’t"),
    ("numbers", "0 1 12 123 1234 12345 123456 1,234,567.89 1e10 0x1F 007"),
    ("numbers", "٠١٢٣ ०१२३ 一二三 ½ ² ₃"),
    ("casing", "camelCase PascalCase snake_case SCREAMING_CASE kebab-case"),
    ("punctuation", "!!! ??? ... !?!? ((())) [[]] {{}} <<>> ==> <= >= != && || ::"),
    ("punctuation", "a,b.c;d:e/f\\g|h@i#j$k%l^m&n*o(p)q_r+s=t~u"),
    ("words", "antidisestablishmentarianism"),
    ("words", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ("words", "hello"),
    ("words", " hello"),
    ("words", "hello "),
    ("words", "Hello, world!"),
    ("words", "a"),
    ("words", " "),
    ("words", "\n"),
    ("words", "\t"),
    ("words", "1"),
    ("words", "é"),
    ("words", "."),
    ("sentencepiece space", "a▁b"),
    ("sentencepiece space", "▁"),
    ("sentencepiece space", "▁▁ ▁"),
    ("sentencepiece space", " ▁a ▁ b▁ "),
    ("byte names", "<0x41> <0x0A>"),
)

# Control tokens of the families, as users may type them.
_CONTROL = (
    "<bos>",
    "<eos>",
    "<pad>",
    "<unk>",
    "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n",
    "text<end_of_turn>more",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<think>\nno\n</think>\n\nyes",
    "<tool_call>\n{}\n</tool_call>",
    "<|endoftext|>",
    "<start_of_image>",
    "<unused0> <unused99>",
    "<|im_start|",
    "< bos >",
    "<html><h1>t</h1><strong>b</strong></html>",
    "<table><tr><td>1</td></tr></table>",
    "[multimodal]",
    "<0x0A>",
    "<mask>",
    "s</s>",
)

_SPACES = (" ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2009", "\u2028")
_RUNS = (2, 3, 4, 5, 7, 8, 15, 16, 17, 24, 30, 31, 32, 33, 40)


@dataclass(frozen=True)
class EdgeCaseText:
    """A text and what is hard about it."""

    kind: str
    text: str


@dataclass(frozen=True)
class EdgeCaseChat:
    """Messages of one chat.

    Attributes:
        variables: that the template reads besides the messages.
    """

    kind: str
    messages: Sequence[Mapping[str, Any]]
    variables: Mapping[str, Any]


def edge_case_texts() -> tuple[EdgeCaseText, ...]:
    """Return all texts, each once, always in the same order."""
    found = {text.text: text for text in reversed([*_all_texts()])}
    return tuple(reversed(found.values()))


def _all_texts() -> Iterator[EdgeCaseText]:
    yield EdgeCaseText("empty", "")
    for code in _CODE:
        yield EdgeCaseText("code", code)
    for language, text in _LANGUAGES.items():
        yield EdgeCaseText(f"language {language}", text)
        yield EdgeCaseText(f"decomposed {language}", unicodedata.normalize("NFD", text))
        # Words by themselves, behind a line break, and in a longer text.
        yield EdgeCaseText(f"language {language}", f"\n{text.split()[-1]}")
        yield EdgeCaseText(f"language {language}", f"1. {text}\n2. {text}\n")
    for kind, text in _UNUSUAL:
        yield EdgeCaseText(kind, text)
    for text in _CONTROL:
        yield EdgeCaseText("control tokens", text)
        yield EdgeCaseText("control tokens", f"before {text} after")
    yield from _white_space()
    yield from _long_texts()


def _white_space() -> Iterator[EdgeCaseText]:
    for space in _SPACES:
        for count in _RUNS:
            yield EdgeCaseText("white space", f"a{space * count}b")
    for count in _RUNS:
        yield EdgeCaseText("white space", " " * count)
        yield EdgeCaseText("white space", "\n" * count)
        yield EdgeCaseText("white space", "\t" * count + "x")
        yield EdgeCaseText("white space", "\n" + " " * count + "x")
        yield EdgeCaseText("white space", "x" + " " * count + "\n")
    for mixed in (
        " \n",
        "\n ",
        "\t ",
        " \t",
        "\n\t",
        "\r\n  ",
        "  \n\n  \n",
        "\n\n\n \n",
        " \u00a0 ",
    ):
        for count in (1, 2, 5):
            yield EdgeCaseText("mixed white space", f"a{mixed * count}b")
            yield EdgeCaseText("mixed white space", mixed * count)


def _long_texts() -> Iterator[EdgeCaseText]:
    yield EdgeCaseText("long run", "0123456789" * 20)
    yield EdgeCaseText("long run", "abcdefghij" * 15)
    yield EdgeCaseText("long run", "我能吞下玻璃而不伤身体" * 15)
    yield EdgeCaseText("long run", "เป็นมนุษย์สุดประเสริฐ" * 8)
    yield EdgeCaseText("long run", "=" * 120)
    yield EdgeCaseText("long run", "-" * 200 + "\n")
    yield EdgeCaseText("long run", "aGVsbG8gd29ybGQ" * 12)
    yield EdgeCaseText("long text", "The function returns a list of words. " * 40)
    yield EdgeCaseText("long text", "".join(f"{i}: {i * i}\n" for i in range(120)))
    yield EdgeCaseText("long text", "    return self.value\n" * 40)


def edge_case_chats() -> tuple[EdgeCaseChat, ...]:
    """Return all chats; a template may refuse some of them."""
    user, other = {"role": "user", "content": "Hi!"}, {"role": "user", "content": "And 2+2?"}
    answer = {"role": "assistant", "content": "Hello."}
    thought = {"role": "assistant", "content": "<think>\nIt greets.\n</think>\n\nHello."}
    system = {"role": "system", "content": "Be brief."}
    code = {"role": "user", "content": "Fix:\n    def f():\n\treturn 1\n"}
    spaced = {"role": "user", "content": "  \n\u3000Hi\u00a0there\u2028 \n"}
    control = {"role": "user", "content": "a<end_of_turn>b<|im_end|>c"}
    accents = {"role": "user", "content": "naïve café Köln, 한국어, “quotes” 🙂"}
    empty = {"role": "user", "content": ""}
    return (
        EdgeCaseChat("one message", (user,), {}),
        EdgeCaseChat("system message", (system, user), {}),
        EdgeCaseChat("several turns", (user, answer, other), {}),
        EdgeCaseChat(
            "system message, several turns", (system, user, answer, other, answer, user), {}
        ),
        EdgeCaseChat("code", (code,), {}),
        EdgeCaseChat("accents", (accents,), {}),
        EdgeCaseChat("white space around", (spaced,), {}),
        EdgeCaseChat("empty message", (empty,), {}),
        EdgeCaseChat("control tokens", (control,), {}),
        EdgeCaseChat("thought in the history", (user, thought, other), {}),
        EdgeCaseChat("ends with an answer", (user, answer), {}),
        EdgeCaseChat("thinking off", (user,), {"enable_thinking": False}),
        EdgeCaseChat("no question to answer", (user, answer), {"add_generation_prompt": False}),
    )
