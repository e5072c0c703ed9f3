"""A pipeline as a harness names it, backend words, policy and budget, and what it answers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from pydantic import ValidationError

from primitives.harness.question import Posed, Turn, posed
from unroller.cli.options import budget_of
from unroller.cli.setup import Setup, executor_of
from unroller.cli.used import used
from unroller.cost import FREE, Cost, Reading, left_of
from unroller.executor import Executor
from unroller.faults import PluginError, ProblemError, UnrollerError
from unroller.run import Run

Answering = Literal["written", "letters", "options"]


class Asking(NamedTuple):
    """What a harness fixes of the final decode. max_tokens; temperature; stop: what ends the answer. They
    are of a written answer; the context is written as its primitives say."""

    max_tokens: int = 512
    temperature: float = 0.0
    stop: tuple[str, ...] = ()


class Question(NamedTuple):
    """turns: the chat; how: of the answer; seed: added to what tells repeated questions apart; refusal: why
    it cannot even be read."""

    turns: Sequence[Turn]
    how: Asking = Asking()
    seed: int = 0
    refusal: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a question: text ("" where there is no answer), cost charged, the share of it that went
    into the context, the context in words, tokens that models read (None: nobody counted), seconds inside
    calls, faults in words, and why there is no answer."""

    text: str = ""
    cost: Cost = FREE
    context_cost: Cost = FREE
    context: tuple[tuple[str, str], ...] = ()
    reading: Reading | None = None
    seconds: float = 0.0
    faults: tuple[str, ...] = ()
    refusal: str = ""
    cut: bool = False

    def record(self) -> dict[str, Any]:
        """As plain data, for a harness's log."""
        return {
            "model_calls": self.cost.model_calls,
            "tokens": self.cost.tokens,
            "price": self.cost.price,
            "calls": [action for action, _ in self.context],
            "seconds": round(self.seconds, 6),
            "faults": list(self.faults),
            **({"no_answer": self.refusal} if self.refusal else {}),
        }


