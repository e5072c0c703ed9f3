"""Views of the scene that nobody photographed, as context and as the answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from unroller.capabilities import ViewRequest, ViewSynthesizer
from unroller.declare import View, decoder, primitive
from unroller.faults import InputError
from unroller.problem import Problem
from unroller.rendering import Segment
from unroller.values import CameraPose, DepthMap, NovelViews

Direction = Literal["up", "down", "left", "right"]
AROUND: tuple[Direction, ...] = ("up", "down", "left", "right")


class Looking(BaseModel):
    """Which photo to look around in (from 0), in which directions, and how far (None: as far as the backend
    does of its own)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    photo: Annotated[int, Field(ge=0)] = 0
    directions: Annotated[tuple[Direction, ...], Field(min_length=1)] = AROUND
    degrees: Annotated[float, Field(gt=0, lt=90)] | None = None


def a_photo(problem: Problem) -> str | None:
    return None if problem.images else "needs a photo, and has none"


@primitive(
    reads=("images", "intrinsics"),
    writes=NovelViews,
    needs=ViewSynthesizer,
    parameters=Looking,
    presets={"second": {"photo": 1}, "sides": {"directions": ("left", "right")}},
    batched=True,
    stochastic=True,
    applies=a_photo,
)
def novel_view_synthesis(views: list[View], synthesizer: ViewSynthesizer) -> list[NovelViews | Exception]:
    """Look up, down, left and right from where a photo was taken: the paper's 3-D visual context."""
    looking = views[0].parameters
    return _asked(
        views,
        synthesizer,
        lambda view: ViewRequest(
            _photo(view, looking.photo),
            view.camera(looking.photo),
            looking.directions,
            degrees=looking.degrees,
            index=looking.photo,
            photos=tuple(view.images),
        ),
    )


def known_directions(problem: Problem) -> str | None:
    """A photo is needed, and directions that have a name."""
    unknown = [direction for direction in problem.look if direction not in AROUND]
    if unknown:
        return f"no direction is called {unknown[0]!r}: choose among {', '.join(AROUND)}"
    return a_photo(problem)


@decoder(
    task="novel_view",
    writes=NovelViews,
    needs=ViewSynthesizer,
    batched=True,
    stochastic=True,
    applies=known_directions,
)
def novel_view(views: list[View], synthesizer: ViewSynthesizer) -> list[NovelViews | Exception]:
    """What would be seen from x.pose, or looking in the directions x.look (all four if neither is given).

    A camera that moves is drawn from the first photo's depth map in the context; the pose's translation is
    in that depth map's unit.
    """

    def request(view: View) -> ViewRequest:
        depths = [d for d in view.current(DepthMap) if d.photo == 0]
        look = view.look or (() if view.pose is not None else AROUND)
        return ViewRequest(
            _photo(view, 0),
            view.camera(0),
            look,
            view.pose,
            depths[-1] if depths else None,
            photos=tuple(view.images),
            context=told(view),
        )

    return _asked(views, synthesizer, request)


def told(view: View) -> tuple[Segment, ...]:
    """The context as a model reads it, without poses and depth maps: those have fields of their own in a
    request."""
    said = [entry.value for entry in view.entries if not isinstance(entry.value, (CameraPose, DepthMap))]
    return tuple(segment for value in said for segment in value.render())


def _asked(views, synthesizer, request) -> list[NovelViews | Exception]:
    """The synthesizer's answers to the requests of those views that can make one."""
    requests, outcomes = [], []
    for view in views:
        try:
            requests.append(request(view))
            outcomes.append(None)
        except InputError as error:
            outcomes.append(error)
    asking = [view for view, outcome in zip(views, outcomes, strict=True) if outcome is None]
    answers = iter(synthesizer.synthesize_views(requests, seeds=[view.seed for view in asking]))
    return [next(answers) if outcome is None else outcome for outcome in outcomes]


def _photo(view: View, index: int):
    if index >= len(view.images):
        raise InputError(f"there is no photo {index + 1}: there are {len(view.images)}")
    return view.images[index]
