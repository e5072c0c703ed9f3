"""Prompts in English: a small grammar that is written and read, and errors that say what does not fit it.

prompt    clause [", and" clause] ...
clause    objects [relation objects]
objects   "a" | "two" | ... colour shape, or "the" colour shape of objects named before, shapes if several
relation  "left of" | "right of" | "in front of" | "behind"
"""

import difflib
import re
from collections.abc import Sequence

from ..scene import COLOURS, SHAPES
from .compositions import (
    MOST,
    RELATIONS,
    Composition,
    Group,
    article,
    definite,
    name,
    plural,
    with_left_or_front,
)

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
LONGEST = 400  # characters

_SYNONYMS = {"ball": "sphere", "cube": "box"}
_PLURALS = {"boxes": "box", **{f"{shape}s": shape for shape in (*SHAPES, *_SYNONYMS)}}
_RULES = (
    (r"[.!]+\s*$", ""),
    (r"\b(?:is|are|standing|stands|stand)\b", " "),
    (r"\b(?:to|on) the (left|right) of\b", r"\1 of"),
    (r"\bbefore\b", "in front of"),
    (r"\s+", " "),
)
RELATION = re.compile(rf" ({'|'.join(RELATIONS)}) ")
_BETWEEN = re.compile(r"([,;]\s*(?:and\b)?|\band\b)")
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
        return _counted(group)

    clauses = [f"{objects(a)} {relation} {objects(b)}" for a, relation, b in composition.relations]
    clauses += [objects(k) for k in range(len(composition.groups)) if k not in named]
    return ", and ".join(clauses)


def parse(prompt: str) -> Composition:
    """Raises PromptError, which says what is not understood, and what is. What is said twice, or the other
    way round, is one relation, as it was said first."""
    text = tidied(prompt, "a prompt", _RULES, _FORMS)
    if not text.strip():
        raise PromptError(f'"{plain(prompt)}" is not understood: {_FORMS}')
    if re.search(r"[<>]", text):
        raise PromptError(f'"{text}" is not understood: a prompt holds no tags; {_FORMS}')
    groups: list[Group] = []
    relations: dict[tuple[int, str, int], tuple[int, str, int]] = {}
    for clause in _parts(_BETWEEN, text)[::2]:
        parts = _parts(RELATION, f" {clause} ")
        if len(parts) > 3:
            raise PromptError(
                f'"{clause}" could be meant in two ways: one relation in each part between commas; {_FORMS}'
            )
        mentioned = [_mention(part, groups) for part in parts[::2]]
        if len(parts) == 3:
            relation = (mentioned[0], parts[1], mentioned[1])
            relations.setdefault(with_left_or_front(relation), relation)
    try:
        return Composition(tuple(groups), tuple(relations.values()))
    except ValueError as error:
        raise PromptError(str(error)) from None


def tidied(prompt: str, what: str, rules: Sequence[tuple[str, str]], forms: str) -> str:
    """A prompt in plain letters, after rules that replace a pattern each. Raises PromptError for an empty one
    and a long one, which says `what` it should be and which `forms` are understood."""
    text = plain(prompt)
    if not text or len(text) > LONGEST:
        raise PromptError(f"{what} has 1 to {LONGEST} characters, not {len(text)}: {forms}")
    for pattern, by in rules:
        text = re.sub(pattern, by, text)
    return text


def plain(prompt: str) -> str:
    """A prompt in small letters, and with the `<` that backends are given as `&lt;`."""
    return prompt.strip().lower().replace("&lt;", "<")


def _parts(between: re.Pattern[str], text: str) -> list[str]:
    """The parts of a text and, at odd places, what stands between them. Raises PromptError where a part is
    empty."""
    parts = [part.strip() for part in between.split(text)]
    if "" in parts:
        k = parts.index("")
        where = f'after "{parts[k - 1]}"' if k else f'before "{parts[1]}"'
        raise PromptError(f"something is missing {where}: {_FORMS}")
    return parts


def _mention(words: str, groups: list[Group]) -> int:
    """The place of the group that is named, which is added if it is new."""
    said = words.split()
    if words in ("itself", "themselves"):
        raise PromptError(f"nothing can stand left of, right of, in front of or behind itself: {_FORMS}")
    if len(said) == 2:  # "red cones": how many? "two cones": which colour?
        if said[0] == "the" or _number(said[0]) is not None:
            raise PromptError(_half_named(said[1], words))
        kind_of(said, words)
        raise PromptError(f'"{words}": say how many, "a" or "two" for instance; {_FORMS}')
    if len(said) != 3:
        raise PromptError(f'"{words}" is not understood: {_FORMS}')
    kind = kind_of(said[1:], words)
    before = next((k for k, group in enumerate(groups) if group.kind == kind), None)
    if said[0] == "the":
        if before is None:
            raise PromptError(f'"{words}" was not named before: say how many there are; {_FORMS}')
        group = groups[before]
        if is_plural(said[2]) != (group.count > 1):
            there = f"there is {_counted(group)}" if group.count == 1 else f"there are {_counted(group)}"
            raise PromptError(f'"{words}": {there}: say "{definite(group)}"')
        return before
    group = Group(_count(said[0], words), kind)
    if group.count == 1 and is_plural(said[2]):
        raise PromptError(f'"{words}": one or more? Say "{_counted(group)}", or how many')
    groups.append(group)
    return len(groups) - 1


def _half_named(word: str, words: str) -> str:
    """What is missing where `words` are a number and one word more."""
    shape = _shape(word)
    if shape in SHAPES:
        be = "are" if is_plural(word) else "is"
        return f'which colour {be} the "{word}"? There are {", ".join(COLOURS)}.'
    if word in COLOURS:
        return f'"{words}": which shape? There are {", ".join(SHAPES)}.'
    return f'"{words}": {nearest(word, [*COLOURS, *SHAPES])}'


def _count(word: str, words: str) -> int:
    count = _number(word)
    if count is None:
        raise PromptError(f'"{words}": {nearest(word, ("a", *NUMBERS[:MOST]))}')
    if not 1 <= count <= MOST:
        raise PromptError(f'"{words}": a room holds 1 to {MOST} objects')
    return count


def _number(word: str) -> int | None:
    if word.isdecimal():
        return int(word[:9])
    return 1 if word in ("a", "an") else NUMBERS.index(word) + 1 if word in NUMBERS else None


def _counted(group: Group) -> str:
    """'a red cone', 'two red cones'."""
    return article(name(group)) if group.count == 1 else f"{NUMBERS[group.count - 1]} {plural(group)}"


def is_plural(word: str) -> bool:
    """Whether a word names several objects of a shape, as "cones" and "cubes" do."""
    return word in _PLURALS


def _shape(word: str) -> str:
    """The shape that a word means, one or several of it; the word itself where it means none."""
    one = _PLURALS.get(word, word)
    return _SYNONYMS.get(one, one)


def kind_of(said: list[str], words: str) -> int:
    """The kind of an object that is called by a colour and a shape, part of `words`. Raises PromptError."""
    colour, shape = said
    shape = _shape(shape)
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
