"""What a run needs to go on: weights, optimizer states, step, clock, random state. Safetensors and JSON.

Files stay under `limit` bytes each, so that they can be moved where only small files can.
"""

import csv
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .muon import Muon

_ADAM = ("exp_avg", "exp_avg_sq", "step")


def save(
    folder: Path,
    model: nn.Module,
    muon: Muon | None,
    adam: torch.optim.Optimizer,
    names: tuple[list[str], list[str]],
    progress: dict,
    generator: torch.Generator,
    compact: bool = False,
    limit: int = 15_000_000,
) -> None:
    """names: of the parameters of muon and adam, in their order. muon: None where only adam trains.
    compact: momentum in bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    for name, p in zip(names[0], _parameters(muon), strict=True):
        if muon is not None and p in muon.state:
            kept = muon.state[p]["momentum"]
            tensors[f"momentum/{name}"] = kept.bfloat16() if compact else kept
    for name, p in zip(names[1], _parameters(adam), strict=True):
        for key in _ADAM:
            if p in adam.state:
                tensors[f"{key}/{name}"] = adam.state[p][key]
    tensors["random"] = generator.get_state()
    for old in folder.glob("checkpoint-*.safetensors"):
        old.unlink()
    part: dict[str, Tensor] = {}
    parts, size = [], 0
    for name, tensor in tensors.items():
        nbytes = tensor.numel() * tensor.element_size()
        if part and size + nbytes > limit:
            parts.append(part)
            part, size = {}, 0
        part[name] = tensor.detach().to("cpu", copy=True).contiguous()
        size += nbytes
    parts.append(part)
    for k, part in enumerate(parts):
        save_file(part, folder / f"checkpoint-{k}.safetensors")
    (folder / "checkpoint.json").write_text(json.dumps({"parts": len(parts), **progress}))


def load(
    folder: Path,
    model: nn.Module,
    muon: Muon | None,
    adam: torch.optim.Optimizer,
    names: tuple[list[str], list[str]],
    generator: torch.Generator,
) -> dict:
    """Put everything back; returns `progress`. Raises FileNotFoundError where there is nothing to resume."""
    if not (folder / "checkpoint.json").exists():
        raise FileNotFoundError(f"no checkpoint to resume in {folder}")
    progress = json.loads((folder / "checkpoint.json").read_text())
    tensors: dict[str, Tensor] = {}
    for k in range(progress.pop("parts")):
        tensors |= load_file(folder / f"checkpoint-{k}.safetensors")
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
    for name, p in zip(names[0], _parameters(muon), strict=True):
        if muon is not None and f"momentum/{name}" in tensors:
            muon.state[p]["momentum"] = tensors[f"momentum/{name}"].to(p)
    for name, p in zip(names[1], _parameters(adam), strict=True):
        for key in _ADAM:
            if f"{key}/{name}" in tensors:
                kept = tensors[f"{key}/{name}"]
                fused = adam.param_groups[0].get("fused")
                adam.state[p][key] = kept.to(p) if key != "step" or fused else kept
    generator.set_state(tensors["random"])
    return progress


def _parameters(optimizer: torch.optim.Optimizer | None) -> list[nn.Parameter]:
    """Of all its groups, one after another."""
    groups = [] if optimizer is None else optimizer.param_groups
    return [p for group in groups for p in group["params"]]


def forget(folder: Path, step: int, checked: int) -> None:
    """Drop what an earlier process wrote into curves.csv and checks.jsonl beyond the checkpoint that this one
    goes on from: rows after `step`, and checks after step `checked`."""
    curves, checks = folder / "curves.csv", folder / "checks.jsonl"
    if curves.exists():
        rows = list(csv.reader(curves.read_text().splitlines()))
        with open(curves, "w", newline="") as file:
            csv.writer(file).writerows(row for row in rows if row[0] == "step" or int(row[0]) <= step)
    if checks.exists():
        lines = checks.read_text().splitlines()
        checks.write_text("".join(f"{line}\n" for line in lines if json.loads(line)["step"] <= checked))
