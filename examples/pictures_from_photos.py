"""What the embedded model draws from photos: changes, depth, and views from elsewhere, into one picture.

    python examples/pictures_from_photos.py --out drawn_from_photos.png --each 3

Nothing is picked: these are the first problems of each set, one a row, and under each picture stands how good
it is.
"""

import argparse
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from unroller import Executor
from unroller.registry import load

CONTEXTS = {
    "direct": [],
    "thinking": ["text_think"],
    "depth caption": ["depth_caption"],
    "visual tokens": ["visual_token_rollout"],
    "visual tokens + depth": ["visual_token_rollout", "depth_estimate"],
}
SETS = (
    ("edits", "editing", ("direct", "thinking", "visual tokens")),
    ("depths", "depth", ("direct", "depth caption", "visual tokens")),
    ("views", "view_objects", ("direct", "visual tokens", "visual tokens + depth")),
)
MEASURE = {"depth": "δ1", "view_objects": "objects"}


def pixels(value):
    """Of an image, a depth map, or views."""
    if hasattr(value, "depth"):
        return np.log(np.maximum(value.depth, 0.3))
    return value.views[0] if hasattr(value, "views") else value.pixels


def words(problem, scorer, output):
    found = load("scorers", scorer)(problem, output)
    if scorer == "editing":
        return f"{'met' if found['score'] else 'not met'}, {100 * found['kept']:.0f} % kept"
    return f"{MEASURE[scorer]} {100 * found['score']:.0f} %"


def main(path: str, each: int) -> None:
    figure = Figure(figsize=(8.5, 1.8 * each * len(SETS)), layout="constrained")
    axes = figure.subplots(each * len(SETS), 5)
    for one in axes.flat:
        one.set_axis_off()
    for block, (name, scorer, contexts) in enumerate(SETS):
        problems = [load("problems", name)(number) for number in range(each)]
        rows = axes[block * each :][:each]
        for row, problem in zip(rows, problems, strict=True):
            truth = problem.metadata["truth"]
            show(row[0], problem.images[0].pixels, fill(problem.prompt or name.removesuffix("s"), 26))
            if "depth" in truth:
                show(row[1], np.log(np.maximum(truth["depth"], 0.3)), "true depth")
            if "views" in truth:
                show(row[1], np.array(truth["views"][0], np.uint8), "true view")
        for k, context in enumerate(contexts):
            runs = Executor(backend="nano", policy=CONTEXTS[context]).map(problems)
            for number, (row, problem, run) in enumerate(zip(rows, problems, runs, strict=True)):
                if run.output is not None:
                    said = words(problem, scorer, run.output)
                    print(f"{name} {number}, {context}: {said}")
                    show(row[k + 2], pixels(run.output), f"{context}\n{said}")
    figure.savefig(path, dpi=120)


def show(place, picture, title):
    place.imshow(picture, interpolation="nearest", cmap="gray")
    place.set_title(title, fontsize=6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="drawn_from_photos.png")
    parser.add_argument("--each", type=int, default=1, help="problems of each set")
    asked = parser.parse_args()
    main(asked.out, asked.each)
