"""Prompts in English: a small grammar that is written and read, and errors that say what does not fit it.

prompt    clause [", and" clause] ...
clause    objects [relation objects]
objects   "a" | "two" | ... colour shape, or "the" colour shape of objects named before
relation  "left of" | "right of" | "in front of" | "behind"
"""

import difflib
import re

from ..scene import COLOURS, SHAPES
from .compositions import MOST, RELATIONS, Composition, Group, article, definite, name, plural

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
LONGEST = 400  # characters

_SYNONYMS = {"ball": "sphere", "cube": "box"}
_RULES = (
    (r"[.!]+\s*$", ""),
    (r"\b(?:is|are|standing|stands|stand)\b", " "),
    (r"\b(?:to|on) the (left|right) of\b", r"\1 of"),
    (r"\bbefore\b", "in front of"),
    (r"\s+", " "),
)
RELATION = re.compile(rf" ({'|'.join(RELATIONS)}) ")
_FORMS = 'write for example "two red cones left of a blue box, and the blue box behind a green sphere"'


class PromptError(ValueError):
    """A prompt that asks for what there is not, or contradicts itself."""


def write(composition: Composition) -> str:
    """The composition as a prompt: what is in a relation first, each group introduced where it is named."""
    named: set[int] = set()

    def objects(k: int) -> str:
        group = composition.groups[k]
        if k in named:
            return definite(group)
        named.add(k)
        if group.count == 1:
            return article(name(group))
        return f"{NUMBERS[group.count - 1]} {plural(group)}"

    clauses = [f"{objects(a)} {relation} {objects(b)}" for a, relation, b in composition.relations]
    clauses += [objects(k) for k in range(len(composition.groups)) if k not in named]
    return ", and ".join(clauses)


def parse(prompt: str) -> Composition:
    """Raises PromptError, which says what is not understood, and what is."""
    text = prompt.strip().lower()
    if not text or len(text) > LONGEST:
        raise PromptError(f"a prompt has 1 to {LONGEST} characters, not {len(text)}: {_FORMS}")
    for pattern, by in _RULES:
        text = re.sub(pattern, by, text)
    groups: list[Group] = []
    relations: list[tuple[int, str, int]] = []
    for clause in re.split(r"\s*(?:[,;]\s*(?:and\s+)?|\band\b)\s*", text.strip()):
        parts = RELATION.split(clause)
        if len(parts) > 3:
            raise PromptError(
                f'"{clause}" could be meant in two ways: one relation in each part between commas; {_FORMS}'
            )
        mentioned = [_mention(part.strip(), groups) for part in parts[::2]]
        if len(parts) == 3:
            relations.append((mentioned[0], parts[1], mentioned[1]))
    try:
        return Composition(tuple(groups), tuple(relations))
    except ValueError as error:
        raise PromptError(str(error)) from None


def _mention(words: str, groups: list[Group]) -> int:
    """The place of the group that is named, which is added if it is new."""
    said = words.split()
    if words in ("itself", "themselves"):
        raise PromptError(f"nothing can stand left of, right of, in front of or behind itself: {_FORMS}")
    if len(said) == 2:  # "red cones": how many?
        kind_of(said, words)
        raise PromptError(f'"{words}": say how many, "a" or "two" for instance; {_FORMS}')
    if len(said) != 3:
        raise PromptError(f'"{words}" is not understood: {_FORMS}')
    kind = kind_of(said[1:], words)
    before = next((k for k, group in enumerate(groups) if group.kind == kind), None)
    if said[0] == "the":
        if before is None:
            raise PromptError(f'"{words}" was not named before: say how many there are; {_FORMS}')
        return before
    groups.append(Group(_count(said[0], words), kind))
    return len(groups) - 1


def _count(word: str, words: str) -> int:
    count = 1 if word in ("a", "an") else NUMBERS.index(word) + 1 if word in NUMBERS else None
    if count is None and word.isdecimal():
        count = int(word[:9])
    if count is None:
        raise PromptError(f'"{words}": {nearest(word, ("a", *NUMBERS[:MOST]))}')
    if not 1 <= count <= MOST:
        raise PromptError(f'"{words}": a room holds 1 to {MOST} objects')
    return count


def kind_of(said: list[str], words: str) -> int:
    """The kind of an object that is called by a colour and a shape, part of `words`. Raises PromptError."""
    colour, shape = said
    shape = re.sub(r"^boxes$", "box", shape)
    if shape not in SHAPES:
        shape = shape.removesuffix("s")
    shape = _SYNONYMS.get(shape, shape)
    if colour not in COLOURS:
        raise PromptError(f'"{words}": {nearest(colour, list(COLOURS))}')
    if shape not in SHAPES:
        raise PromptError(f'"{words}": {nearest(shape, SHAPES)}')
    return list(COLOURS).index(colour) * len(SHAPES) + SHAPES.index(shape)


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """That a word is not known, which one may have been meant, and which there are."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    hint = f": did you mean {close[0]}?" if close else "."
    return f'"{word}" is not known here{hint} There are {", ".join(known)}.'
