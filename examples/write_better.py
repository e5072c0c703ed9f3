"""Better contexts, not only better choices: the embedded model's thinking, trained by what it answers then.

What is called stays the same, a pose and then thinking. Of several thoughts about a question those after
which the right answer is more probable are made more probable themselves (GRPO); nobody shows the model what
would have been true. Then the same test questions are answered by the weights before and after.

    python examples/write_better.py                                            # a few steps, to see it run
    python examples/write_better.py --steps 200 --n 1500 --out runs/writing    # what docs/writing.md tells of
"""

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import torch

from nano_omni.model import load
from nano_omni.training.writing import RECIPES, Writer, train
from nano_omni.training.writing_effect import effect, table

WEIGHTS = Path(__file__).resolve().parents[1] / "nano_omni" / "weights" / "cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--out", type=Path, help="a folder; a run that it holds goes on")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--n", type=int, default=16, help="test questions of each number of hops")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    out = asked.out or Path(mkdtemp(prefix="writing-"))
    recipe = replace(RECIPES["cpu"], steps=asked.steps)
    if asked.steps < 20:  # to see it run
        recipe = replace(recipe, questions=2, thoughts=4, check_questions=8)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    writer = Writer(load(asked.weights), recipe, asked.seed, device)
    if (out / "checkpoint.json").exists():
        writer.load(out)
    train(writer, out)
    before, after = (load(folder).to(device) for folder in (asked.weights, out / "weights"))
    print(table(effect(before, after, asked.n, device)))
    print(f"weights and curves are in {out}")


if __name__ == "__main__":
    main()
