"""Depth as context and as the answer."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from primitives.views import a_photo
from unroller.capabilities import DepthEstimator, DepthRequest
from unroller.declare import View, decoder, primitive
from unroller.faults import InputError
from unroller.values import CameraPose, DepthMap


class OfPhoto(BaseModel):
    """Which photo's depth (from 0)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    photo: Annotated[int, Field(ge=0)] = 0


@primitive(
    reads=("images", "intrinsics", CameraPose),
    writes=DepthMap,
    needs=DepthEstimator,
    parameters=OfPhoto,
    stochastic=True,
    applies=a_photo,
)
def depth_estimate(view: View, estimator: DepthEstimator) -> DepthMap:
    """Estimate how far each pixel is; a camera pose in the context is used, not estimated again."""
    return _estimated(view, estimator, view.parameters.photo)


@decoder(task="depth", writes=DepthMap, needs=DepthEstimator, stochastic=True, applies=a_photo)
def depth(view: View, estimator: DepthEstimator) -> DepthMap:
    """Depth of the first photo: the context's, or, where there is none, one made now."""
    standing = [found for found in view.current(DepthMap) if found.photo == 0]
    if standing:
        view.charge(0)
        return standing[-1]
    return _estimated(view, estimator, 0)


def _estimated(view: View, estimator: DepthEstimator, photo: int) -> DepthMap:
    count = len(view.images)
    if photo >= count:
        raise InputError(f"there is no photo {photo + 1}: there are {count}")
    other = next((i for i in range(count) if i != photo), None)
    request = DepthRequest(
        view.images[photo],
        view.camera(photo),
        None if other is None else view.images[other],
        None if other is None else view.camera(other),
        None if other is None else _pose_between(view, photo, other),
        photo,
    )
    (made,) = estimator.estimate_depth([request], seeds=[view.seed])
    if isinstance(made, Exception):
        raise made
    return made


def _pose_between(view: View, source: int, target: int) -> CameraPose | None:
    """The pose of one photo in another's frame, if the context has it in either direction."""
    for pose in reversed(view.all(CameraPose)):
        if (pose.source, pose.target) == (source, target):
            return pose
        if (pose.source, pose.target) == (target, source):
            return pose.inverse
    return None
