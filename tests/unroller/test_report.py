"""The report: a page that opens offline, shows every type of value, and lets nothing run.

The last part opens pages in headless Chromium. Without a browser those tests are skipped; with
UNROLLER_REQUIRE_BROWSER=1 (as in CI) they fail.
"""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from unroller import (
    STOP,
    Answer,
    Call,
    CameraPose,
    Cost,
    Decision,
    DepthMap,
    Executor,
    Image,
    Latents,
    NovelViews,
    PointMap,
    Problem,
    Text,
    Value,
    Video,
    VisualTokens,
    decoder,
    policy,
    primitive,
    probe,
)
from unroller.drawing import two_cameras
from unroller.pictures import Album, coloured, coloured_depth, mosaic
from unroller.report import charged, duration, write_report

# What a hostile user or model would write. Were any of it let through, the title would change.
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
FORGED = "</think><campose>1 2 3</campose>\"'>{{ 123 * 457 }}"
HOSTILE = f"{EVIL} {FORGED}"

TRUTH = CameraPose((0.6, 0.0, 0.8), (0.0, 0.3, 0.0))


def photo(width=64, height=48, seed=0):
    ramp = np.linspace(0, 200, width, dtype=np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (height, width, 3)).copy()
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (200, 40 + 30 * seed, 40)
    return pixels


class Heading(Value, frozen=True, eq=False):
    """A plug-in's value: nobody here has heard of it."""

    degrees: float
    why: str
    scores: np.ndarray

    def words(self):
        return f"heading {self.degrees:.0f} degrees {HOSTILE}"


class Mute(Value, frozen=True, eq=False):
    """A plug-in's value with a mistake in it."""

    def words(self):
        raise RuntimeError(f"no words for {EVIL}")


@primitive(reads=("images", "intrinsics"), writes=CameraPose, cost=Cost(model_calls=1))
def estimate_pose(view):
    return CameraPose((0.6, 0.08, 0.796), (0.0, 0.32, 0.0), "unit", inliers=41, matches=63)


@primitive(reads=("question", CameraPose), writes=Text, cost=Cost(1, 50), stochastic=True)
def think(view):
    view.charge(model_calls=1, tokens=37)
    return Text(f"The camera moved. {HOSTILE} \u202e turned around", "plan")


@primitive(reads=("images",), writes=NovelViews)
def look_around(view):
    views = np.stack([view.images[0].pixels] * 3)
    valid = np.ones(views.shape[:3], bool)
    valid[0, :, :30] = False
    return NovelViews(views, ("left", "right", f"up {EVIL}"), valid)


@primitive(reads=("images",), writes=DepthMap)
def depth(view):
    z = np.linspace(1, 5, 64 * 48, dtype=np.float32).reshape(48, 64)
    valid = np.ones(z.shape, bool)
    valid[:10] = False
    return DepthMap(np.where(valid, z, 0), valid, "metre")


@primitive(reads=("images",), writes=PointMap)
def points(view):
    xyz = np.stack(np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 48)), -1)
    xyz = np.concatenate([xyz, 2 + xyz[..., :1]], -1).astype(np.float32)
    return PointMap(xyz, np.ones((48, 64), np.float32))


@primitive(reads=("images",), writes=Image)
def sketch(view):
    return Image(255 - view.images[0].pixels)


@primitive(reads=("images",), writes=Video)
def clip(view):
    return Video(np.stack([np.roll(view.images[0].pixels, i, 1) for i in range(30)]), 10.0)


@primitive(reads=("images",), writes=VisualTokens)
def tokens(view):
    return VisualTokens(np.arange(70) * 7 % 64, f"vq {EVIL}", 64)


@primitive(reads=("images",), writes=Latents)
def hidden(view):
    return Latents(np.random.default_rng(0).normal(size=(9, 32)).astype(np.float32), "nano")


@primitive(reads=(CameraPose,), writes=Heading)
def heading(view):
    return Heading(17.0, f"{HOSTILE} half a pair \ud83d", np.arange(6.0).reshape(2, 3))


@primitive(reads=(CameraPose,), writes=Mute)
def mute(view):
    return Mute()


@primitive(reads=("images",), writes=Text)
def broken(view):
    raise ValueError(f"it broke: {HOSTILE}")


@probe()
def context_size(view):
    return float(len(view.all(Value)))


