"""Pipelines of diffusers of a few thousand parameters, with random weights, saved as diffusers does: a Stable
Diffusion (UNet, CLIP), an InstructPix2Pix, a Flux and a Flux Kontext (transformer, CLIP and T5)."""

import torch
import transformers


def clip_tokenizer(longest=77):
    """A CLIP tokenizer that knows letters."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    pieces = ["<|startoftext|>", "<|endoftext|>", *alphabet, *(f"{letter}</w>" for letter in alphabet)]
    return transformers.CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=longest
    )


def clip(tokenizer):
    config = transformers.CLIPTextConfig(
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return enlivened(transformers.CLIPTextModel(config))


def enlivened(model):
    """The model with weights large enough that every word it reads shows."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def vae(diffusers, **more):
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        **more,
    )


def unet(diffusers, channels):
    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        in_channels=channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=4,
    )


def save_stable_diffusion(folder, kind="StableDiffusionPipeline", channels=4, longest=77):
    import diffusers

    torch.manual_seed(0)
    words = clip_tokenizer(longest)
    getattr(diffusers, kind)(
        unet=unet(diffusers, channels),
        vae=vae(diffusers),
        scheduler=diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        text_encoder=clip(words),
        tokenizer=words,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def save_instruct_pix2pix(folder):
    return save_stable_diffusion(folder, "StableDiffusionInstructPix2PixPipeline", channels=8)


def save_flux(folder, kind="FluxPipeline"):
    """CLIP reads 77 tokens, T5 512."""
    import diffusers
    from tiny.chat_models import tokenizer

    torch.manual_seed(0)
    words, more = clip_tokenizer(), tokenizer({"turn": "<|im_start|>"})
    t5 = transformers.T5Config(
        vocab_size=len(more), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    getattr(diffusers, kind)(
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
        ),
        vae=vae(diffusers, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=clip(words),
        tokenizer=words,
        text_encoder_2=enlivened(transformers.T5EncoderModel(t5)),
        tokenizer_2=more,
        image_encoder=None,
        feature_extractor=None,
    ).save_pretrained(folder)
    return folder
