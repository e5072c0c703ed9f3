"""Answering questions from the problem and all of its context, and how sure the answer is."""

from __future__ import annotations

from typing import Any

from primitives.prompts import instruction, prompt_of
from unroller.capabilities import AnswerScorer, Prompt, Scores
from unroller.declare import View, decoder, probe
from unroller.problem import Problem
from unroller.rendering import escape
from unroller.values import Answer

ANSWER = instruction("answer")


def a_question_with_choices(problem: Problem) -> str | None:
    if problem.question is None:
        return "needs a question"
    return None if len(problem.choices) >= 2 else "needs at least two choices to score"


def question_prompt(view: View) -> Prompt:
    """Photos, question and context, then the choices."""
    return prompt_of(view, "\n".join([ANSWER, *(f"- {escape(choice)}" for choice in view.choices)]))


def _scored(views: list[View], scorer: AnswerScorer) -> list[Answer | Exception]:
    prompts = [question_prompt(view) for view in views]
    scored = scorer.score_answers(prompts, [view.choices for view in views])
    return [_answer(view, p) for view, p in zip(views, scored, strict=True)]


def _answer(view: View, probabilities) -> Answer | Exception:
    if isinstance(probabilities, Exception):
        return probabilities
    if isinstance(probabilities, Scores):
        view.charge(model_calls=1, price=probabilities.price)
    p = tuple(float(q) for q in probabilities)
    best = max(range(len(p)), key=p.__getitem__)
    return Answer(view.choices[best], view.choices, best, p)


def _chooses(task: str) -> Any:
    """What the decoders of this file have in common."""
    return decoder(
        task=task,
        writes=Answer,
        needs=AnswerScorer,
        batched=True,
        applies=a_question_with_choices,
        prompts=(ANSWER,),
    )


@_chooses("spatial")
def spatial(views: list[View], scorer: AnswerScorer) -> list[Answer | Exception]:
    """The most probable choice for a question about the space that photos show."""
    return _scored(views, scorer)


@_chooses("understanding")
def understanding(views: list[View], scorer: AnswerScorer) -> list[Answer | Exception]:
    """The most probable choice for a question about pictures."""
    return _scored(views, scorer)


@probe(needs=AnswerScorer, batched=True, applies=a_question_with_choices, prompts=(ANSWER,))
def answer_entropy(views: list[View], scorer: AnswerScorer) -> list[float | Exception]:
    """Entropy, in nats, of the answer that would be given now."""
    answers = _scored(views, scorer)
    return [a if isinstance(a, Exception) else (a.entropy or 0.0) for a in answers]
