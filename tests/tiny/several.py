"""A chat model, two depth models and a matcher side by side, for one backend per capability."""

from tiny.chat_models import llava, saved
from tiny.depth_models import save_depth_anything
from tiny.matchers import save_lightglue


def save_several(root):
    """root/chat, root/depth (relative), root/depth2 (metric) and root/match."""
    for name in ("chat", "depth", "depth2", "match"):
        (root / name).mkdir()
    saved(root / "chat", llava(longest=4096))
    save_depth_anything(root / "depth")
    save_depth_anything(root / "depth2", "metric", 20)
    save_lightglue(root / "match")
    return root
