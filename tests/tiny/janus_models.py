"""A Janus of a few thousand parameters, with random weights: pictures of 16 × 16 pixels as 16 tokens."""

import torch
from tiny.chat_models import EYES, SMALL, TURNS, tokenizer

TEMPLATE = TURNS.replace("IMAGE", "<image>")


def janus(codes=32, template=TEMPLATE, guidance=3.0):
    from transformers import (
        JanusConfig,
        JanusForConditionalGeneration,
        JanusProcessor,
        JanusVisionConfig,
        JanusVQVAEConfig,
        LlamaConfig,
    )
    from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

    marks = {"image_token": "<image>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"}
    words = tokenizer(marks | {"turn": "<|im_start|>", "end": "<|im_end|>"}, bos="<bos>")
    pictures = JanusImageProcessorPil(size={"height": 16, "width": 16}, min_size=4)
    processor = JanusProcessor(pictures, words, chat_template=template, num_image_tokens=16)
    config = JanusConfig(
        text_config=LlamaConfig(
            **SMALL,
            vocab_size=len(words),
            num_hidden_layers=2,
            max_position_embeddings=1024,
            bos_token_id=words.bos_token_id,
            eos_token_id=1,
            pad_token_id=0,
        ),
        vision_config=JanusVisionConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=EYES["patch_size"],
            projection_dim=64,
            num_image_tokens=16,
        ),
        vq_config=JanusVQVAEConfig(
            num_embeddings=codes,
            latent_channels=32,
            base_channels=32,
            channel_multiplier=[1, 1, 1],
            num_res_blocks=1,
            projection_dim=64,
            image_token_embed_dim=64,
        ),
        image_token_id=words.image_token_id,
    )
    model = JanusForConditionalGeneration(config)
    settings = model.generation_config
    settings.bos_token_id, settings.pad_token_id = words.bos_token_id, 0
    settings.guidance_scale = guidance
    settings.generation_kwargs = {"boi_token_id": words.boi_token_id}
    return model, [processor]


def fill(model, seed=0):
    """Weights large enough that what is read shows in what is rolled out."""
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.1 if "embed_tokens" in name else 0.2)


def save_janus(folder, seed=0, **settings):
    model, others = janus(**settings)
    fill(model, seed)
    model.save_pretrained(folder)
    for other in others:
        other.save_pretrained(folder)
    return folder
