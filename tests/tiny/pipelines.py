"""Pipelines of diffusers of a few thousand parameters, with random weights, saved as diffusers does: a Stable
Diffusion (UNet, CLIP), an InstructPix2Pix, a Flux and a Flux Kontext (transformer, CLIP and T5); and of
families with other ways to read prompts an SDXL, an SD3, a PixArt, a Qwen-Image
and its editor, a Z-Image, a Sana, a Flux 2 Klein."""

import torch
import transformers
from tiny.chat_models import tokenizer


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


PLAIN = {"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.1}
"""Of the VAEs of transformers."""


def t5(words, width):
    config = transformers.T5Config(
        vocab_size=len(words), d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    return enlivened(transformers.T5EncoderModel(config))


def unet(diffusers, channels, width=32, **more):
    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        in_channels=channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=8,
        norm_num_groups=4,
        **more,
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

    torch.manual_seed(0)
    words, more = clip_tokenizer(), tokenizer({"turn": "<|im_start|>"})
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
        vae=vae(diffusers, **PLAIN),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=clip(words),
        tokenizer=words,
        text_encoder_2=t5(more, 32),
        tokenizer_2=more,
        image_encoder=None,
        feature_extractor=None,
    ).save_pretrained(folder)
    return folder


# ------------------------------------------------------------------------------------------ other families


def projected_clip(words):
    config = clip(words).config.to_dict() | {"projection_dim": 32}
    return enlivened(transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**config)))


def chat_words():
    """A tokenizer with turns around a prompt."""
    words = tokenizer({"turn": "<|im_start|>", "end": "<|im_end|>"})
    words.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return words


def qwen3(words, layers):
    config = transformers.Qwen3Config(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=len(words),
        max_position_embeddings=1024,
    )
    return enlivened(transformers.Qwen3ForCausalLM(config))


def sdxl(diffusers):
    words = clip_tokenizer()
    more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    return diffusers.StableDiffusionXLPipeline(
        unet=unet(diffusers, 4, 64, projection_class_embeddings_input_dim=6 * 8 + 32, **more),
        vae=vae(diffusers),
        scheduler=diffusers.EulerAncestralDiscreteScheduler(),  # it draws noise at every step
        text_encoder=clip(words),
        text_encoder_2=projected_clip(words),
        tokenizer=words,
        tokenizer_2=words,
    )


def sd3(diffusers):
    words, more = clip_tokenizer(), tokenizer({"turn": "<|im_start|>"})
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=64,
            caption_projection_dim=32,
            pooled_projection_dim=64,
            out_channels=4,
        ),
        vae=vae(diffusers, **PLAIN),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=projected_clip(words),
        tokenizer=words,
        text_encoder_2=projected_clip(words),
        tokenizer_2=words,
        text_encoder_3=t5(more, 64),
        tokenizer_3=more,
    )


def qwen2_5_vl(words, **vision):
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}
    marks = {name: words.convert_tokens_to_ids(mark) for name, mark in LOOKS.items()}
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_parameters": rope,
            "vocab_size": len(words),
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            **vision,
        },
        **{f"{name}_id": held for name, held in marks.items() if held is not None},
    )
    return enlivened(transformers.Qwen2_5_VLForConditionalGeneration(config))


LOOKS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}


def qwen_parts(diffusers):
    """What Qwen's pipelines have in common."""
    return {
        "transformer": diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
        "vae": diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
    }


def qwen_image(diffusers):
    words = tokenizer({"turn": "<|im_start|>", "end": "<|im_end|>"})
    return diffusers.QwenImagePipeline(
        **qwen_parts(diffusers), text_encoder=qwen2_5_vl(words), tokenizer=words
    )


def save_qwen_image_edit(folder, kind="QwenImageEditPipeline"):
    """Its encoder looks at the picture that is edited. The processor lies there as on the Hub: where videos
    cannot be prepared, none can be made and saved whole."""
    import json

    import diffusers
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    torch.manual_seed(0)
    words = tokenizer({"turn": "<|im_start|>", "end": "<|im_end|>", **LOOKS})
    words.chat_template = chat_words().chat_template
    getattr(diffusers, kind)(
        **qwen_parts(diffusers),
        text_encoder=qwen2_5_vl(words, patch_size=4, window_size=16, fullatt_block_indexes=[0]),
        tokenizer=words,
        processor=None,
    ).save_pretrained(folder)
    size = {"shortest_edge": 8 * 8, "longest_edge": 32 * 32}
    Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, size=size).save_pretrained(folder / "processor")
    words.save_pretrained(folder / "processor")
    index = json.loads((folder / "model_index.json").read_text())
    index["processor"] = ["transformers", "Qwen2VLProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def z_image(diffusers):
    words = chat_words()
    return diffusers.ZImagePipeline(
        transformer=diffusers.ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=32,
            axes_dims=[8, 4, 4],
            axes_lens=[600, 32, 32],
        ),
        vae=vae(diffusers, **PLAIN),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=qwen3(words, 2).model,
        tokenizer=words,
    )


def sana(diffusers):
    words = tokenizer({"turn": "<|im_start|>"})
    gemma = transformers.Gemma2Config(
        head_dim=16,
        hidden_size=8,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        num_key_value_heads=2,
        vocab_size=len(words),
        bos_token_id=0,
        eos_token_id=1,
    )
    blocks = ("ResBlock", "ResBlock")
    return diffusers.SanaPipeline(
        transformer=diffusers.SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=8,
            sample_size=32,
        ),
        vae=diffusers.AutoencoderDC(
            latent_channels=4,
            encoder_block_types=blocks,
            decoder_block_types=blocks,
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), ()),
            decoder_qkv_multiscales=((), ()),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            scaling_factor=0.4,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=enlivened(transformers.Gemma2Model(gemma)),
        tokenizer=words,
    )


def flux2_klein(diffusers):
    words = chat_words()
    return diffusers.Flux2KleinPipeline(
        transformer=diffusers.Flux2Transformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=96,
            axes_dims_rope=[4, 4, 4, 4],
            guidance_embeds=False,
        ),
        vae=diffusers.AutoencoderKLFlux2(
            block_out_channels=(4,),
            down_block_types=("DownEncoderBlock2D",),
            up_block_types=("UpDecoderBlock2D",),
            latent_channels=4,
            norm_num_groups=1,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=qwen3(words, 28),  # of which it reads layers 9, 18 and 27
        tokenizer=words,
        is_distilled=False,
    )


def pixart(diffusers):
    """It would clean prompts of what is no English prose, if a package for it were there."""
    words = tokenizer({"turn": "<|im_start|>"})
    return diffusers.PixArtSigmaPipeline(
        transformer=enlivened(
            diffusers.PixArtTransformer2DModel(
                sample_size=8,
                patch_size=2,
                in_channels=4,
                out_channels=8,
                num_layers=1,
                num_attention_heads=2,
                attention_head_dim=8,
                cross_attention_dim=16,
                caption_channels=32,
                norm_type="ada_norm_single",
                norm_elementwise_affine=False,
                use_additional_conditions=False,
            )
        ),
        vae=vae(diffusers),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
        text_encoder=t5(words, 32),
        tokenizer=words,
    )


FAMILIES = {made.__name__: made for made in (pixart, sdxl, sd3, qwen_image, z_image, sana, flux2_klein)}


def save_family(folder, name):
    import diffusers

    torch.manual_seed(0)
    FAMILIES[name](diffusers).save_pretrained(folder)
    return folder
