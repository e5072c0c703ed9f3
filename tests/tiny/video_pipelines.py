"""Pipelines of diffusers that make clips, of a few thousand parameters, with random weights, saved as
diffusers does: a Wan, a Wan VACE, a Cosmos 3 with actions."""

import torch
from tiny.chat_models import tokenizer
from tiny.pipelines import chat_words, enlivened


def video_vae(diffusers, channels=4):
    """Eight times smaller a side, four times in time."""
    return diffusers.AutoencoderKLWan(
        base_dim=4,
        z_dim=channels,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * channels,
        latents_std=[1.0] * channels,
    )


def umt5(words, width=16):
    import transformers

    config = transformers.UMT5Config(
        vocab_size=len(words), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    return enlivened(transformers.UMT5EncoderModel(config))


def save_wan(folder, kind="WanVACEPipeline"):
    import diffusers

    torch.manual_seed(0)
    words = tokenizer({"turn": "<|im_start|>"})
    shape = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 16,
        "freq_dim": 16,
        "ffn_dim": 16,
        "num_layers": 2,
        "rope_max_seq_len": 64,
    }
    if kind == "WanVACEPipeline":
        denoiser = diffusers.WanVACETransformer3DModel(**shape, vace_layers=[0, 1], vace_in_channels=8 + 64)
    else:
        denoiser = diffusers.WanTransformer3DModel(**shape)
    getattr(diffusers, kind)(
        tokenizer=words,
        text_encoder=umt5(words),
        vae=video_vae(diffusers).eval(),
        scheduler=diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        transformer=enlivened(denoiser),
    ).save_pretrained(folder)
    return folder


def save_cosmos3(folder, **more):
    """One that was made with actions; its text is Qwen's chat, without the model that would write it."""
    import diffusers

    torch.manual_seed(0)
    words = tokenizer({"turn": "<|im_start|>", "end": "<|im_end|>", "look": "<|vision_start|>"})
    words.chat_template = chat_words().chat_template
    denoiser = diffusers.Cosmos3OmniTransformer(
        head_dim=16,
        hidden_size=32,
        intermediate_size=32,
        latent_channel=4,
        latent_patch_size=2,
        patch_latent_dim=16,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_hidden_layers=2,
        rope_axes_dim=[4, 2, 2],
        vocab_size=len(words),
        **{"action_dim": 12, "action_gen": True, "num_embodiment_domains": 4, **more},
    )
    diffusers.Cosmos3OmniPipeline(
        transformer=enlivened(denoiser),
        text_tokenizer=words,
        vae=video_vae(diffusers).eval(),
        scheduler=diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        enable_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def save_cosmos3_reasoner(folder):
    """The part that reasons, as transformers has it, into the pipeline's folder."""
    import json

    import transformers
    from tiny.chat_models import qwen3_vl, saved

    like, others = qwen3_vl()
    held = like.config.to_dict()
    given = {name: held[name] for name in ("text_config", "vision_config")}
    marks = {name: held[name] for name in held if name.endswith("_token_id") and held[name] is not None}
    config = transformers.Cosmos3OmniConfig(**given, **marks)
    saved(folder, (transformers.Cosmos3OmniForConditionalGeneration(config), others))
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"processor_class": "Qwen3VLProcessor"}))
    return folder
