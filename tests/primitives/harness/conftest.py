"""A tiny chat model with random weights, and questions about rooms that the embedded model answers."""

import pytest
from PIL import Image
from tiny.chat_models import llava, saved

from unroller.registry import load


@pytest.fixture(scope="session")
def chat(tmp_path_factory):
    """The folder of a checkpoint."""
    return saved(tmp_path_factory.mktemp("chat"), llava(longest=4096))


@pytest.fixture(scope="session")
def words(chat):
    """The backend's words for it."""
    return f"text=hf:{chat}?device=cpu&dtype=float32"


@pytest.fixture(scope="session")
def rooms(tmp_path_factory):
    """Eight questions about rooms, each with the files of its two photos."""
    folder, asked = tmp_path_factory.mktemp("rooms"), []
    for n, x in enumerate(load("problems", "rooms").many(range(8), "spatial")):
        files = [folder / f"{n}_{i}.png" for i in range(2)]
        for file, image in zip(files, x.images, strict=True):
            Image.fromarray(image.pixels).save(file)
        asked.append((x, [str(file) for file in files]))
    return asked


@pytest.fixture(scope="session")
def truth(rooms):
    """What the engine alone answers, as indices of choices."""
    from unroller import Executor

    bare = [x.model_copy(update={"metadata": {}, "intrinsics": ()}) for x, _ in rooms]
    return [run.output.choice for run in Executor(backend="nano").map(bare)]
