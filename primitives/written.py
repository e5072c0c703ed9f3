"""Answers in a model's own words, to questions that come without choices or whose form of reply is fixed by
somebody else (a benchmark's template)."""

from __future__ import annotations

from collections.abc import Sequence

from primitives.prompts import instruction
from primitives.thinking import Writing, a_question, written
from unroller.capabilities import TextGenerator
from unroller.cost import Cost
from unroller.declare import Decoder, View
from unroller.fingerprint import fingerprint
from unroller.values import Answer

REPLY = instruction("reply")


def written_answer(
    task: str, *, max_tokens: int = 512, temperature: float = 0.0, stop: Sequence[str] = ()
) -> Decoder:
    """A decoder for `task` that writes its answer:

        Executor(backend=HFVLM(…), decoders=[written_answer("understanding")])

    max_tokens, temperature: as for `text_think`, and for the answer alone. stop: what ends the answer, cut
    off with all that follows; the tokens it took are charged. Without any context the model reads the photos
    and the question and nothing else, as it would without unroller; after a context it is told to answer.
    Raises pydantic's ValidationError for less than one token or a temperature below 0.
    """
    how = Writing(max_tokens=max_tokens, temperature=temperature)

    def write(views: list[View], writer: TextGenerator) -> list[Answer | Exception]:
        """The answer in the model's own words."""
        told = [REPLY if view.entries else "" for view in views]
        made = written(views, writer, told, "answer", how)
        return [one if isinstance(one, Exception) else Answer(cut(one.text, stop)) for one in made]

    return Decoder(
        write,
        name=f"{task}_written",
        task=task,
        writes=Answer,
        needs=TextGenerator,
        cost=Cost(model_calls=1, tokens=max_tokens),
        batched=True,
        stochastic=True,
        applies=a_question,
        prompts=(REPLY,),
        version=fingerprint(write, (REPLY, *stop)),
    )


def cut(text: str, stop: Sequence[str]) -> str:
    """The text up to the first of what ends it."""
    ends = [at for mark in stop if mark and (at := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else text
