"""Vision-language models of transformers as a backend: any chat checkpoint on this machine."""

from primitives.backends.hf_vlm.backend import HFVLM

__all__ = ["HFVLM"]
