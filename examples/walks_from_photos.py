"""Walks that the embedded model films from one photo each, below what was there to be seen.

    python examples/walks_from_photos.py --out walks.png --each 3

Nothing is picked: these are the first problems of the set `walks`. Under each frame stands its SSIM with the
true one, and above it that of the photo.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

from unroller import Executor
from unroller.measures import ssim
from unroller.registry import load


def main(path: str, each: int) -> None:
    problems = [load("problems", "walks")(number) for number in range(each)]
    runs = list(Executor(backend="nano", policy="direct").map(problems))
    columns = problems[0].metadata["frames"]
    figure = Figure(figsize=(1.7 * columns, 4.0 * each), layout="constrained")
    axes = figure.subplots(2 * each, columns)
    for one in axes.flat:
        one.set_axis_off()
    for number, (problem, run) in enumerate(zip(problems, runs, strict=True)):
        true = np.array(problem.metadata["truth"]["frames"], np.uint8)
        above, below = axes[2 * number : 2 * number + 2]
        above[0].set_title(f"walk {number}: the photo", fontsize=7)
        for k, frame in enumerate(true):
            above[k].imshow(frame, interpolation="nearest")
            if k:
                above[k].set_title(f"true; the photo is {100 * ssim(true[0], frame):.0f} %", fontsize=7)
        if run.output is None:
            below[0].set_title(run.faults[-1].message[:60], fontsize=7)
            continue
        for k, frame in enumerate(run.output.frames):
            below[k].imshow(frame, interpolation="nearest")
            below[k].set_title(f"filmed: {100 * ssim(frame, true[k]):.0f} %" if k else "", fontsize=7)
        below[0].set_title(problem.prompt.replace(" and ", "\nand "), fontsize=7)
        print(f"walk {number}: {problem.prompt}")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="walks.png")
    parser.add_argument("--each", type=int, default=1, help="walks")
    asked = parser.parse_args()
    main(asked.out, asked.each)
