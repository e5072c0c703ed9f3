"""Vision-language models of a few thousand parameters, with random weights and words of their own: a Llava, a
Gemma 3 (pictures are looked at in both directions, layers with a sliding window), a Qwen3-VL (positions in
three dimensions, no torchvision) and an Idefics3 (pictures are cut into crops)."""

import torch

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA_TURNS = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<start_of_image>{% else %}{{ c['text'] | trim }}"
    "{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAVA_TURNS = TURNS.replace("IMAGE", "<image>\n")
PICTURES_FIRST = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% endif %}"
    "{% endfor %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


def tokenizer(special, bos=None):
    """Byte-level BPE that was trained on a few words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<eos>", *([bos] if bos else []), *special.values()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = "photo question where is the red cone when I take left right behind front think step answer view"
    made.train_from_iterator([words] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token=bos,
        extra_special_tokens=special,
    )


SMALL = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
EYES = {"hidden_size": 32, "intermediate_size": 32, "patch_size": 4}


def llava(template=LLAVA_TURNS, longest=1024):
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    words = tokenizer({"image_token": "<image>", "turn": "<|im_start|>", "end": "<|im_end|>"})
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(
        pictures,
        words,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**EYES, num_hidden_layers=2, num_attention_heads=2, image_size=16),
        text_config=LlamaConfig(
            **SMALL, vocab_size=len(words), num_hidden_layers=2, max_position_embeddings=longest
        ),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        eos_token_id=1,
    )
    return LlavaForConditionalGeneration(config), [processor]


def gemma3():
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    marks = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>"}
    marks |= {"eoi_token": "<end_of_image>", "turn": "<start_of_turn>", "end": "<end_of_turn>"}
    words = tokenizer(marks, bos="<bos>")
    pictures = Gemma3ImageProcessorPil(size={"height": 16, "width": 16})
    processor = Gemma3Processor(pictures, words, chat_template=GEMMA_TURNS, image_seq_length=4)
    config = Gemma3Config(
        text_config=Gemma3TextConfig(
            **SMALL,
            vocab_size=len(words),
            num_hidden_layers=4,
            head_dim=16,
            sliding_window=24,
            layer_types=["sliding_attention", "full_attention"] * 2,
            max_position_embeddings=1024,
            eos_token_id=1,
        ),
        vision_config=SiglipVisionConfig(**EYES, num_hidden_layers=2, num_attention_heads=2, image_size=16),
        mm_tokens_per_image=4,
        image_token_id=words.image_token_id,
        boi_token_index=words.boi_token_id,
        eoi_token_index=words.eoi_token_id,
    )
    return Gemma3ForConditionalGeneration(config), [processor]


def qwen3_vl():
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    marks = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "turn": "<|im_start|>"}
    marks |= {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
    words = tokenizer(marks | {"end": "<|im_end|>"})
    words.chat_template = TURNS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    pictures = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 8 * 8, "longest_edge": 32 * 32}
    )
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 1e4, "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config={
            **SMALL,
            "vocab_size": len(words),
            "num_hidden_layers": 3,
            "head_dim": 16,
            "max_position_embeddings": 1024,
            "rope_parameters": rope,
            "eos_token_id": 1,
        },
        vision_config={
            **EYES,
            "depth": 2,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        **{f"{name}_id": getattr(words, f"{name}_id") for name in marks if name.endswith("_token")},
    )
    return Qwen3VLForConditionalGeneration(config), [words, pictures]


def idefics3():
    """It cuts pictures into crops, with words between them, and nests them by prompt."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, LlamaConfig
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    marks = {"image_token": "<image>", "fake": "<fake_token_around_image>", "whole": "<global-img>"}
    marks |= {"utterance": "<end_of_utterance>", "turn": "<|im_start|>", "end": "<|im_end|>"}
    words = tokenizer(marks)
    pictures = Idefics3ImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    template = TURNS.replace("IMAGE", "<image>")
    config = Idefics3Config(
        vision_config={**EYES, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16},
        text_config=LlamaConfig(
            **SMALL, vocab_size=len(words), num_hidden_layers=2, max_position_embeddings=2048
        ),
        scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    processor = Idefics3Processor(pictures, words, image_seq_len=4, chat_template=template)
    return Idefics3ForConditionalGeneration(config), [processor]


def saved(folder, parts):
    """Random weights, large enough that everything that is read shows in what is written."""
    model, others = parts
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.1 if "embed_tokens" in name else 0.2)
    model.save_pretrained(folder)
    for other in others:
        other.save_pretrained(folder)
    return folder
