"""inspect_ai's model provider: `inspect eval TASK --model unroller/POLICY -M backend=text=hf:PATH`.

inspect_ai imports this module by the entry point `inspect_ai`.
"""

# The harness is an extra.
# pyright: reportMissingImports=false

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import unquote_to_bytes

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ContentImage,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from primitives.harness.meeting import Meeting
from primitives.harness.pipeline import Asking, Pipeline, Question, Reply
from primitives.harness.question import Other, Part, Picture, Turn
from primitives.harness.unheeded import warn_of
from unroller.faults import ImageError
from unroller.images import decode_image

SAMPLING = ("top_p", "top_k", "frequency_penalty", "presence_penalty", "logit_bias")
UNHEEDED = (*SAMPLING, "best_of", "logprobs", "top_logprobs", "prompt_logprobs", "response_schema", "effort")
"""Settings that would change an answer and do not; all others are heeded, or inspect_ai's own business."""


@modelapi(name="unroller")
class Unroller(ModelAPI):
    """A pipeline as a model. model_name: the policy ("pipeline" where model arguments name calls or a
    planner); model arguments: those of `Pipeline`, and `batch`, how many questions meet at most."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        batch: int = 256,
        **arguments: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        if not {"calls", "planner", "executor"} & set(arguments):
            arguments["policy"] = model_name
        self.pipeline = Pipeline(**arguments)
        self._meeting: Meeting[Question, Reply] = Meeting(self.pipeline.together, batch)

    def max_tokens(self) -> int | None:
        """Of an answer, where neither task nor command line says."""
        return self.pipeline.max_tokens

    def max_connections(self) -> int:
        """Questions under way: they meet in batches, so that more is faster."""
        return 64

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """The pipeline's answer; the context is the reasoning that comes before it. A question that it
        cannot answer has an empty completion, with the reason in the output's metadata."""
        warn_of("inspect_ai", {name: getattr(config, name, None) for name in UNHEEDED})
        how = Asking(
            config.max_tokens or self.pipeline.max_tokens,
            float(config.temperature or 0.0),
            tuple(config.stop_seqs or ()),
        )
        refusal = "a pipeline calls no tools, and this question comes with some" if tools else ""
        question = Question([_turn(message) for message in input], how, config.seed or 0, refusal)
        replies = [await self._meeting.ask(question)]
        for _ in range(1, config.num_choices or 1):
            replies.append(await self._meeting.ask(question))
        return self._output(replies)

    def _output(self, replies: list[Reply]) -> ModelOutput:
        records = [reply.record() for reply in replies]
        return ModelOutput(
            model=self.pipeline.name,
            choices=[
                ChatCompletionChoice(
                    message=ChatMessageAssistant(
                        content=_content(reply), model=self.pipeline.name, source="generate"
                    ),
                    stop_reason="unknown" if reply.refusal else "max_tokens" if reply.cut else "stop",
                )
                for reply in replies
            ],
            usage=_usage(replies),
            metadata={"unroller": records[0] if len(records) == 1 else records},
        )


def _content(reply: Reply) -> list[Any]:
    thought = [ContentReasoning(reasoning=f"{action}: {words}") for action, words in reply.context]
    return [*thought, ContentText(text=reply.text)]


def _usage(replies: list[Reply]) -> ModelUsage:
    """Tokens written and dollars as they are charged, the same on a memo hit; tokens read as they were."""
    read = [reply.reading for reply in replies if reply.reading is not None]
    fresh, reused = round(sum(r.prefilled for r in read)), round(sum(r.reused for r in read))
    written = sum(reply.cost.tokens for reply in replies)
    price = sum(reply.cost.price for reply in replies)
    return ModelUsage(
        input_tokens=fresh,
        input_tokens_cache_read=reused if read else None,
        output_tokens=written,
        reasoning_tokens=sum(reply.context_cost.tokens for reply in replies),
        total_tokens=fresh + reused + written,
        total_cost=price or None,
    )


def _turn(message: ChatMessage) -> Turn:
    content = message.content
    if isinstance(content, str):
        return Turn(message.role, [content])
    parts: list[Part] = []
    for one in content:
        if isinstance(one, ContentText):
            parts.append(one.text)
        elif isinstance(one, ContentImage):
            parts.append(Picture(one.image, _decoded))
        elif not isinstance(one, ContentReasoning):  # what an earlier turn thought is no part of what it said
            parts.append(Other(one.type))
    return Turn(message.role, parts)


def _decoded(image: str) -> Any:
    """A picture from a data URI, which is what inspect_ai makes of files and addresses. Raises ImageError."""
    head, comma, data = image.partition(",")
    if not head.startswith("data:") or not comma:
        raise ImageError("a picture that inspect_ai has not read: give a file or a data URI")
    try:
        base64_ = head.endswith(";base64")
        return decode_image(base64.b64decode(data, validate=True) if base64_ else unquote_to_bytes(data))
    except binascii.Error as error:
        raise ImageError(f"a picture whose base64 is damaged ({error})") from None
