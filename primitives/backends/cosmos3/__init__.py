"""Poses, views, pictures and clips from one set of weights: see `Cosmos3`."""

from primitives.backends.cosmos3.backend import Calibration, Cosmos3

__all__ = ["Calibration", "Cosmos3"]
