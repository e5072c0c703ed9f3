"""Thoughts about questions: drawn in groups, read again with what was probable, compared within a group."""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import language
from ..branches import Branches, given_pose, look_around, repeat
from ..data import Rooms
from ..model import NanoOmni
from ..vocabulary import INDEX
from ..world.questions import Form


class Thoughts(NamedTuple):
    """What was written for Q questions: pose (Q, POSE_LENGTH), words (Q, G, n), and right (Q, G), the
    log-probability that the right answer had after each among the choices."""

    pose: Tensor
    words: Tensor
    right: Tensor


class Read(NamedTuple):
    """What a model makes of thoughts: logs (Q, G, n - 1, vocabulary), log-probabilities of each word after
    the first, at the temperature they were drawn at; right (Q, G), as above."""

    logs: Tensor
    right: Tensor


def asked_of(batch: Rooms, form: Form, most: int) -> Rooms:
    """The first rooms, `most` of them, that have a question of this form."""
    return batch[batch.asked[form].valid.nonzero()[:most, 0]]


@torch.no_grad()
def draw(
    model: NanoOmni,
    some: Rooms,
    form: Form,
    group: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Thoughts:
    """A pose as the model writes it and, after it, `group` thoughts at a temperature above 0."""
    told, asked = Branches(model, some.photos), some.asked[form]
    pose = given_pose(look_around(told, ())["pose"])
    state = repeat(told.read(told.read(told.start, asked.question), pose), group)
    how = temperature, generator
    state, words = told.write(state, [INDEX["<think>"]], language.think_length(form), None, *how)
    answers = told.answer(state, asked.choices.repeat_interleave(group, 0))
    return Thoughts(pose, words.unflatten(0, (-1, group)), _right(answers, asked.choice, group))


def read(model: NanoOmni, some: Rooms, form: Form, thoughts: Thoughts, temperature: float = 1.0) -> Read:
    """See `Read`. Photos, question and pose are read once a question, whatever the number of thoughts."""
    told, asked, group = Branches(model, some.photos), some.asked[form], thoughts.words.shape[1]
    state = repeat(told.read(told.read(told.start, asked.question), thoughts.pose), group)
    words = thoughts.words.flatten(0, 1)
    ask = words.new_full((len(words), 1), INDEX["<answer>"])
    logits = told.say(state, torch.cat([words, ask], 1))[1].float()
    answers = logits[:, -1].gather(1, asked.choices.repeat_interleave(group, 0))
    logs = (logits[:, :-2] / temperature).log_softmax(-1)
    return Read(logs.unflatten(0, (-1, group)), _right(answers, asked.choice, group))


def _right(answers: Tensor, choice: Tensor, group: int) -> Tensor:
    """Logits of choices (Q G, c) and which is right (Q,) -> its log-probability (Q, G)."""
    right = choice.repeat_interleave(group, 0)[:, None]
    return answers.log_softmax(-1).gather(1, right).view(-1, group)


def advantages(rewards: Tensor) -> Tensor:
    """(Q, G) -> the same: how much better than the others of its group, in units of their spread."""
    return (rewards - rewards.mean(1, keepdim=True)) / rewards.std(1, correction=0, keepdim=True)


def of_words(logs: Tensor, words: Tensor) -> Tensor:
    """(Q, G, n - 1, vocabulary) and words (Q, G, n) -> (Q, G, n - 1): the log-probabilities of the words."""
    return logs.gather(3, words[..., 1:, None])[..., 0]
