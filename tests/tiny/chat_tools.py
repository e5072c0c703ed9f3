"""Chat models that call tools, of some ten thousand parameters: Qwen3's chat, and weights that were taught a
few conversations, so that what they draw are tool calls and plain replies, as often as they were shown. What
takes a large model many tokens is one here: a whole call, an empty thought."""

import torch

from policies.agents import blocks

MARKS = {"turn": "<|im_start|>", "end": "<|im_end|>", "call": "<tool_call>", "called": "</tool_call>"}
MARKS |= {"told": "<tool_response>", "after": "</tool_response>", "think": "<think>", "thought": "</think>"}

TOOL_TURNS = (
    "{% if tools %}<|im_start|>tools\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n"
    "{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>{{ m.content }}"
    "</tool_response><|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>\n{{ c.function | tojson }}\n</tool_call>{% endfor %}"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat of our own with tools, for what needs no TRL."""


def conversation(bench, number, name):
    """What an agent would say that calls one tool, or none, and then no more."""
    rollout = bench.open(number)
    said = [
        {"role": "system", "content": bench.told},
        {"role": "user", "content": blocks(rollout.opening(), images=False)},
    ]
    if name:
        call = {"type": "function", "function": {"name": name, "arguments": {}}}
        said.append({"role": "assistant", "content": "", "tool_calls": [call]})
        said.append({"role": "tool", "name": name, "content": blocks(rollout.call(name), images=False)})
    return [*said, {"role": "assistant", "content": "done"}]


def chat_words(template, texts, calls):
    """Byte-level BPE trained on these texts, whose turns end as Qwen3's do; calls: the names of tools."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AddedToken, PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=["<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*texts, template] * 2, trainer)
    # As in Qwen3, what opens a call or a thought is a token of its own and yet part of the text.
    words = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<|im_end|>")
    words.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    words.add_tokens([mark for mark in MARKS.values() if not mark.startswith("<|")])
    whole = [f'\n{{"name": "{name}", "arguments": {{}}}}\n' for name in calls]
    words.add_tokens([AddedToken(text, normalized=False) for text in (*whole, "<think>\n\n</think>\n\n")])
    words.chat_template = template
    words.padding_side = "left"
    return words


def chat_model(words, longest=2048):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=24,
            vocab_size=len(words),
            max_position_embeddings=longest,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
            bos_token_id=None,
            tie_word_embeddings=True,
        )
    )


def taught(model, words, conversations, tools, steps=40, rate=1e-2):
    """The model, trained to say what the assistant says in these conversations (lists of messages)."""
    samples = []
    for messages in conversations:
        ids, own = [], []
        for k, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = words.apply_chat_template(
                messages[:k], tools=tools, add_generation_prompt=True, tokenize=True, return_dict=False
            )
            after = words.apply_chat_template(
                messages[: k + 1], tools=tools, tokenize=True, return_dict=False
            )
            end = max(i for i, token in enumerate(after) if token == words.eos_token_id) + 1
            assert after[: len(before)] == before and before[: len(ids)] == ids
            own += [False] * (len(before) - len(own)) + [True] * (end - len(before))
            ids = after[:end]
        samples.append((torch.tensor(ids), torch.tensor(own)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    longest = max(len(ids) for ids, _ in samples)
    padded = torch.stack([torch.nn.functional.pad(ids, (0, longest - len(ids))) for ids, _ in samples])
    labels = torch.stack(
        [
            torch.nn.functional.pad(ids.masked_fill(~own, -100), (0, longest - len(ids)), value=-100)
            for ids, own in samples
        ]
    )
    for _ in range(steps):
        loss = model(input_ids=padded, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


LOOKS = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
LOOKS |= {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}


def seeing(words, longest=2048):
    """A tiny Qwen3-VL, and its processor for pictures alone (films would need torchvision)."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    class Processor(Qwen3VLProcessor):
        def check_argument_for_proper_class(self, argument_name, argument):
            return type(argument)

    words.add_tokens(list(LOOKS.values()), special_tokens=True)
    pictures = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 8 * 8, "longest_edge": 16 * 16}
    )
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 1e4, "mrope_interleaved": True}
    torch.manual_seed(0)
    config = Qwen3VLConfig(
        text_config={
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "vocab_size": len(words),
            "max_position_embeddings": longest,
            "rope_parameters": rope,
            "eos_token_id": words.eos_token_id,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "patch_size": 4,
            "depth": 2,
            "num_heads": 2,
            "out_hidden_size": 48,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        **{f"{name}_id": words.convert_tokens_to_ids(mark) for name, mark in LOOKS.items()},
    )
    model = Qwen3VLForConditionalGeneration(config)
    return model, Processor(pictures, words, None, chat_template=words.chat_template)
