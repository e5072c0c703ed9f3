"""The embedded model at its smallest, with random weights."""

import torch

from nano_omni.config import CONFIGS
from nano_omni.model import NanoOmni


def with_both_experts(std=0.1):
    """Both experts, and every matrix that begins as nothing drawn instead, so that each part has a say."""
    torch.manual_seed(0)
    model = NanoOmni(config=CONFIGS["tiny"]).with_generation_expert()
    for p in model.parameters():
        if p.dim() > 1 and not p.any():
            torch.nn.init.normal_(p, std=std)
    return model.eval()