@decoder(task="spatial", writes=Answer, cost=Cost(model_calls=1))
def spatial(view):
    sure = 0.4 + 0.1 * len(view.all(CameraPose)) + 0.2 * len(view.all(Text))
    return Answer(view.choices[0], view.choices, 0, (sure, 1 - sure))


@decoder(task="pose", writes=CameraPose)
def pose(view):
    return TRUTH


@decoder(task="editing", writes=Image)
def editing(view):
    return Image(255 - view.images[0].pixels)


@decoder(task="lost", writes=Answer)
def lost(view):
    raise ValueError(f"no answer {EVIL}")


EVERYTHING = [estimate_pose, think, look_around, depth, points, sketch]
EVERYTHING += [clip, tokens, hidden, heading, mute, broken]


class Listed:
    """The actions of a list, two of them side by side, with log-probabilities and a probe."""

    name = f"listed {EVIL}"
    probes = ("context_size",)
    plan = (("estimate_pose",), ("think", "depth"), ("broken",), *((p.name,) for p in EVERYTHING[2:3]))
    plan += tuple((p.name,) for p in EVERYTHING[4:11])

    def decide(self, states):
        return [
            Decision(tuple(Call(c) for c in self.plan[s.step]), -0.25)
            if s.step < len(self.plan)
            else Decision((), -0.125)
            for s in states
        ]


def executor(policy=(), **options):
    decoders = [spatial, pose, editing, lost]
    given = {"primitives": EVERYTHING, "decoders": decoders, "probes": [context_size], **options}
    return Executor(backend=[], policy=policy, **given)


def problem(**fields):
    named = Image(photo(), source="/home/somebody/holiday/a<script>alert(1).jpg")
    return Problem.spatial(
        named,
        photo(seed=1),
        question=f"Where is the cone? {HOSTILE}",
        choices=[f"left {EVIL}", "right"],
        intrinsics=[{"fx": 50, "fy": 50, "cx": 32, "cy": 24}, None],
        metadata={"truth": {"pose": [*TRUTH.translation, *TRUTH.rotation]}, EVIL: [HOSTILE]},
        **fields,
    )


@pytest.fixture(scope="module")
def full_run():
    """A run with every type of value in it, hostile text in all places."""
    return executor(Listed()).run(problem())


@pytest.fixture(scope="module")
def full_page(full_run, tmp_path_factory):
    return full_run.report(tmp_path_factory.mktemp("report") / "not yet there" / "report.html")


