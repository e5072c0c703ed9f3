"""The embedded model at its smallest, with random weights."""

import torch

from nano_omni import tokenizer
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


def save_drawer(folder, tasks, spoiled=0.1):
    """Weights in a folder that are to be taught tasks and never were, with something to say."""
    torch.manual_seed(0)
    model = NanoOmni(config=CONFIGS["tiny"]).to_be_taught(tasks)
    for p in model.parameters():
        if p.dim() > 1 and not p.any():
            torch.nn.init.normal_(p, std=spoiled) if spoiled else None
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder
