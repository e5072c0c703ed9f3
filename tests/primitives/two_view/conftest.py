"""A textured room with exact cameras: planes and boards, rendered by casting a ray per pixel."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest


def _texture(rng, size=512):
    """Noise of several octaves in saturated colours (size, size, 3)."""
    out = np.zeros((size, size, 3), np.float32)
    for cells, weight in ((8, 0.5), (24, 0.6), (64, 0.7), (160, 0.5)):
        noise = rng.random((cells, cells, 3), dtype=np.float32) - 0.5
        out += weight * cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(127 + 150 * out, 0, 255).astype(np.uint8)


class Room:
    """Textured rectangles: each is a corner, two edges (all in metres) and a texture."""

    def __init__(self, seed, rectangles):
        rng = np.random.default_rng(seed)
        self.rendered = {}
        self.rectangles = [(*np.array(r, dtype=float), _texture(rng)) for r in rectangles]

    def render(self, c2w, K, width, height):
        """uint8 RGB (H, W, 3) and depth z (H, W), from a camera-to-world pose (4, 4)."""
        key = c2w.tobytes(), K.tobytes(), width, height
        if key not in self.rendered:
            self.rendered[key] = self._cast(c2w, K, width, height)
        image, depth = self.rendered[key]
        return image.copy(), depth.copy()

    def _cast(self, c2w, K, width, height):
        x, y = np.meshgrid(np.arange(2 * width) / 2 + 0.25, np.arange(2 * height) / 2 + 0.25)
        rays = np.stack([x, y, np.ones_like(x)], -1) @ (c2w[:3, :3] @ np.linalg.inv(K)).T
        depth = np.full(x.shape, np.inf)
        image = np.zeros((*x.shape, 3), np.uint8)
        for corner, u, v, texture in self.rectangles:
            normal = np.cross(u, v)
            with np.errstate(divide="ignore", invalid="ignore"):
                z = ((corner - c2w[:3, 3]) @ normal) / (rays @ normal)
            hit = rays * z[..., None] + (c2w[:3, 3] - corner)
            s, t = hit @ u / (u @ u), hit @ v / (v @ v)
            seen = (z > 1e-3) & (z < depth) & (s >= 0) & (s < 1) & (t >= 0) & (t < 1)
            colours = cv2.remap(
                texture,
                (s * 511).astype(np.float32),
                (t * 511).astype(np.float32),
                cv2.INTER_LINEAR,
            )
            image[seen], depth[seen] = colours[seen], z[seen]
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return image, np.minimum(depth[::2, ::2], depth[1::2, 1::2])


ROOM = [  # a room 6 m wide, 3 m high, 8 m deep, camera about its origin, looking along +z
    ((-3, 1.5, -2), (6, 0, 0), (0, 0, 8)),  # floor
    ((-3, -1.5, 6), (6, 0, 0), (0, 3, 0)),  # wall ahead
    ((-3, -1.5, -2), (0, 0, 8), (0, 3, 0)),  # left
    ((3, -1.5, -2), (0, 0, 8), (0, 3, 0)),  # right
    ((-3, -1.5, -2), (6, 0, 0), (0, 0, 8)),  # ceiling
    ((-1.6, -0.5, 3.2), (1.0, 0, 0.4), (0, 2, 0)),  # boards that stand in the room
    ((0.5, 0.0, 2.4), (0.9, 0, -0.2), (0, 1.5, 0)),
    ((-0.3, -0.9, 4.3), (1.1, 0, 0.1), (0, 1.2, 0)),
]
WALL = [((-6, -4, 4), (12, 0, 1.5), (0, 8, 0))]


def pose(x=0.0, y=0.0, z=0.0, yaw=0.0, pitch=0.0):
    """Camera-to-world (4, 4): metres, degrees; yaw turns right, pitch looks up."""
    T = np.eye(4)
    about_y = cv2.Rodrigues(np.radians([0.0, yaw, 0.0]))[0]
    T[:3, :3] = about_y @ cv2.Rodrigues(np.radians([pitch, 0.0, 0.0]))[0]
    T[:3, 3] = x, y, z
    return T


@pytest.fixture(scope="session")
def scenes():
    """Rooms, `pose`, and intrinsics `K` of pictures of `width` by `height`."""
    width, height = 480, 360
    return SimpleNamespace(
        room=Room(1, ROOM),
        wall=Room(2, WALL),
        elsewhere=Room(3, ROOM[:6]),
        pose=pose,
        K=np.array([[400.0, 0, width / 2], [0, 400.0, height / 2], [0, 0, 1]]),
        width=width,
        height=height,
    )
