"""Prompts as a chat model reads them: its template, its tokens, its numbers for pictures.

What is given, the context and the instruction make one turn of the user, in the order they were written, so
that a longer context begins like the shorter one and what was read of that need not be read again. A picture
that no words announce is announced by its own ("photo 1:"), or nobody could ask about photo 1.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from xxhash import xxh3_64_intdigest

from primitives.backends.hf_vlm.loading import Loaded
from primitives.backends.hf_vlm.memory import Keys
from primitives.backends.hf_vlm.pictures import Preparing
from unroller.arrays import to_numpy
from unroller.capabilities import Prompt
from unroller.faults import InputError, PluginError
from unroller.rendering import ImageSegment, Segment, TextSegment

PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "labels")

WRITTEN_TYPES = {"paligemma": 1}
"""Of a token that follows the prompt, by kind of model, where types say more than what is a picture's: all
that PaliGemma is given is read in both directions, and what follows is not."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A prompt to be read.

    tokens (T,); keys (T,) numbers that are equal where content is, pictures' too; positions (T,) or, for
    models that count in three dimensions, (3, T); spans: first and last + 1 of each picture's tokens, or
    None where they cannot be told apart; pictures: what the model is given of all pictures, by argument;
    types (T,): 1 where a token is a picture's, for models that ask; after: what stands there for tokens that
    follow. open: whether the text before the
    answer ends in a letter or a colon, so that an answer begins with a space.
    """

    tokens: Tensor
    keys: Keys
    positions: Tensor
    spans: tuple[tuple[int, int], ...] | None
    pictures: dict[str, Tensor]
    types: Tensor | None
    images: tuple[Any, ...]
    open: bool
    after: int = 0

    def __len__(self) -> int:
        return len(self.keys)


class Chat:
    """Prompts to readings, for one model. window: what to do with a prompt that is too long, see HFVLM."""

    def __init__(self, loaded: Loaded, window: str) -> None:
        self.name = loaded.name
        self.model, self.processor, self.tokenizer = loaded.model, loaded.processor, loaded.tokenizer
        self.processor.image_processor = Preparing(self.processor.image_processor)
        self.window = window
        self.left_out = 0  # views of the context, so far
        config = loaded.model.config
        self.longest: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
        self._picture = next(
            (int(n) for a in ("image_token_id", "image_token_index") if (n := getattr(config, a, None))), None
        )
        added = {str(one) for one in self.tokenizer.added_tokens_decoder.values() if one.special}
        special = sorted(added | set(self.tokenizer.all_special_tokens), key=len, reverse=True)
        self._forgeable = [token for token in special if token.strip() and not token.startswith("<")]
        base = getattr(loaded.model, "model", loaded.model)
        self._rope_index = getattr(base, "get_rope_index", None)  # models that count in three dimensions
        self._keeps_order()

    # ------------------------------------------------------------------------------------------ reading

    def read(self, prompt: Prompt, room: int) -> Reading:
        """The prompt as tokens, of which `room` more will follow. Raises InputError."""
        segments = list(prompt.segments)
        while True:
            reading = self._reading(prompt, segments)
            if self.longest is None or len(reading) + room <= self.longest:
                return reading
            dropped = self._without_oldest_view(segments) if self.window == "drop_oldest_views" else None
            if dropped is None:
                raise InputError(self._too_long(len(reading), room))
            segments = dropped
            self.left_out += 1

    def _too_long(self, tokens: int, room: int) -> str:
        said = (
            f"this prompt has {tokens} tokens and {room} more may follow, and the window of {self.name} is"
            f" {self.longest}: leave contexts or photos out, or lower max_tokens"
        )
        if self.window == "refuse":
            return said + ", or let synthesised views go with HFVLM(…, window='drop_oldest_views')"
        return said + " (there are no more views to drop)"

    def _without_oldest_view(self, segments: list[Segment]) -> list[Segment] | None:
        """The segments with words in place of the oldest picture of the context: any after the first words,
        since photos that are given come first."""
        said = next((i for i, s in enumerate(segments) if isinstance(s, TextSegment)), len(segments))
        for i, segment in enumerate(segments):
            if i > said and isinstance(segment, ImageSegment):
                captioned = isinstance(segments[i - 1], TextSegment)
                words = "(left out)" if captioned else f"({segment.words}: left out)"
                return [*segments[:i], TextSegment(words), *segments[i + 1 :]]
        return None

    def _reading(self, prompt: Prompt, segments: Sequence[Segment]) -> Reading:
        content, pixels = _content([self._guarded(segment) for segment in segments], prompt.instruction)
        if not content:
            raise InputError("this prompt is empty: there is nothing to read")
        text = self._rendered(content, prompt.system)
        images = tuple(_image(one) for one in pixels)
        made = self._processed(text, images)
        tokens = made["input_ids"][0]
        pictures = {name: given for name, given in made.items() if name not in PER_TOKEN}
        spans = self._spans(tokens, len(images))
        types = made.get("token_type_ids", made.get("mm_token_type_ids"))
        return Reading(
            tokens,
            _keys(tokens, spans, [_digest(one) for one in pixels], self._picture),
            self._positions(made),
            spans,
            pictures,
            None if types is None else types[0],
            images,
            bool(text) and (text[-1].isalnum() or text[-1] in ":,.-"),
            WRITTEN_TYPES.get(self.model.config.model_type, 0),
        )

    def _guarded(self, segment: Segment) -> Segment:
        """A segment whose text forges no special token of this model. Those that begin with < are escaped
        already; "[INST]" and its like are not."""
        if not isinstance(segment, TextSegment) or not any(t in segment.text for t in self._forgeable):
            return segment
        text = segment.text
        for token in self._forgeable:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return TextSegment(text)

    def _rendered(self, content: list[dict[str, str]], system: str) -> str:
        """The chat as one text, checked: a template must not leave out what a model has to know."""
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if system:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
        try:
            text = str(self._template(messages))
        except Exception as error:
            if system:
                raise InputError(self._no_system(f" ({error})")) from None
            raise PluginError(f"the chat template of {self.name} cannot be used: {error}") from None
        if system and text.count(system.strip()) <= str(self._template(messages[1:])).count(system.strip()):
            raise InputError(self._no_system())
        lost = next((c["text"] for c in content if "text" in c and c["text"].strip() not in text), None)
        if (
            lost is None
            and "{'type': '" in text
            and not any("{'type': '" in c.get("text", "") for c in content)
        ):
            lost = str(content[0])  # written as Python writes a list: the template wants one string
        if lost is not None:
            raise PluginError(
                f"the chat template of {self.name} leaves out part of the prompt ({lost[:60]!r}): give the"
                " checkpoint a template that takes a list of text and images as a message's content"
            )
        return text

    def _no_system(self, why: str = "") -> str:
        return (
            f"the chat template of {self.name} carries no system prompt{why}, and this prompt has one: put it"
            " into the instruction, or choose a checkpoint whose template has a system role"
        )

    def _template(self, messages: list[dict[str, Any]], reply: bool = True) -> Any:
        # Models that would think aloud before every reply are told not to: here thinking is a primitive's,
        # and is context.
        thinks = "enable_thinking" in str(self.processor.chat_template)
        switches = {"enable_thinking": False} if thinks else {}
        return self.processor.apply_chat_template(
            messages, add_generation_prompt=reply, tokenize=False, **switches
        )

    def _processed(self, text: str, images: Sequence[Any]) -> dict[str, Tensor]:
        bos = self.tokenizer.bos_token  # many templates write it themselves, and two are one too many
        try:
            made = self.processor(
                text=[text],
                images=[list(images)] if images else None,
                add_special_tokens=not (bos and text.startswith(bos)),
                return_tensors="pt",
            )
        except MemoryError:
            raise
        except Exception as error:
            sizes = ", ".join(f"{image.width} x {image.height}" for image in images) or "none"
            mend = "change their sizes or leave them out" if images else "give it a photo to look at"
            raise InputError(
                f"the processor of {self.name} refuses this prompt ({type(error).__name__}: {error!s:.300};"
                f" pictures: {sizes}): {mend}"
            ) from None
        return {name: given for name, given in made.items() if isinstance(given, Tensor)}

    def pictures_from(self, reading: Reading, start: int) -> dict[str, Tensor] | None:
        """What the model is given of the pictures at tokens `start` and later; None where they cannot be
        told from the others."""
        if not reading.images:
            return {}
        if reading.spans is None:
            if start == 0:
                return reading.pictures
            marked = self._picture is not None and self._picture in reading.tokens
            return {} if marked and np.flatnonzero(reading.keys < 0)[-1] < start else None
        new = [i for i, (first, _) in enumerate(reading.spans) if first >= start]
        if not new or len(new) == len(reading.spans):
            return reading.pictures if new else {}
        images = [reading.images[i] for i in new]
        text = self._rendered([{"type": "image"} for _ in images], "")
        made = self._processed(text, images)
        expected = int((reading.tokens[start:] == self._picture).sum())
        if int((made["input_ids"] == self._picture).sum()) != expected:
            return None  # this processor makes another thing of a picture that stands among others
        return {name: given for name, given in made.items() if name not in PER_TOKEN}

    def joins_pictures(self) -> bool:
        """Whether two prompts' pictures made ready together are the two made ready apart, one after the
        other. Some processors pad them, or nest them by prompt."""
        from PIL import Image

        try:
            red, blue = Image.new("RGB", (64, 48), "red"), Image.new("RGB", (48, 80), "blue")
            shown = [[red], [blue, red]]
            texts = [self._rendered([{"type": "image"} for _ in images], "") for images in shown]
            apart = [self._processed(text, images) for text, images in zip(texts, shown, strict=True)]
            both = self.processor(text=texts, images=shown, padding=True, return_tensors="pt")
            return all(
                torch.equal(torch.cat([one[name] for one in apart]), both[name])
                for name in apart[0]
                if name not in PER_TOKEN
            )
        except Exception:  # then they go one by one
            return False

    @cached_property
    def _cuts_alike(self) -> bool:
        """Whether a picture becomes as many tokens among others as alone. Llava-OneVision cuts one that is
        alone into crops, and one of several not."""
        from PIL import Image

        tall, wide = Image.new("RGB", (40, 80), "red"), Image.new("RGB", (96, 48), "blue")
        try:
            counts = [
                int(
                    (
                        self._processed(self._rendered([{"type": "image"}] * len(shown), ""), shown)[
                            "input_ids"
                        ]
                        == self._picture
                    ).sum()
                )
                for shown in ([tall], [wide], [tall, wide])
            ]
        except Exception:  # the first prompt will say what is wrong
            return True
        return counts[0] + counts[1] == counts[2]

    def _spans(self, tokens: Tensor, count: int) -> tuple[tuple[int, int], ...] | None:
        """Where each picture's tokens are; None unless they form one run a picture, whatever other pictures
        there are."""
        if count == 0:
            return ()
        if self._picture is None or not self._cuts_alike:
            return None
        held = torch.nn.functional.pad((tokens == self._picture).int(), (1, 1)).diff()
        starts, ends = (held == 1).nonzero()[:, 0].tolist(), (held == -1).nonzero()[:, 0].tolist()
        return tuple(zip(starts, ends, strict=True)) if len(starts) == count else None

    def _positions(self, made: dict[str, Tensor]) -> Tensor:
        tokens = made["input_ids"]
        if self._rope_index is None:
            return torch.arange(tokens.shape[1])
        given = dict(made)
        accepted = inspect.signature(self._rope_index).parameters
        if "mm_token_type_ids" in accepted and "mm_token_type_ids" not in given:
            given["mm_token_type_ids"] = (tokens == self._picture).int()
        positions = self._rope_index(**{name: one for name, one in given.items() if name in accepted})[0]
        return positions[:, 0]  # (3, T)

    # ----------------------------------------------------------------------------------------- replying

    @cached_property
    def padding(self) -> int:
        """The token that fills up rows. Not one that ends a reply: a checkpoint's penalty for what was said
        before counts padding as said."""
        pad = self.tokenizer.pad_token_id
        return 0 if pad is None or pad in self.ends else int(pad)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a reply: what the checkpoint says does, and what its template writes there."""
        given = getattr(self.model.generation_config, "eos_token_id", None)
        held = list(given) if isinstance(given, (list, tuple)) else [given]
        held.append(self.tokenizer.eos_token_id)
        held.append(self._end_of_turn())
        return tuple(dict.fromkeys(int(token) for token in held if token is not None))

    def _end_of_turn(self) -> int | None:
        """The special token that the template writes after a reply, if it writes one."""
        user = {"role": "user", "content": [{"type": "text", "text": "Say so."}]}
        said = {"role": "assistant", "content": [{"type": "text", "text": "so-it-is"}]}
        try:
            after = str(self._template([user, said], reply=False)).rpartition("so-it-is")[2]
        except Exception:  # it takes no replies
            return None
        tokens = self.tokenizer(after.lstrip(), add_special_tokens=False)["input_ids"]
        return tokens[0] if tokens and tokens[0] in self.tokenizer.all_special_ids else None

    def answer_tokens(self, reading: Reading, choice: str) -> list[int]:
        """A choice as the model would write it after this prompt."""
        said = f" {choice.strip()}" if reading.open else choice.strip()
        return list(self.tokenizer(said, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def _keeps_order(self) -> None:
        """Say so where the template does not keep words and pictures in the order they were written."""
        mark = getattr(self.processor, "image_token", None)
        words = {"type": "text", "text": "first-words"}, {"type": "text", "text": "last-words"}
        image = {"type": "image"}
        try:
            text = str(self._template([{"role": "user", "content": [words[0], image, words[1], image]}]))
        except Exception:  # the first prompt will say what is wrong
            return
        places = [text.find("first-words"), text.find(str(mark)), text.find("last-words")]
        if mark and places != sorted(places) and min(places) >= 0:
            warnings.warn(
                f"the chat template of {self.name} does not keep text and pictures in the order they were"
                " written, so a picture that is added changes all that follows it: what was read before is"
                " read again then, and a model may not know which words go with which picture",
                stacklevel=3,
            )


def _content(segments: Sequence[Segment], instruction: str) -> tuple[list[dict[str, str]], list[Any]]:
    """A message's content: neighbouring texts as one, a line each; and the pictures in order."""
    content: list[dict[str, str]] = []
    lines: list[str] = []
    pixels: list[Any] = []
    for segment in segments:
        if isinstance(segment, ImageSegment):
            if not lines:
                lines.append(f"{segment.words}:")
            content.append({"type": "text", "text": "\n".join(lines)})
            content.append({"type": "image"})
            pixels.append(segment.pixels)
            lines = []
        else:
            lines.append(segment.text if isinstance(segment, TextSegment) else segment.words)
    lines += [instruction] if instruction else []
    if lines:
        content.append({"type": "text", "text": "\n".join(lines)})
    return [c for c in content if c.get("text", "image").strip()], pixels


def _image(pixels: Any) -> Any:
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(to_numpy(pixels)))


def _digest(pixels: Any) -> int:
    held = np.ascontiguousarray(to_numpy(pixels))
    digest = xxh3_64_intdigest(held.tobytes(), seed=held.shape[1])
    return -1 - (digest >> 1)  # below 0: no token has that number


def _keys(
    tokens: Tensor, spans: tuple[tuple[int, int], ...] | None, digests: list[int], picture: int | None
) -> Keys:
    keys = tokens.numpy().astype(np.int64)
    if not digests:
        return keys
    if spans is None:  # whose token it is cannot be told: all of them stand for all pictures
        whole = -1 - (xxh3_64_intdigest(np.array(digests).tobytes()) >> 1)
        keys[keys == picture] = whole
        if not (keys < 0).any():  # the model marks no places for them at all
            keys[0] = whole
        return keys
    for (start, end), digest in zip(spans, digests, strict=True):
        keys[start:end] = digest
    return keys
