"""A new backend for a checkpoint on disk: pooled features and hidden states of a photo, by a DINOv2.

    unroller run -b features=examples/own_checkpoint.py:Dino:/models/dinov2-small -b text=hf:/models/chat …

Run by itself it makes a tiny one with random weights, so that nothing has to be downloaded. What a folder
holds is looked at when the backend is made, which costs nothing; weights are loaded by `load()`, at the first
call.
"""

import tempfile
from functools import cached_property

import numpy as np

from primitives.backends.checkpoints import model, opened, torch_device
from unroller import Executor, Problem, Text, primitive
from unroller.capabilities import FeatureExtractor
from unroller.check import check
from unroller.faults import InputError
from unroller.rendering import ImageSegment
from unroller.values import Latents


class Dino:
    name = "dino"
    max_batch = 16
    provides = ()  # without a path; an object that has one says what it provides
    lacks = "a checkpoint's folder"

    def __init__(self, path=None, *, device="cpu"):
        self.device = device
        self.fingerprint = "dino-none"
        if path is not None:
            self.checkpoint = opened(path, wanted="a DINOv2", accepts=lambda kind: kind == "Dinov2Model")
            self.fingerprint = f"dino-1-{self.checkpoint.fingerprint()}"  # of the weights' content
            self.provides = (FeatureExtractor,)

    def load(self):
        _ = self._model

    @cached_property
    def _model(self):
        import transformers

        return model(transformers.AutoModel, self.checkpoint, torch_device(self.device), "auto")

    def _states(self, prompt):
        """(T, D): the last layer's, of the prompt's first picture."""
        import torch

        shown = [segment.pixels for segment in prompt.segments if isinstance(segment, ImageSegment)]
        if not shown:
            raise InputError("there is no photo to look at")
        side = self._model.config.image_size
        pixels = torch.from_numpy(np.array(shown[0])).permute(2, 0, 1)[None] / 255
        seen = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        with torch.no_grad():
            return self._model(pixel_values=seen.to(self._model.device)).last_hidden_state[0]

    def _each(self, prompts, made):
        """One outcome a prompt, in order: what cannot be looked at is an exception in its place."""
        outcomes = []
        for prompt in prompts:
            try:
                outcomes.append(made(self._states(prompt)))
            except InputError as error:
                outcomes.append(error)
        return outcomes

    def hidden_states(self, prompts):
        return self._each(prompts, lambda states: Latents(states, "dino"))

    def pooled_features(self, prompts):
        return self._each(prompts, lambda states: states[0].float())


@primitive(reads=("images",), writes=Text, needs=FeatureExtractor, batched=True)
def alike(views, extractor):
    """Say how alike the two photos are to the model."""
    from unroller.capabilities import Prompt

    shown = [[Prompt((ImageSegment(photo.pixels, "photo"),)) for photo in view.images] for view in views]
    texts = []
    for first, second in (extractor.pooled_features(prompts) for prompts in shown):
        cosine = float(first @ second / (first.norm() * second.norm()))
        texts.append(Text(f"The photos are alike to {cosine:.2f}.", kind="likeness"))
    return texts


def tiny(folder):
    """A DINOv2 with random weights, saved as the published ones are."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        dino = Dino(tiny(folder))
        print(check(dino))
        photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
        x = Problem.relative_pose(photo, photo)
        ex = Executor(backend=[dino, "classical"], policy=[]).extend(primitives=[alike], policy=["alike"])
        print(ex.run(x).entries[0].value.words())
