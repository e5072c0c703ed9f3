"""Depth as context and as the answer."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from primitives.views import a_photo, told
from unroller.capabilities import DepthEstimator, DepthRequest
from unroller.declare import View, decoder, primitive
from unroller.faults import InputError
from unroller.rendering import Segment
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
    batched=True,
    stochastic=True,
    applies=a_photo,
)
def depth_estimate(views: list[View], estimator: DepthEstimator) -> list[DepthMap | Exception]:
    """Estimate how far each pixel is; a camera pose in the context is used, not estimated again."""
    return _estimated(views, estimator, views[0].parameters.photo)


@decoder(task="depth", writes=DepthMap, needs=DepthEstimator, batched=True, stochastic=True, applies=a_photo)
def depth(views: list[View], estimator: DepthEstimator) -> list[DepthMap | Exception]:
    """Depth of the first photo: the context's, or, where there is none, one made now from all of the
    context."""
    outcomes: list[DepthMap | Exception | None] = []
    for view in views:
        standing = [found for found in view.current(DepthMap) if found.photo == 0]
        outcomes.append(standing[-1] if standing else None)
        if standing:
            view.charge(0)
    asking = [view for view, found in zip(views, outcomes, strict=True) if found is None]
    made = iter(_estimated(asking, estimator, 0, reading=True) if asking else ())
    return [next(made) if found is None else found for found in outcomes]


def _estimated(
    views: list[View], estimator: DepthEstimator, photo: int, reading: bool = False
) -> list[DepthMap | Exception]:
    """The estimator's answers, in one call, for those views that have such a photo. reading: the context,
    too."""
    requests: list[DepthRequest] = []
    outcomes: list[Exception | None] = []
    for view in views:
        try:
            requests.append(_request(view, photo, told(view) if reading else ()))
            outcomes.append(None)
        except InputError as error:
            outcomes.append(error)
    asking = [view for view, outcome in zip(views, outcomes, strict=True) if outcome is None]
    seeds = [view.seed for view in asking]
    made = iter(estimator.estimate_depth(requests, seeds=seeds) if requests else ())
    return [next(made) if outcome is None else outcome for outcome in outcomes]


def _request(view: View, photo: int, context: tuple[Segment, ...]) -> DepthRequest:
    count = len(view.images)
    if photo >= count:
        raise InputError(f"there is no photo {photo + 1}: there are {count}")
    other = next((i for i in range(count) if i != photo), None)
    return DepthRequest(
        view.images[photo],
        view.camera(photo),
        None if other is None else view.images[other],
        None if other is None else view.camera(other),
        None if other is None else _pose_between(view, photo, other),
        photo,
        context,
    )


def _pose_between(view: View, source: int, target: int) -> CameraPose | None:
    """The pose of one photo in another's frame, if the context has it in either direction."""
    for pose in reversed(view.all(CameraPose)):
        if (pose.source, pose.target) == (source, target):
            return pose
        if (pose.source, pose.target) == (target, source):
            return pose.inverse
    return None
