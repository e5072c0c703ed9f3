"""A new backend: a capability for primitives that never learn whose it is.

This one answers questions about brightness by looking at the pixels. Put a real model in its place: the
method is handed the whole batch, and a sample that cannot be worked with gets an exception in its place.
"""

import numpy as np

from unroller import Executor, Problem
from unroller.capabilities import AnswerScorer
from unroller.rendering import ImageSegment


class BrightnessOracle:
    name = "brightness"
    fingerprint = "brightness-1"  # change it when the answers would change: memos depend on it
    max_batch = 32
    provides = (AnswerScorer,)

    def score_answers(self, prompts, choices):
        """For "dark" and "bright", in whatever order they stand."""
        scored = []
        for prompt, options in zip(prompts, choices, strict=True):
            pictures = [np.asarray(s.pixels) for s in prompt.segments if isinstance(s, ImageSegment)]
            bright = float(np.mean([p.mean() for p in pictures])) / 255
            scored.append([bright if option == "bright" else 1 - bright for option in options])
        return scored


if __name__ == "__main__":
    photo = np.full((48, 64, 3), 200, dtype=np.uint8)
    x = Problem.understanding(photo, question="Is it dark or bright?", choices=["dark", "bright"])
    run = Executor(backend=BrightnessOracle(), policy="direct").run(x)
    print(run.output.words(), run.output.probabilities)
