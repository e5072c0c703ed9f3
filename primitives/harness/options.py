"""Lettered options in a question's text, as benchmarks write them, and the reply that they ask for.

Where is the cone?\nA. left\nB. right              one a line: "A.", "A)", "(A)", "A:"
Where is the cone?\nOptions: A: left, B: right     in one line
"""

from __future__ import annotations

import re
import string
from typing import NamedTuple

_INTRODUCTION = re.compile(r"\n?[ \t]*(?:options|choices)[ \t]*:?\s*\Z", re.IGNORECASE)
_STYLES = (
    r"(?:(?<=\n)|(?<=\A))[ \t]*\(?{letter}[).:][ \t]*",  # one a line
    r"(?:(?<=\n)|(?<=\A)|(?<=[\s,;]))\({letter}\)[ \t]*",  # in one line, from here on
    r"(?:(?<=\n)|(?<=\A)|(?<=[\s,;])){letter}[).:][ \t]+",
)
_FORM = re.compile(r"(answer):\s*\$\{?letters?\b\}?", re.IGNORECASE)
"""How the templates of inspect_ai and simple-evals ask for a reply: 'ANSWER: $LETTER'."""


class Options(NamedTuple):
    """letters and texts of the options, as many of each; question: what is asked, without them and without
    the paragraph that says how to reply; reply: how a letter is to be answered with."""

    letters: tuple[str, ...]
    texts: tuple[str, ...]
    question: str
    reply: str

    def said(self, choice: int) -> str:
        """The reply that names an option."""
        return self.reply.format(letter=self.letters[choice])


def options_in(text: str) -> Options | None:
    """The last run of options A, B … in a text, or None where there are not two."""
    for style in _STYLES:
        found = _run(text, style)
        if len(found) >= 2:
            return _options(text, found)
    return None


def _run(text: str, style: str) -> list[re.Match[str]]:
    """Where each option begins: at the last A that a B follows, and each letter after the one before."""
    second = list(re.finditer(style.format(letter="B"), text))
    firsts = re.finditer(style.format(letter="A"), text)
    first = [match for match in firsts if second and match.end() <= second[-1].start()]
    found = first[-1:]
    for letter in string.ascii_uppercase[1:] if found else "":
        following = re.compile(style.format(letter=letter)).search(text, found[-1].end())
        if following is None:
            break
        found.append(following)
    return found


def _options(text: str, found: list[re.Match[str]]) -> Options:
    ends = [*(match.start() for match in found[1:]), len(text)]
    texts: list[str] = []
    for match, end in zip(found, ends, strict=True):
        words = text[match.end() : end].strip()
        texts.append(words.split("\n")[0].strip().rstrip(",;").strip())
    question = text[: found[0].start()]
    form = _FORM.search(text)
    if form is not None:
        kept = [part for part in question.split("\n\n") if not _FORM.search(part)]
        question = "\n\n".join(kept)
    question = _INTRODUCTION.sub("", question.rstrip()).strip()
    letters = tuple(string.ascii_uppercase[: len(found)])
    return Options(letters, tuple(texts), question, f"{form[1]}: {{letter}}" if form else "{letter}")
