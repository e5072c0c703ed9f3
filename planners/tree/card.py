"""The card of a tree: README.md, with what a reader asks first and a table of its schedules."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from planners.tree.layout import name_of
from planners.tree.measuring import Chunk
from planners.tree.recipe import Recipe

SHOWN = 12


def card(recipe: Recipe, chunks: Sequence[Chunk]) -> str:
    """The text of README.md. It holds no date and no path, so the same tree has the same card."""
    tasks = ", ".join(task.task for task in recipe.tasks)
    lines = [
        "---",
        f"license: {recipe.licence}",
        "tags: [unrollbench, context-unrolling]",
        "configs:",
        "- config_name: states",
        "  data_files: states.parquet",
        "- config_name: problems",
        "  data_files: problems.parquet",
        "---",
        "",
        f"# A tree of {recipe.n:,} problems ({tasks})",
        "",
        f"The complete memoised tree of a problem set, in UnrollBench's format {recipe.format}: for every"
        f" problem, every one of {len(recipe.layout):,} {_states(recipe)}, the score of the answer that is"
        " given there, what it cost, and what could be known of it without the truth.",
        "",
        "| | |",
        "|---|---|",
        f"| model | {_listed(recipe.backends)} |",
        f"| fingerprint | {_listed(recipe.fingerprints)} |",
        f"| problems | {recipe.n:,}, digest `{recipe.problems}` |",
        *(f"| problem set | `{json.dumps(one, sort_keys=True)}` |" for one in recipe.sets),
        f"| actions | {_listed([a.name + _set(a.parameters) for a in recipe.actions])} |",
        f"| depth | {recipe.depth} |",
        f"| states | {len(recipe.layout):,} {recipe.orders} |",
        f"| draws | {recipe.draws} |",
        f"| score | {recipe.scorer}{'' if recipe.hard is None else f'; hard: {recipe.hard}'} |",
        f"| probes | {_listed([p.name for p in recipe.probes])} |",
        f"| licence | {recipe.licence} |",
        f"| made by | `unroller tree`, unroller {recipe.unroller}, {recipe.chunk} problems at a time |",
        "",
        f"The {min(SHOWN, len(recipe.layout))} states with the highest mean score, where every problem can"
        " reach them:",
        "",
        "| state | score | model calls | tokens |",
        "|---|---|---|---|",
        *_best(recipe, chunks),
        "",
        "The state was chosen and scored on the same problems here: see `unroller tree show` for what is"
        " chosen on some and scored on others, with intervals.",
        "",
        "    from planners.tree import load",
        '    tree = load(".")',
        "",
    ]
    return "\n".join(lines)


def _states(recipe: Recipe) -> str:
    if recipe.orders == "sequences":
        return f"sequences of up to {recipe.depth} calls"
    return f"sets of up to {recipe.depth} calls, written in the order in which they are declared"


def _set(parameters: dict[str, object]) -> str:
    return "".join(f" {name}={value!r}" for name, value in sorted(parameters.items()))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name.replace("|", r"\|") for name in names) or "none"


def _best(recipe: Recipe, chunks: Sequence[Chunk]) -> list[str]:
    def mean(name: str) -> np.ndarray:
        with np.errstate(all="ignore"):
            tables = [c.tables[name].astype(float) for c in chunks]
            return np.concatenate(tables).mean((0, 1))  # (S,)

    everywhere = mean("reached") == 1
    score, calls, tokens = np.where(everywhere, mean("score"), -1.0), mean("model_calls"), mean("tokens")
    ranked = [s for s in np.lexsort((calls, -score.round(9))).tolist() if everywhere[s]][:SHOWN]
    states = recipe.layout.states
    return [f"| {name_of(states[s])} | {score[s]:.4f} | {calls[s]:.2f} | {tokens[s]:.1f} |" for s in ranked]
