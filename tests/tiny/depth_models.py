"""Depth estimators as small as they come, with random weights, saved as transformers and diffusers do."""

import json

import pytest
import torch
import transformers

DINO = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
BEIT = {
    "model_type": "beit",
    "image_size": 32,
    "patch_size": 16,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "use_relative_position_bias": True,
    "reshape_hidden_states": False,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def enlivened(model):
    """The model with weights large enough that what it sees makes a difference."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.xavier_normal_(parameter, 1.5)
    return model.eval()


def save_depth_anything(folder, kind="relative", max_depth=1):
    torch.manual_seed(0)
    config = transformers.DepthAnythingConfig(
        backbone_config=DINO
        | {"image_size": 28, "patch_size": 14, "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False},
        patch_size=14,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        depth_estimation_type=kind,
        max_depth=max_depth,
    )
    model = enlivened(transformers.DepthAnythingForDepthEstimation(config))
    model.head.conv3.bias.data.fill_(2.0)  # so that it sees more than sky
    model.save_pretrained(folder)
    from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

    size = {"height": 28, "width": 28}
    DPTImageProcessorPil(size=size, keep_aspect_ratio=True, ensure_multiple_of=14).save_pretrained(folder)
    return folder


def save_zoedepth(folder, heads=1):
    torch.manual_seed(0)
    nyu = {"name": "nyu", "n_bins": 8, "min_depth": 0.001, "max_depth": 10.0}
    config = transformers.ZoeDepthConfig(
        backbone_config=BEIT,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        bottleneck_features=8,
        num_relative_features=8,
        bin_embedding_dim=8,
        num_attractors=[4, 2, 2, 1],
        bin_configurations=[nyu, nyu | {"name": "kitti", "max_depth": 80.0}][:heads],
        num_patch_transformer_layers=4,
        patch_transformer_hidden_size=128,
        patch_transformer_intermediate_size=16,
        patch_transformer_num_attention_heads=2,
    )
    enlivened(transformers.ZoeDepthForDepthEstimation(config)).save_pretrained(folder)
    from transformers.models.zoedepth.image_processing_pil_zoedepth import ZoeDepthImageProcessorPil

    ZoeDepthImageProcessorPil(size={"height": 32, "width": 48}, ensure_multiple_of=16).save_pretrained(folder)
    return folder


def save_depth_pro(folder, degrees=60.0):
    """DepthPro that takes every photo's field of view for `degrees` (None: has no such head)."""
    torch.manual_seed(0)
    encoder = DINO | {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8}
    config = transformers.DepthProConfig(
        patch_size=32,
        fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.25],
        scaled_images_feature_dims=[8, 8],
        merge_padding_value=1,
        use_fov_model=degrees is not None,
        num_fov_head_layers=0,
        image_model_config=dict(encoder),
        patch_model_config=dict(encoder),
        fov_model_config=dict(encoder),
    )
    model = transformers.DepthProForDepthEstimation(config).eval()
    if degrees is not None:
        last = [layer for layer in model.fov_model.head.layers if isinstance(layer, torch.nn.Conv2d)][-1]
        last.weight.data.zero_()
        last.bias.data.fill_(degrees)
    model.save_pretrained(folder)
    settings = {"image_processor_type": "DepthProImageProcessor", "size": {"height": 64, "width": 64}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def save_marigold(folder):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    text = transformers.CLIPTextConfig(
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=1,
        vocab_size=3,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}
    diffusers.MarigoldDepthPipeline(
        unet=diffusers.UNet2DConditionModel(
            block_out_channels=(8, 16),
            layers_per_block=1,
            sample_size=8,
            in_channels=8,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=8,
            norm_num_groups=4,
        ),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
        ),
        scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction"),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=8),
        prediction_type="depth",
        default_denoising_steps=1,
        default_processing_resolution=32,
    ).save_pretrained(folder)
    return folder
