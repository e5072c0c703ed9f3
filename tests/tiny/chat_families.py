"""More families of vision-language models, as small and as random as those of `chat_models`, each with a way
of its own to read pictures or to keep what was read:

    qwen2_5_vl       positions in three dimensions, eyes with windows
    qwen3_5          layers that keep a state in place of keys and values
    internvl         crops, settings in processor_config.json, a template in chat_template.json
    llava_onevision  a picture that is alone is cut into crops, one among others is not
    smolvlm          crops, with words between them (needs num2words)
    paligemma        what is given is read in both directions
    mllama           pictures by cross attention, with a mask that has a row for each token

Files lie as on the Hub: where transformers prepares videos with torchvision alone, no whole processor can be
saved, and tokenizer, preprocessor, settings and template are."""

import json

import torch
from tiny.chat_models import EYES, SMALL, TURNS, saved, tokenizer

TWO = {"num_hidden_layers": 2, "num_attention_heads": 2}
CHAT = {"turn": "<|im_start|>", "end": "<|im_end|>"}
LONG = {"num_hidden_layers": 2, "max_position_embeddings": 2048}


def qwens(model, config, text, vision):
    """A Qwen of any generation after the second."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    marks = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    marks |= {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
    words = tokenizer(marks | CHAT)
    words.chat_template = TURNS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    pictures = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 8 * 8, "longest_edge": 32 * 32}
    )
    made = config(
        text_config={**SMALL, "vocab_size": len(words), "max_position_embeddings": 1024, "eos_token_id": 1}
        | text,
        vision_config={**EYES, "depth": 2, "num_heads": 2, "out_hidden_size": 64} | vision,
        **{f"{name}_id": getattr(words, f"{name}_id") for name in marks},
    )
    return model(made), [words, pictures], None


def qwen2_5_vl():
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
    return qwens(
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLConfig,
        {"num_hidden_layers": 3, "rope_parameters": rope, "bos_token_id": None},
        {"window_size": 16, "fullatt_block_indexes": [1]},
    )


def qwen3_5():
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    rope = {"rope_type": "default", "mrope_section": [1, 1, 0], "rope_theta": 1e4, "mrope_interleaved": True}
    linear = {"key_head_dim": 8, "value_head_dim": 8, "num_key_heads": 2, "num_value_heads": 4}
    return qwens(
        Qwen3_5ForConditionalGeneration,
        Qwen3_5Config,
        {
            "num_hidden_layers": 4,
            "head_dim": 16,
            "layer_types": ["linear_attention", "full_attention"] * 2,
            "rope_parameters": rope | {"partial_rotary_factor": 0.25},
            **{f"linear_{name}": size for name, size in linear.items()},
        },
        {"num_position_embeddings": 64},
    )


def internvl():
    from transformers import InternVLConfig, InternVLForConditionalGeneration, Qwen2Config
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    marks = {"start_image_token": "<img>", "end_image_token": "</img>", "video_token": "<video>"}
    words = tokenizer(marks | {"context_image_token": "<IMG_CONTEXT>"} | CHAT)
    pictures = GotOcr2ImageProcessorPil(
        size={"height": 16, "width": 16}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    config = InternVLConfig(
        vision_config={**EYES, **TWO, "patch_size": [4, 4], "image_size": [16, 16]},
        text_config=Qwen2Config(**SMALL, **LONG, vocab_size=len(words)),
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    held = {"processor_class": "InternVLProcessor", "image_seq_length": 4}
    beside = held, TURNS.replace("IMAGE", "<IMG_CONTEXT>\n")
    return InternVLForConditionalGeneration(config), [words, pictures], beside


def llava_onevision():
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    words = tokenizer({"image_token": "<image>", "video_token": "<video>"} | CHAT)
    grid = [[16, 16], [16, 32], [32, 16], [32, 32]]
    pictures = LlavaOnevisionImageProcessorPil(size={"height": 16, "width": 16}, image_grid_pinpoints=grid)
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**EYES, **TWO, image_size=16),
        text_config=Qwen2Config(**SMALL, **LONG, vocab_size=len(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
    )
    held = {"processor_class": "LlavaOnevisionProcessor", "num_image_tokens": 16}
    held["vision_feature_select_strategy"] = "full"
    beside = held, TURNS.replace("IMAGE", "<image>\n")
    return LlavaOnevisionForConditionalGeneration(config), [words, pictures], beside


def smolvlm():
    from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    marks = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"}
    marks |= {"global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>"}
    words = tokenizer(marks | CHAT)
    pictures = SmolVLMImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    config = SmolVLMConfig(
        vision_config={**EYES, **TWO, "image_size": 16},
        text_config=LlamaConfig(**SMALL, **LONG, vocab_size=len(words)),
        scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    held = {"processor_class": "SmolVLMProcessor", "image_seq_len": 4}
    return (
        SmolVLMForConditionalGeneration(config),
        [words, pictures],
        (held, TURNS.replace("IMAGE", "<image>")),
    )


def paligemma():
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipVisionConfig,
    )
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    words = tokenizer({"image_token": "<image>"}, bos="<bos>")
    pictures = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    pictures.image_seq_length = 16
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}"
        "{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}\n"
    )
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**EYES, **TWO, image_size=16, projection_dim=64),
        text_config=GemmaConfig(**SMALL, **LONG, head_dim=16, vocab_size=len(words)),
        image_token_index=words.image_token_id,
        vocab_size=len(words),
        projection_dim=64,
        hidden_size=64,
    )
    processor = PaliGemmaProcessor(pictures, words, chat_template=template)
    return PaliGemmaForConditionalGeneration(config), [processor], None


def mllama():
    from transformers import MllamaConfig, MllamaForConditionalGeneration, MllamaProcessor
    from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

    words = tokenizer({"image_token": "<|image|>", "python": "<|python_tag|>"} | CHAT, bos="<bos>")
    pictures = MllamaImageProcessorPil(size={"height": 16, "width": 16}, max_image_tiles=2)
    eyes = {"hidden_size": 32, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 2}
    tiles = {"max_num_tiles": 2, "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]]}
    config = MllamaConfig(
        vision_config=eyes
        | tiles
        | {"intermediate_size": 32, "vision_output_dim": 64, "image_size": 16, "patch_size": 4}
        | {"intermediate_layers_indices": [0]},
        text_config={
            **SMALL,
            "vocab_size": len(words),
            "num_hidden_layers": 4,
            "cross_attention_layers": [1, 3],
            "max_position_embeddings": 1024,
            "bos_token_id": 2,
            "eos_token_id": 1,
            "pad_token_id": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        image_token_index=words.convert_tokens_to_ids("<|image|>"),
    )
    processor = MllamaProcessor(pictures, words, chat_template=TURNS.replace("IMAGE", "<|image|>"))
    return MllamaForConditionalGeneration(config), [processor], None


FAMILIES = {
    made.__name__: made
    for made in (qwen2_5_vl, qwen3_5, internvl, llava_onevision, smolvlm, paligemma, mllama)
}


@torch.no_grad()
def save_family(folder, name):
    model, parts, beside = FAMILIES[name]()
    for weight_name, weight in model.named_parameters():
        if weight_name.endswith(("attn_gate", "mlp_gate")):
            weight.fill_(1.0)  # new ones are shut, and let no picture through
    saved(folder, (model, parts))
    if beside is not None:
        (folder / "processor_config.json").write_text(json.dumps(beside[0]))
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": beside[1]}))
    return folder
