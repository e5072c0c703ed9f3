"""How well the classical backend does on photographs whose truth is known: pairs of procedural rooms.

    python benchmarks/geometry.py               # 60 pairs at 640 x 480, a few minutes
    python benchmarks/geometry.py --pairs 10

Rotation and signed direction error of the pose (a flipped direction is 180 degrees), the share of pairs
refused, and for depth the absolute relative error and delta_1 after one median scale, with the share of
pixels that have any. Written to results/geometry.json, a row a pair.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from nano_omni.world import render_pair
from unroller import CameraPose, DepthMap, Executor, Problem
from unroller.values import pose_errors

RESULTS = Path(__file__).resolve().parent / "results" / "geometry.json"
FIRST_SEED = 50_000  # rooms that nothing was tuned on


def measured(seed: int, executor: Executor) -> dict[str, Any]:
    """The errors of one pair; only `refused` where no pose was given."""
    pair = render_pair(seed)
    true = CameraPose.from_matrix(pair.relative.double().numpy())
    x = Problem.depth(*(image.numpy() for image in pair.images), intrinsics=pair.intrinsics.double().numpy())
    run = executor.run(x)
    pose, depth = run.workspace.latest(CameraPose), run.workspace.latest(DepthMap)
    row: dict[str, Any] = {"seed": seed, "refused": pose is None, "seconds": run.seconds}
    if pose is not None:
        row["rotation"], row["direction"] = pose_errors(pose, true)
        row["confidence"] = pose.confidence
    if depth is not None:
        row |= _depth_errors(np.asarray(depth.depth), np.asarray(depth.valid), pair.depth[0].numpy())
    return row


def _depth_errors(depth: np.ndarray, valid: np.ndarray, true: np.ndarray) -> dict[str, float]:
    found, wanted = depth[valid], true[valid]
    found = found * np.median(wanted / found)  # two photos do not know the scale
    ratio = np.maximum(found / wanted, wanted / found)
    return {
        "abs_rel": float(np.mean(np.abs(found - wanted) / wanted)),
        "delta_1": float(np.mean(ratio < 1.25)),
        "coverage": float(valid.mean()),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, 90th percentile and worst of each error, over the pairs that have it."""
    table: dict[str, Any] = {"pairs": len(rows), "refused": sum(row["refused"] for row in rows)}
    for name in ("rotation", "direction", "abs_rel", "delta_1", "coverage", "seconds"):
        values = np.array([row[name] for row in rows if name in row])
        table[name] = {
            "median": float(np.median(values)),
            "p90": float(np.quantile(values, 0.9 if name not in ("delta_1", "coverage") else 0.1)),
            "worst": float(values.min() if name in ("delta_1", "coverage") else values.max()),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    executor = Executor(backend="classical", policy=["camera_pose_estimate", "depth_estimate"], memo=None)
    rows = []
    began = time.perf_counter()
    for i in range(arguments.pairs):
        rows.append(measured(FIRST_SEED + i, executor))
        if time.perf_counter() - began > 1:
            print(f"\r{i + 1} of {arguments.pairs}", end="", flush=True)
    table = summary(rows)
    arguments.json.parent.mkdir(exist_ok=True)
    arguments.json.write_text(json.dumps({"summary": table, "rows": rows}, indent=1))
    print(f"\n{table['pairs']} pairs, {table['refused']} refused")
    for name, figures in table.items():
        if isinstance(figures, dict):
            print(f"{name:10} " + "  ".join(f"{k} {v:.4f}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
