"""Wan pipelines of diffusers: clips, and views of photographs that they in-paint. See `DiffusersVideo`."""

from primitives.backends.diffusers_video.backend import DiffusersVideo

__all__ = ["DiffusersVideo"]