class Tags(HTMLParser):
    """What is in a page: tags with their attributes, ids, visible text, and unclosed tags."""

    VOID = frozenset({"meta", "link", "img", "br", "path", "polyline", "polygon", "circle", "line"})

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.open, self.wrong = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append((tag, self.getpos()))

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def parsed(path):
    return Tags(path.read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------- the page


def test_a_run_writes_a_page_and_makes_its_folder(full_page):
    assert full_page.name == "report.html" and full_page.stat().st_size > 10_000
    tags = parsed(full_page)
    assert tags.wrong == [] and tags.open == []
    ids = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in tags.all("a"):  # links lead to places in the page, and the places are there
        assert attributes["href"].startswith("#") and attributes["href"][1:] in ids


def test_the_page_asks_nothing_of_the_network(full_page):
    page, tags = full_page.read_text(), parsed(full_page)
    policies = [m for m in tags.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    wanted = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert policies[0]["content"].startswith(wanted)
    for _, attributes in tags.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/", "#"))
    assert "@import" not in page and not re.search(r"url\((?!data:)", page)


def test_nothing_that_anybody_wrote_becomes_a_tag(full_page):
    tags = parsed(full_page)
    names = {name for name, _ in tags.tags}
    assert not names & {"script", "iframe", "object", "embed", "form", "campose", "think", "base"}
    assert not [a for _, a in tags.tags for name in a if name.startswith("on")]
    assert "56211" not in tags.words and "{{ 123 * 457 }}" in tags.words
    assert tags.words.count("document.title") > 10  # the words are there, as words


def test_every_entry_is_shown_in_the_order_it_was_written(full_run, full_page):
    tags = parsed(full_page)
    shown = [a["id"] for a in tags.all("article") if a.get("id", "").startswith("entry-")]
    assert shown == [f"entry-{i + 1}" for i in range(len(full_run.entries))]
    for entry in full_run.entries:
        assert entry.id.hex()[:8] in tags.words
        assert type(entry.value).__name__ in tags.words
    words = tags.words
    assert "1 call, 37 tokens" in words  # what was charged, not the declared bound
    assert "The policy chose estimate_pose" in words and "think, depth" in words
    assert "log p = −0.250 (p = 0.78)" in words and "probe context_size = 1 (free)" in words
    assert "The policy stopped log p = −0.125" in words


def test_what_a_call_read_is_told_and_linked(full_page):
    page = full_page.read_text()
    thought = page[page.index('id="entry-2"') : page.index('id="entry-3"')]
    assert 'read question, <a href="#entry-1">#1</a>' in thought
    beside = page[page.index('id="entry-3"') : page.index('id="entry-4"')]
    assert "read images</span>" in beside


def test_a_pose_is_drawn_beside_the_truth_with_its_errors(full_page):
    page, words = full_page.read_text(), parsed(full_page).words
    assert "&lt;campose&gt;0.600000 0.080000 0.796000 0.000000 0.320000 0.000000" in page
    assert "up to scale" in words and "41 inliers, 63 matches" in words
    assert "0.796 forward, 0.6 right, 0.08 down of 1" in words
    assert "18.3° right (18.3° in all)" in words
    assert "rotation 1.15°, direction 4.5" in words
    assert page.count('class="frustum truth"') == 4  # two views, lines and label


def test_pictures_and_numbers_of_each_type(full_page):
    words = parsed(full_page).words
    assert "left, 53% valid" in words
    assert "a clip of 30 frames at 10 fps ; 18 more are not shown" in words.replace("fps;", "fps ;")
    assert "near 1.9 m" in words and "79% of the pixels are valid, the others are grey" in words
    assert "64 different of 64" in words and "9 states (down) × 32 channels (across)" in words
    assert "heading 17 degrees" in words and "float64, 2 × 3, 0 to 5" in words
    assert "words() raised RuntimeError" in words


def test_inputs_say_where_their_camera_is_known_from(full_page):
    words = parsed(full_page).words
    assert "Photo 1 · a<script>alert(1).jpg" in words and "somebody" not in words  # the name, not the folder
    assert "f 50.0 px c 32.0, 24.0 65° across camera given" in words
    assert "60° across camera not known: default" in words


def test_faults_are_told_with_their_kind_message_and_phase(full_page):
    words = parsed(full_page).words
    assert "ValueError broken the call failed" in words and "it broke: <script>" in words
    assert "1 fault ValueError" in words


def test_a_refused_call_a_failed_policy_and_a_lost_output_are_told(tmp_path):
    @policy
    def stubborn(state):
        if state.step == 2:
            raise KeyError("nothing left to try")
        return "broken"

    run = executor(stubborn).run(Problem(task="lost", images=(photo(),)))
    words = parsed(run.report(tmp_path / "r.html")).words
    assert "NotAllowed broken refused, and not called" in words
    assert "KeyError stubborn the policy failed" in words
    assert "no output" in words and "ValueError lost the decoder failed" in words
    assert "no answer <script>" in words


def test_contributions_are_measured_and_shown_as_bars(tmp_path):
    run = executor(["estimate_pose", "think"]).run(problem())
    page = run.report(tmp_path / "r.html")
    words = parsed(page).words
    assert "leave-one-out Shapley" in words
    assert "#1 estimate_pose +0.100 +0.100" in words and "#2 think +0.200 +0.200" in words
    assert 'style="left:0.00%;width:50.00%"' in page.read_text()


def test_contributions_that_cannot_be_measured_are_a_sentence(tmp_path, monkeypatch):
    run = executor(["estimate_pose"]).run(problem())

    def fails(*_):
        raise RuntimeError(f"the backend is gone {EVIL}")

    monkeypatch.setattr(run, "contributions", fails)
    words = parsed(run.report(tmp_path / "r.html")).words
    assert "Contributions could not be measured: the backend is gone <script>" in words
    words = parsed(write_report(run, tmp_path / "r.html", contributions=False)).words
    assert "Contributions were not measured." in words


def test_memo_hits_batches_and_costs(tmp_path):
    ex = executor(["estimate_pose", "think"])
    ex.run(problem())
    words = parsed(ex.run(problem()).report(tmp_path / "again.html")).words
    assert "memo hit 1 call" in words and "3 hits" in words  # charged the same, hit or not
    assert "in all 3 37" in words
    several = list(ex.extend(memo=None).map([problem(seed=i) for i in range(3)]))
    assert "batch of 3" in parsed(several[0].report(tmp_path / "batch.html")).words


def test_a_forked_run_shows_what_it_inherited(tmp_path):
    run = executor(["estimate_pose", "think"]).run(problem())
    forked = executor(["depth"]).run(run.at(1))
    words = parsed(forked.report(tmp_path / "r.html")).words
    assert "Inherited from the run that this one was forked from" in words
    assert "The policy chose depth" in words and "#2 depth" in words


def test_the_number_in_the_journal_is_told(tmp_path):
    with executor([], journal=tmp_path / "journal") as ex:
        first, second = ex.map([problem(), problem(seed=1)])
    assert "Journal run 1" in parsed(second.report(tmp_path / "r.html")).words
    assert "run 0" in parsed(first.report(tmp_path / "r.html")).words


@pytest.mark.parametrize("task", ["pose", "editing"])
def test_outputs_that_are_no_text(tmp_path, task):
    prompt = {"prompt": f"make it darker {EVIL}"} if task == "editing" else {}
    x = Problem(task=task, images=(photo(), photo(seed=1)), **prompt)
    page = executor().run(x).report(tmp_path / "r.html")
    assert "The context is empty" in parsed(page).words
    assert ("<svg" if task == "pose" else "data:image/png") in page.read_text()


def test_a_stop_at_once_and_a_problem_without_pictures(tmp_path):
    x = Problem.spatial(question="Which way?", choices=["left", "right"])
    run = executor(lambda state: STOP).run(x)
    assert "Decoded spatial from x alone" in parsed(run.report(tmp_path / "r.html")).words


def test_many_large_pictures_still_make_a_small_page(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (3, 1200, 1600, 3), dtype=np.uint8)

    @primitive(reads=("images",), writes=NovelViews, stochastic=True)
    def views(view):
        return NovelViews(noise, ("left", "right", "up"), np.ones(noise.shape[:3], bool))

    run = executor([Call("views", draw=i) for i in range(9)], primitives=[views])
    page = run.run(Problem.spatial(*noise, question="?", choices=["a", "b"]))
    page = page.report(tmp_path / "r.html")
    assert page.stat().st_size < 5_000_000
    widths = [int(image["width"]) for image in parsed(page).all("img")]
    assert widths[0] == 960 and widths[-1] == 160 and len(widths) == 30


def test_when_a_page_is_full_pictures_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("unroller.report.Album", lambda: Album(max_bytes=100))
    page = executor().run(problem()).report(tmp_path / "r.html")
    assert parsed(page).words.count("left out to keep this page small") == 1  # the first came in


def test_importing_unroller_loads_nothing_that_only_the_report_needs():
    heavy = ("jinja2", "torch", "unroller.report", "unroller.pictures", "unroller.showing")
    code = f"import sys, unroller; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------ its small parts


def test_colours_are_those_of_viridis():
    assert coloured(np.array([0.0, 1.0, 7.0])).tolist() == [[68, 1, 84], [253, 231, 37], [253, 231, 37]]
    bright = coloured(np.linspace(0, 1, 50)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(bright) > 0).all()  # brighter all the way


def test_depth_is_bright_where_near_and_grey_where_invalid():
    z = np.tile(np.linspace(1, 3, 100), (10, 1))
    valid = np.ones(z.shape, bool)
    valid[0] = False
    picture, near, far = coloured_depth(z, valid)
    assert picture[5, 0].sum() > picture[5, -1].sum() and (picture[0] == 140).all()
    assert 1 < near < 1.1 and 2.9 < far < 3
    flat, near, far = coloured_depth(np.full((4, 4), 2.0), np.ones((4, 4), bool))
    assert near == far == 2 and np.ptp(flat, axis=(0, 1)).max() == 0
    coloured_depth(np.zeros((4, 4)), np.zeros((4, 4), bool))  # nothing valid at all


def test_equal_tokens_have_equal_colours():
    picture, held = mosaic(np.array([3, 4, 3, 9, 4]), 3)
    assert picture.shape == (2, 3, 3) and held.sum() == 5
    assert (picture[0, 0] == picture[0, 2]).all() and (picture[0, 0] != picture[0, 1]).any()


@pytest.mark.parametrize("scale", ["metric", "unit", "none", "relative"])
def test_cameras_are_drawn_inside_the_drawing(scale):
    lengths = {"metric": 250.0, "unit": 1.0, "none": 0.0, "relative": 1e-3}
    t = tuple(np.array([0.6, 0.0, -0.8]) * lengths[scale])
    views = two_cameras(CameraPose(t, (0.1, 2.0, 0.3), scale), TRUTH)
    for view in views:
        for camera in view.cameras:
            corners = re.findall(r"(-?[\d.]+),(-?[\d.]+)", camera.sight)
            assert all(0 <= float(x) <= 320 and 0 <= float(y) <= 230 for x, y in corners)
    assert [view.title for view in views] == ["from above", "from the side"]
    assert (views[0].bar is not None) == (scale == "metric")
    assert (views[0].move is None) == (scale == "none")


def test_a_camera_to_the_right_and_ahead_is_drawn_right_and_up():
    above, beside = two_cameras(CameraPose((1.0, 0.5, 1.0), (0.0, 0.0, 0.0)))
    first, second = above.cameras
    assert second.x > first.x and second.y < first.y  # right, and forward is up the page
    first, second = beside.cameras
    assert second.x > first.x and second.y > first.y  # forward is right, and down is down


def test_numbers_as_people_say_them():
    times = (0, 1e-6, 0.0031, 0.23, 3.21, 125)
    said = ["0.0 ms", "< 0.1 ms", "3.1 ms", "230 ms", "3.2 s", "2 min 05 s"]
    assert [duration(t) for t in times] == said
    assert charged(Cost()) == "free" and charged(Cost(1, 20)) == "1 call, 20 tokens"


# --------------------------------------------------------------------------------------- in a browser

# Runs in a copy of the page whose own policy, which would forbid it, is taken out.
LOOK = """<script>addEventListener("load", () => {
  const images = [...document.images].filter(i => i.complete && i.naturalWidth > 0);
  const asked = performance.getEntriesByType("resource").filter(r => !r.name.startsWith("data:"));
  document.body.dataset.found = [images.length, document.images.length, asked.length,
    document.documentElement.scrollWidth - innerWidth, document.title === "owned"].join(" ");
});</script>"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A function that opens a page in headless Chromium and returns its standard output."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        reason = f"no browser: none of {', '.join(names)} is on the PATH"
        if os.environ.get("UNROLLER_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    profile = tmp_path_factory.mktemp("profile")
    quiet = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    quiet += " disable-component-update disable-sync disable-dev-shm-usage hide-scrollbars"

    def open_page(path, *options):
        flags = [f"--{flag}" for flag in ("headless", *quiet.split(), "virtual-time-budget=3000")]
        command = [found, *flags, f"--user-data-dir={profile}", *options, path.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    return open_page


@pytest.mark.browser
def test_the_browser_builds_the_page_that_was_written(browser, full_page, full_run):
    dom = Tags(browser(full_page, "--dump-dom"))
    written = parsed(full_page)
    assert len(dom.all("img")) == len(written.all("img")) > 10
    assert len(dom.all("article")) == len(full_run.entries) + len(full_run.faults) + 1
    assert not dom.all("script") and dom.words[:30] == written.words[:30]


@pytest.mark.browser
@pytest.mark.parametrize("width", [500, 1300], ids=["phone", "desk"])
def test_all_pictures_load_nothing_is_fetched_and_nothing_runs(browser, full_page, tmp_path, width):
    page = re.sub(r"<meta http-equiv[^>]*>", "", full_page.read_text())
    copy = tmp_path / "copy.html"
    copy.write_text(page.replace("</body>", LOOK + "</body>"))
    dom = browser(copy, "--dump-dom", f"--window-size={width},900")
    found = re.search(r'data-found="([^"]*)"', dom)
    assert found is not None
    loaded, images, asked, overflow, owned = found[1].split()
    assert loaded == images and int(images) > 10
    assert asked == "0"
    assert int(overflow) <= 0  # nothing sticks out to the right
    assert owned == "false"


@pytest.mark.browser
@pytest.mark.parametrize("mode", ["dark", "light"])
def test_the_page_is_drawn_light_or_dark_as_the_reader_likes(browser, full_page, tmp_path, mode):
    shot = tmp_path / f"{mode}.png"
    preferred = f"--blink-settings=preferredColorScheme={0 if mode == 'dark' else 1}"
    browser(full_page, f"--screenshot={shot}", preferred, "--window-size=1000,1600")
    with Pillow.open(shot) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    background = pixels[5, 5].astype(int)
    assert (background.max() < 60) if mode == "dark" else (background.min() > 220)
    drawn = (np.abs(pixels.astype(int) - background).max(axis=2) > 60).mean()
    assert 0.02 < drawn < 0.9


if __name__ == "__main__":
    print(executor(Listed()).run(problem()).report(Path("report.html")))
