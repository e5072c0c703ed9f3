"""Pipelines of diffusers that draw and edit pictures: see `DiffusersImage`."""

from primitives.backends.diffusers_image.backend import DiffusersImage

__all__ = ["DiffusersImage"]
