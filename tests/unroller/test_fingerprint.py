"""Two functions that could give different results never share a version, so neither a memo."""

import functools
import subprocess
import sys

import numpy as np
import pytest

from unroller import Executor, Problem, Text, decoder, primitive
from unroller.declare import Primitive
from unroller.fingerprint import fingerprint


def says(n):
    return lambda view: Text(str(n))


def with_default(n):
    def p(view, n=n):
        return Text(str(n))

    return p


def with_keyword_default(n):
    def p(view, *, n=n):
        return Text(str(n))

    return p


class Says:
    def __init__(self, n):
        self.n = n

    def __call__(self, view):
        return Text(str(self.n))

    def go(self, view):
        return Text(str(self.n))


def wrapped(n):
    def base(view):
        return Text("base")

    def louder(f):
        @functools.wraps(f)
        def p(view):
            return Text(f(view).text + str(n))

        return p

    return louder(base)


def with_array(n):
    held = np.zeros(3000)
    held[1500] = n
    return lambda view: Text(str(held[1500]))


def with_primitive(n):
    inner = Primitive(says(n), reads=(), writes=Text, name="inner")
    return lambda view: Text(inner(view).text)


def with_objects(n):
    held = [Says(n)]
    return lambda view: Text(held[0](view).text)


WAYS = {
    "a closure": says,
    "a default": with_default,
    "a keyword default": with_keyword_default,
    "a callable object": Says,
    "a bound method": lambda n: Says(n).go,
    "a partial": lambda n: functools.partial(with_default(0), n=n),
    "what a decorator hides": wrapped,
    "an array": with_array,
    "another primitive": with_primitive,
    "objects in a list": with_objects,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_differs_in_what_a_function_holds_is_computed_again(way):
    first, second = (Primitive(way(n), reads=(), writes=Text, name="p") for n in (1, 2))
    last = decoder(task="last", writes=Text, name="last")(lambda view: view.latest(Text))
    ex = Executor(backend=[], primitives=[first], decoders=[last], policy=["p"])
    x = Problem(task="last")
    one, two = ex.run(x).output.text, ex.extend(primitives=[second]).run(x).output.text
    assert one != two
    again = Primitive(way(1), reads=(), writes=Text, name="p")
    assert ex.extend(primitives=[again]).run(x).spent.hits == 2, "and what is the same is not"


def test_two_lambdas_on_one_line_differ():
    one, two = (lambda view: 1), (lambda view: 2)
    assert fingerprint(one) != fingerprint(two)


def test_a_version_is_the_same_in_another_process(tmp_path):
    script = tmp_path / "versions.py"
    script.write_text(
        "import functools\n"
        "from unroller import Text, primitive\n"
        "def made(n):\n"
        "    @primitive(reads=(), writes=Text)\n"
        "    def p(view, extra={'a', 'b'}, *, k=n):\n"
        "        return Text(str((n, extra, k)))\n"
        "    return p\n"
        "print(made(3).version)\n"
    )
    seen = {subprocess.check_output([sys.executable, script]) for _ in range(3)}
    assert len(seen) == 1


def test_what_keeps_its_content_to_itself_is_told_apart_within_this_process():
    one, two = (functools.partial(next, iter([n])) for n in (1, 2))
    assert fingerprint(one) != fingerprint(two)


def test_a_function_that_holds_itself_can_be_described():
    def p(view):
        return p

    @primitive(reads=(), writes=Text)
    def q(view):
        return Text(str(q))

    assert fingerprint(p) and q.version
