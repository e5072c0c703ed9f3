"""Questions that nobody trained on, exactly balanced, and what can be said of them without looking."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn

from .config import Config
from .data import Asked, Rooms, rooms, split_seeds
from .vocabulary import SIZE
from .world.questions import FORMS, Form


def collect(
    config: Config,
    split: str,
    n: int,
    device: torch.device,
    forms: Sequence[Form] = FORMS,
    draw: int = 4096,
    compiled: bool = False,
    start: int = 0,
    pictures: bool = True,
) -> dict[Form, Rooms]:
    """n questions of each form, as many with each answer: rooms that hold just this question.

    The first that fit of the split are taken. pictures=False keeps no photos (for text-only baselines).
    """
    kept: dict[Form, list[list[Rooms]]] = {}
    answers: dict[Form, int] = {}
    while not kept or any(_short(parts, n // answers[form]) for form, parts in kept.items()):
        many = rooms(split_seeds(split, start, draw, device), config, forms, compiled, pictures)
        start += draw
        for form in forms:
            asked = many.asked[form]
            answers[form] = asked.choices.shape[1]
            parts = kept.setdefault(form, [[] for _ in range(answers[form])])
            for choice, found in enumerate(parts):
                left = n // answers[form] - sum(map(len, found))
                index = (asked.valid & (asked.choice == choice)).nonzero()[: max(left, 0), 0]
                found.append(_light(many[index], form, pictures))
    return {form: _mixed([part for found in parts for part in found], form) for form, parts in kept.items()}


def _short(parts: list[list[Rooms]], quota: int) -> bool:
    return any(sum(map(len, found)) < quota for found in parts)


def _light(some: Rooms, form: Form, pictures: bool) -> Rooms:
    """Without what only training needs, which is large; the photos' first dimension always counts rooms."""
    return replace(
        some,
        photos=some.photos if pictures else some.photos[:, :, :, :0, :0],
        names=some.names[:, :, :0],
        measures=some.measures[:, :, :0],
        asked={form: some.asked[form]},
    )


def _mixed(parts: list[Rooms], form: Form) -> Rooms:
    """Concatenated, in an order that mixes the answers."""
    total = sum(map(len, parts))
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0)).to(parts[0].photos.device)

    def cat(values: list) -> Any:
        if isinstance(values[0], tuple):
            return tuple(cat([value[k] for value in values]) for k in range(len(values[0])))
        return torch.cat(values)[order]

    asked = Asked(**{f.name: cat([getattr(p.asked[form], f.name) for p in parts]) for f in fields(Asked)})
    held: dict[str, Any] = {
        f.name: cat([getattr(p, f.name) for p in parts]) for f in fields(Rooms) if f.name != "asked"
    }
    return Rooms(**held, asked={form: asked})


def text_only(train: Rooms, test: Rooms, form: Form, steps: int = 400) -> float:
    """Test accuracy, %, of a network that is trained on the words of questions alone."""
    a, b = train.asked[form], test.asked[form]
    torch.manual_seed(0)
    width, choices = a.question.shape[1], a.choices.shape[1]
    net = nn.Sequential(nn.Embedding(SIZE, 32), nn.Flatten(), nn.Linear(32 * width, 128), nn.ReLU())
    net = net.append(nn.Linear(128, choices)).to(a.question.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.1)
    with torch.enable_grad():
        for _ in range(steps):
            index = torch.randint(len(a.choice), (1024,), device=a.choice.device)
            loss = nn.functional.cross_entropy(net(a.question[index]), a.choice[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return 100 * (net(b.question).argmax(-1) == b.choice).float().mean().item()


def majority(test: Rooms, form: Form) -> float:
    """Test accuracy, %, of always giving the most frequent answer."""
    return 100 * (test.asked[form].choice.bincount().max() / len(test)).item()
