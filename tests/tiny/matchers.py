"""Keypoint matchers as small as they come, with weights by which they still match like with like."""

import torch
import transformers

WIDTH, HEIGHT = 128, 96  # of what they are shown


def save_lightglue(folder, keypoint_threshold=0.005):
    """SuperPoint with LightGlue, whose last layer compares descriptors as they are."""
    torch.manual_seed(0)
    detector = transformers.SuperPointConfig(
        encoder_hidden_sizes=[8, 8, 16, 16],
        decoder_hidden_size=16,
        descriptor_decoder_dim=32,
        max_keypoints=200,
        keypoint_threshold=keypoint_threshold,
    )
    config = transformers.LightGlueConfig(
        keypoint_detector_config=detector.to_dict(),
        descriptor_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        filter_threshold=0.0,
    )
    model = transformers.LightGlueForKeypointMatching(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
        elif name.startswith("match_assignment") and name.endswith("final_projection.weight"):
            torch.nn.init.eye_(parameter).data.mul_(8)
    model.save_pretrained(folder)
    from transformers.models.lightglue.image_processing_pil_lightglue import LightGlueImageProcessorPil

    LightGlueImageProcessorPil(size={"height": HEIGHT, "width": WIDTH}).save_pretrained(folder)
    return folder


def save_efficientloftr(folder):
    """EfficientLoFTR that compares what its convolutions see, brought to a mean of 0 and a variance of 1."""
    torch.manual_seed(0)
    config = transformers.EfficientLoFTRConfig(
        stage_num_blocks=[1, 1, 1, 1],
        out_features=[16, 16, 32, 64],
        hidden_size=64,
        num_attention_layers=1,
        num_attention_heads=8,
        coarse_matching_threshold=0.0,
    )
    model = transformers.EfficientLoFTRForKeypointMatching(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
        elif name.endswith("mlp.layer_norm.weight"):
            parameter.data.zero_()  # attention adds nothing
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.rand(4, 2, 1, HEIGHT, WIDTH).expand(4, 2, 3, HEIGHT, WIDTH))
    model.eval().save_pretrained(folder)
    from transformers.models.efficientloftr.image_processing_pil_efficientloftr import (
        EfficientLoFTRImageProcessorPil,
    )

    EfficientLoFTRImageProcessorPil(size={"height": HEIGHT, "width": WIDTH}).save_pretrained(folder)
    return folder
