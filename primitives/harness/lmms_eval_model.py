"""lmms-eval's model: `python -m lmms_eval --model unroller --model_args backend=text=hf:PATH,policy=…`.

lmms-eval imports this module when the model is asked for.
"""

# The harness is an extra.
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from lmms_eval.models.model_utils.usage_metrics import is_budget_exceeded, log_usage
from loguru import logger

from primitives.harness.pipeline import Asking, Pipeline, Question, Reply
from primitives.harness.question import Other, Part, Picture, Turn
from primitives.harness.unheeded import warn_of
from unroller.faults import PluginError

LENGTHS = ("max_new_tokens", "max_gen_toks", "max_tokens")
HEEDED = frozenset({*LENGTHS, "temperature", "do_sample", "until"})
SAMPLING = frozenset({"top_p", "top_k"})  # of no effect where the most probable words are taken


class Unroller(lmms):
    """A pipeline as a model. Arguments: those of `Pipeline`, and `records`, a file to which a line of JSON is
    added for every question: cost, calls, faults and why there is no answer, for which lmms-eval has no
    place. batch_size and max_batch_size are lmms-eval's and of no use: all questions are unrolled together.

    Raises UnrollerError with what to do.
    """

    is_simple = False

    def __init__(
        self,
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: str | None = None,
        records: str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        if device is not None:
            raise PluginError(
                f"device={device!r}: a backend's words name its device, as hf:PATH?device={device}"
            )
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise PluginError("several processes were started, and a pipeline runs in one: start it without")
        self.pipeline = Pipeline(**arguments)
        self.records = records
        if records is not None:  # a place that cannot be written is said now
            Path(records).parent.mkdir(parents=True, exist_ok=True)
            open(records, "a").close()

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answers in order. A question that cannot be answered has an empty one, and a warning says why."""
        from tqdm import tqdm

        started, results, replies = perf_counter(), [], []
        with ExitStack() as stack:
            file = stack.enter_context(open(self.records, "a", 1, "utf-8")) if self.records else None
            answers = self.pipeline.answers(self._questions(requests))
            for request, reply in zip(requests, tqdm(answers, "unrolling", len(requests)), strict=True):
                doc, task, split = _args(request)[3:]
                if reply.refusal:
                    logger.warning(f"{task} {split} {doc}: no answer: {reply.refusal}")
                if file is not None:
                    line = {"task": task, "split": split, "doc": doc, "text": reply.text, **reply.record()}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                self._use(reply, task)
                results.append(GenerationResult(reply.text, _tokens(reply)))
                replies.append(reply)
        _report(replies, perf_counter() - started)
        return results

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError(
            "a pipeline answers one question at a time: leave tasks of several rounds out"
        )

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError(
            "a pipeline has no likelihood of given words: choose the task's variant that generates"
        )

    def _questions(self, requests: Iterable[Instance]) -> Iterator[Question]:
        for request in requests:
            _, messages_of, settings, doc, task, split = _args(request)
            how = self._asking(settings or {})
            if is_budget_exceeded():
                yield Question((), how, refusal="the evaluation's limit of tokens was reached (--max_tokens)")
                continue
            try:
                messages = messages_of(self.task_dict[task][split][doc])
                yield Question([_turn(message) for message in messages], how)
            except Exception as error:  # a document that the task cannot read costs its own answer alone
                why = f"the task could not read this document ({type(error).__name__}: {error!s:.300})"
                yield Question((), how, refusal=why)

    def _asking(self, settings: Mapping[str, Any]) -> Asking:
        length = next((settings[name] for name in LENGTHS if settings.get(name)), self.pipeline.max_tokens)
        freely = settings.get("do_sample", True) is not False
        temperature = float(settings.get("temperature") or 0.0) if freely else 0.0
        heeded = HEEDED if temperature else HEEDED | SAMPLING
        warn_of("lmms-eval", {name: value for name, value in settings.items() if name not in heeded})
        until = settings.get("until") or ()
        until = (until,) if isinstance(until, str) else tuple(map(str, until))
        return Asking(int(length), temperature, until)

    def _use(self, reply: Reply, task: str) -> None:
        """One record for every model call, so that lmms-eval's count of calls is one of calls."""
        read, thought = reply.reading, reply.context_cost.tokens
        if not reply.cost.model_calls and read is None:
            return
        log_usage(
            self.pipeline.name,
            task,
            input_tokens=0 if read is None else round(read.prefilled + read.reused),
            output_tokens=reply.cost.tokens - thought,
            reasoning_tokens=thought,
        )
        for _ in range(1, reply.cost.model_calls):
            log_usage(self.pipeline.name, task)


def _args(request: Instance) -> tuple[Any, ...]:
    """What a task of messages asks with: text, messages of a document, settings, document, task, split."""
    return tuple(request.args)


def _tokens(reply: Reply) -> TokenCounts:
    """As charged; what was read, as it was. Those of the context are among the output's: lmms-eval divides
    them by right answers."""
    read = reply.reading
    return TokenCounts(
        None if read is None else round(read.prefilled + read.reused),
        reply.cost.tokens,
        reply.context_cost.tokens,
    )


def _report(replies: Sequence[Reply], seconds: float) -> None:
    if not replies:
        return
    written = sum(reply.cost.tokens for reply in replies)
    means = {
        "model_calls_per_question": sum(reply.cost.model_calls for reply in replies),
        "dollars_per_question": sum(reply.cost.price for reply in replies),
        "faults_per_question": sum(len(reply.faults) for reply in replies),
        "without_answer": sum(bool(reply.refusal) for reply in replies),
    }
    log_metrics(
        seconds,
        written,
        written / seconds if seconds else 0.0,
        {
            "total_requests": len(replies),
            **{name: total / len(replies) for name, total in means.items()},
        },
    )


def _turn(message: Mapping[str, Any]) -> Turn:
    content = message["content"]
    if isinstance(content, str):
        return Turn(message["role"], [content])
    parts: list[Part] = []
    for one in content:
        if one["type"] == "text":
            parts.append(one["text"])
        elif one["type"] == "image":
            parts.append(Picture(one["url"]))
        else:
            parts.append(Other(one["type"]))
    return Turn(message["role"], parts)