class Pipeline:
    """Answers a harness's questions with one unroller pipeline.

    backend: words as on the command line, several with ";" between ("text=hf:PATH;pose=classical"), or a
    list; policy: a registered name or module:object; or calls, "a;b+c", or planner. budget:
    "model_calls=6;seconds=30". use: module:object that bring plug-ins. memo: a folder. task: "understanding"
    or "spatial": whose schedule is followed. max_tokens: of an answer where the harness says nothing.
    executor: one that is ready, in place of all these but task, answer and max_tokens.

    answer: "written", by a text generator, in the form that the question asks for; "letters", the most
    probable letter of the options that stand in the question; "options", the most probable of the options
    themselves, for models with words of their own. None: "options" for a unified model such as `nano`, which
    writes no replies, else "written".

    Raises UnrollerError with what to do, here and not at the first question.
    """

    def __init__(
        self,
        *,
        backend: Any = None,
        policy: str | None = None,
        calls: Any = None,
        planner: str | None = None,
        budget: Any = None,
        use: Any = None,
        memo: str | None = None,
        task: str = "understanding",
        answer: Answering | None = None,
        max_tokens: int = 512,
        executor: Executor | None = None,
    ) -> None:
        if executor is None:
            executor = _executor(backend, policy, calls, planner, budget, use, memo)
        if answer is None:
            unified = any(getattr(one, "unified", False) for one in executor.backends)
            answer = "options" if unified else "written"
        if answer not in get_args(Answering):
            raise PluginError(f"answer={answer!r}: write {', '.join(get_args(Answering))}")
        if not isinstance(max_tokens, int) or max_tokens < 1:
            raise PluginError(f"max_tokens={max_tokens!r}: give a whole number, 1 or more")
        self.task = task
        self.answer: Answering = answer
        self.max_tokens = max_tokens
        self._base = executor
        self._executors: dict[Asking, Executor] = {}
        self._asked: Counter[bytes] = Counter()
        self.executor(Asking(max_tokens))  # what is missing is said before the first question

    @property
    def name(self) -> str:
        return f"unroller/{self._base.policy_name}"

    def executor(self, how: Asking) -> Executor:
        """The executor whose answers are given like this; all of them share backends and memo.

        Raises UnknownName, MissingCapability, BudgetError.
        """
        if self.answer != "written":
            how = Asking()
        found = self._executors.get(how)
        if found is None:
            found = self._base
            if self.answer == "written":
                from primitives.written import written_answer

                try:
                    decoder = written_answer(self.task, **how._asdict())
                except ValidationError as error:
                    raise PluginError(f"{how}: {error.errors()[0]['msg']}") from None
                found = found.extend(decoders=[decoder])
            left_of(found.budget, found.decoder(self.task).cost)
            self._executors[how] = found
        return found

    def answers(self, questions: Iterable[Question]) -> Iterator[Reply]:
        """A reply to each question, in order, batched across those that follow one another and are to be
        answered alike. A question that cannot be asked has an empty reply, with the reason. The same question
        again is another sample of it, with a seed of its own."""
        for how, alike in groupby(questions, key=lambda question: question.how):
            yield from self._alike(alike, how)

    def together(self, questions: Sequence[Question]) -> list[Reply]:
        """A reply to each of some questions that met by chance: those to be answered alike are one batch."""
        order = sorted(range(len(questions)), key=lambda i: questions[i].how)
        replies = dict(zip(order, self.answers(questions[i] for i in order), strict=True))
        return [replies[i] for i in range(len(questions))]

    def _alike(self, questions: Iterator[Question], how: Asking) -> Iterator[Reply]:
        try:
            executor = self.executor(how)
        except UnrollerError as error:  # such an answer is not in the budget
            yield from (Reply(refusal=f"{type(error).__name__}: {error}") for _ in questions)
            return
        under_way: deque[Posed | Reply] = deque()

        def problems() -> Iterator[Any]:
            for question in questions:
                one = self._posed(question, executor)
                under_way.append(one)
                if isinstance(one, Posed):
                    yield one.problem

        for run in executor.map(problems()):
            while isinstance(one := under_way.popleft(), Reply):
                yield one
            yield _reply(run, one, how if self.answer == "written" else None)
        for one in under_way:
            assert isinstance(one, Reply)
            yield one

    def _posed(self, question: Question, executor: Executor) -> Posed | Reply:
        if question.refusal:
            return Reply(refusal=question.refusal)
        try:
            one = posed(question.turns, self.task, self.answer, question.seed)
            why = executor.decoder(self.task).inapplicable(one.problem)
            if why is not None:
                raise ProblemError(f"{self.task}: {why}")
            times = self._asked[one.problem.identity]
            self._asked[one.problem.identity] += 1
            if times:  # asked again, for another sample
                again = one.problem.model_copy(update={"seed": question.seed + times})
                one = one._replace(problem=again)
            return one
        except ProblemError as error:
            return Reply(refusal=f"{type(error).__name__}: {error}")


def _executor(
    backend: Any, policy: Any, calls: Any, planner: Any, budget: Any, use: Any, memo: Any
) -> Executor:
    words = several(backend)
    if not words:
        raise PluginError("name a backend, as backend=text=hf:PATH or backend=nano")
    listed = ",".join(several(calls)) if calls is not None else None
    setup = Setup(
        backends=words,
        policy=policy or ("schedule" if listed is None and planner is None else None),
        planner=planner,
        calls=listed,
        budget=budget_of(several(budget)),
        use=several(use),
        memo=memo,
    )
    return executor_of(setup, used(setup.use))


def several(given: Any) -> list[str]:
    """The items of an argument of a harness: "a;b" or a list."""
    if given is None:
        return []
    items = given if isinstance(given, (list, tuple)) else str(given).split(";")
    return [item for one in items if (item := str(one).strip())]


def _reply(run: Run, one: Posed, how: Asking | None) -> Reply:
    last = run.output_entry
    text, refusal = "", ""
    faults = tuple(f"{fault.action}: {fault.kind}: {fault.message}" for fault in run.faults)
    if last is None:
        refusal = faults[-1] if faults else "the decoder gave no answer"
    elif one.options is not None and getattr(run.output, "choice", None) is not None:
        text = one.options.said(run.output.choice)
    else:
        text = getattr(run.output, "text", None) or run.output.words()
    answered = FREE if last is None else last.cost
    return Reply(
        text=_whole(text),
        cost=run.cost,
        context_cost=run.cost - answered,
        context=tuple((entry.action, _whole(entry.value.words())) for entry in run.entries),
        reading=run.spent.reading,
        seconds=run.spent.seconds,
        faults=faults,
        refusal=refusal,
        cut=how is not None and answered.tokens >= how.max_tokens,
    )


def _whole(text: str) -> str:
    """Text that can be written down: half surrogates, which a server can send, are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
