"""How probable each choice is, by what a chat server tells: the first token of a reply, or the reply itself.

What a local model is asked for, the probability of each choice written out in full, no chat server tells: it
gives the most probable tokens of what it writes. So the choices get letters, the model is asked for a letter,
and the probabilities of the letters as the first token are compared. That is another measurement: it does not
grow with a choice's length, and models prefer some letters over others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from string import ascii_uppercase

from primitives.backends.openai_api.replies import Reply
from unroller.faults import InputError
from unroller.rendering import escape

_AROUND = " \t\n\r▁Ġ*_`'\"().:"
"""What may stand around a letter in a token, and does not make it another answer."""


def lettered(choices: Sequence[str]) -> str:
    """The lines that ask for a letter. Raises InputError."""
    if not choices:
        raise InputError("there are no choices to score")
    if len(choices) > len(ascii_uppercase):
        raise InputError(
            f"{len(choices)} choices are more than there are letters: ask for the answer in words,"
            " OpenAIServer(…, answers='written')"
        )
    listed = (f"{letter}. {escape(choice)}" for letter, choice in zip(ascii_uppercase, choices, strict=False))
    return "\n".join(("Write only the letter of your answer:", *listed))


def by_letter(reply: Reply, count: int) -> list[float]:
    """P(the reply begins with this letter), for `count` letters from A, normalised over them.

    A letter is counted with the spaces and marks that tokens carry ("A", " A", "(A", "A."). One that is not
    among the most probable tokens that the server tells counts as 0. Raises InputError where none is.
    """
    tokens = reply.tokens
    if not tokens or not tokens[0].top_logprobs:
        raise InputError(
            "the server gives no log-probabilities: ask for the answer in words,"
            " OpenAIServer(…, answers='written')"
        )
    likely = {one.token: one.logprob for one in (*tokens[0].top_logprobs, tokens[0])}
    weights = [0.0] * count
    for token, logprob in likely.items():
        i = _letter(token)
        if i is not None and i < count and math.isfinite(logprob):
            weights[i] += math.exp(min(logprob, 0.0))
    total = sum(weights)
    if total <= 0:
        most = sorted(likely, key=likely.__getitem__, reverse=True)[:5]
        raise InputError(
            f"the model begins with no letter of a choice but with one of {most}: turn off reasoning by"
            " `extra`, or ask for the answer in words, OpenAIServer(…, answers='written')"
        )
    return [weight / total for weight in weights]


def _letter(token: str) -> int | None:
    bare = token.strip(_AROUND)
    return ascii_uppercase.index(bare) if len(bare) == 1 and bare in ascii_uppercase else None


def by_words(text: str, choices: Sequence[str]) -> list[float]:
    """1 for the choice that a reply names, 0 for the others. Raises InputError where it names none, or
    several.

    A choice is named where the reply is it, or else holds it as whole words, whatever the case; where one
    choice holds another ("left of it", "left"), the longer one is.
    """
    said = _plain(text)
    wanted = [_plain(choice) for choice in choices]
    named = [i for i, choice in enumerate(wanted) if choice == said]
    if len(named) != 1:
        named, rest = [], f" {said} "
        for i in sorted(range(len(wanted)), key=lambda i: -len(wanted[i])):
            if wanted[i] and f" {wanted[i]} " in rest:
                named.append(i)
                rest = rest.replace(f" {wanted[i]} ", " | ")
    if len(named) != 1:
        many = "none" if not named else "several"
        raise InputError(f"the reply names {many} of the choices {tuple(choices)}: {text[:120]!r}")
    return [1.0 if i == named[0] else 0.0 for i in range(len(choices))]


def _plain(text: str) -> str:
    """Words in lower case with single spaces between them; marks that are no part of numbers left out."""
    return " ".join(re.findall(r"[^\W_]+(?:[.,][0-9]+)*|[-+<>=%°]", text.casefold()))
