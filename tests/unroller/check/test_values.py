"""What `check` says of value types."""

from typing import Any

import msgspec
import numpy as np
import pytest

from unroller import Value
from unroller.arrays import Array
from unroller.check import check
from unroller.check.samples import BUILT_IN
from unroller.rendering import TextSegment, escape


def expect(findings, level, subject, *words):
    lines = [f for f in findings if (f.level, f.subject) == (level, subject)]
    assert lines, str(findings)
    text = " ".join(f"{line.found} → {line.mend}" for line in lines)
    for word in words:
        assert word in text, text


class Bearing(Value, frozen=True):
    """Where the camera looks, in degrees from north."""

    degrees: float
    place: str = "here"

    def words(self):
        return f"bearing {self.degrees:.0f} degrees from {self.place}"


class Mesh(Value, frozen=True):
    """Corners (N, 3) in metres, camera frame."""

    corners: Array
    name: str = "mesh"

    @classmethod
    def example(cls):
        return [cls(np.eye(3) * (i + 1)) for i in range(2)]

    def render(self):
        return (TextSegment(f"<mesh>{escape(self.name)}</mesh>"),)


@pytest.mark.parametrize("good", [Bearing, Mesh, Bearing(12.0), *BUILT_IN])
def test_good_ones_pass(good):
    findings = check(good)
    assert findings.ok, str(findings)


def test_no_docstring():
    class Plain(Value, frozen=True):
        degrees: float

    expect(check(Plain), "warn", "declaration", "no docstring", "units")


def test_not_frozen():
    class Loose(Value, frozen=False):  # pyright: ignore[reportGeneralTypeIssues]
        """Can be assigned to."""

        degrees: float

    expect(check(Loose), "fail", "declaration", "can be assigned to", "leave frozen=False out")


def test_field_that_can_change():
    class Listed(Value, frozen=True):
        """Holds a list."""

        degrees: list[float] = msgspec.field(default_factory=lambda: [1.0])

    expect(check(Listed), "warn", "declaration", "'degrees' can change in place", "use a tuple")


def test_name_that_is_taken():
    class Text(Value, frozen=True):
        """Another text."""

        text: str

    found = check(Text)
    expect(found, "fail", "declaration", "another Value type is called Text", "call it something else")
    del Text


def test_no_example():
    class Grid(Value, frozen=True):
        """Cells."""

        cells: Array

    expect(check(Grid), "fail", "example", "'cells' is not a plain number", "def example(cls)")


def test_array_that_is_not_annotated():
    class Hidden(Value, frozen=True):
        """Cells."""

        cells: Any

        @classmethod
        def example(cls):
            return cls(np.ones(3))

    expect(check(Hidden), "fail", "arrays", "'cells' holds an array", "unroller.arrays.Array")


def test_several_arrays_in_a_field():
    class Pyramid(Value, frozen=True):
        """Levels."""

        levels: tuple[Array, ...]

        @classmethod
        def example(cls):
            return cls((np.ones(3), np.ones(2)))

    expect(check(Pyramid), "fail", "arrays", "'levels'", "inside a tuple", "one array a field")


def test_what_does_not_come_back():
    class Stamped(Value, frozen=True):
        """Doubles what it is given."""

        degrees: float

        def __post_init__(self):
            msgspec.structs.force_setattr(self, "degrees", self.degrees * 2)

    expect(check(Stamped), "fail", "journal", "comes back different", "Stamped.degrees")


def test_forged_tags():
    class Label(Value, frozen=True):
        """A name."""

        name: str

        def render(self):
            return (TextSegment(f"<label>{self.name}</label>"),)

    expect(check(Label), "fail", "rendering", "can forge a tag", "rendering.escape")


def test_words_that_are_none():
    class Number(Value, frozen=True):
        """A number."""

        number: int

        def words(self):
            return self.number

        def render(self):
            return (TextSegment("a number"),)

    expect(check(Number), "fail", "rendering", "words() returned int", "return a str")


def test_render_that_is_a_string():
    class Named(Value, frozen=True):
        """A name."""

        name: str

        def render(self):
            return self.name

    expect(check(Named), "fail", "rendering", "render() returned", "tuple of TextSegment")


def test_difference_beyond_one():
    class Far(Value, frozen=True):
        """Metres."""

        metres: float

        def difference(self, other):
            return abs(self.metres - other.metres) * 100 if isinstance(other, Far) else 1.0

    expect(check(Far), "fail", "difference", "to another value is 25", "from 0 (the same) to 1")


def test_difference_to_another_type():
    class Picky(Value, frozen=True):
        """Metres."""

        metres: float

        def difference(self, other):
            return min(1.0, abs(self.metres - other.metres))  # pyright: ignore[reportAttributeAccessIssue]

    expect(check(Picky), "fail", "difference", "to another type raised AttributeError")
