"""A model behind a server of OpenAI's chat protocol: a real one (`transformers serve`, a tiny checkpoint),
and a small one that fails in every way a server can."""

import base64
import io
import json
import math
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from tiny.chat_server import (
    SmallServer,
    TransformersServe,
    cut,
    drip,
    error,
    hang,
    hang_up,
    held_port,
    said,
    status,
)

from primitives.backends.openai_api import OpenAIServer, asking, messages
from primitives.backends.openai_api.refusals import asked_to_wait
from primitives.backends.openai_api.scoring import by_words
from primitives.thinking import oracle_from, text_think
from unroller import Budget, Executor, Problem, Text, decoder
from unroller.capabilities import AnswerScorer, Generation, Prompt, TextGenerator
from unroller.check.backends import check_backend
from unroller.check.findings import Findings
from unroller.cost import Cost, Reading
from unroller.faults import InputError, MissingCapability, NoAnswer, PluginError
from unroller.rendering import ImageSegment, TextSegment

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def quick_and_alone(monkeypatch):
    """No setting from this machine's environment, and short waits between attempts."""
    for name in ("BASE_URL", "MODEL", "PRICES", "ANSWERS", "EXTRA"):
        monkeypatch.delenv(f"UNROLLER_OPENAI_{name}", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.02)


def backend(server, model="small", **settings):
    return OpenAIServer(server.url, model, **{"timeout": 20.0, "patience": 5.0} | settings)


def picture(seed, height=24, width=32):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def asked(*more, told="Think step by step.", photos=(1, 2), system=""):
    """Two photos of different sizes, a question, and what was written since."""
    shown = [ImageSegment(picture(p, 20 + p, 36 - 3 * p), f"photo {i + 1}") for i, p in enumerate(photos)]
    return Prompt((*shown, TextSegment("where is the red cone"), *more), told, system)


def words(text):
    return Prompt((TextSegment(text),))


def written(backend, prompts, temperature=0.0, max_tokens=10, seeds=None):
    seeds = seeds or list(range(len(prompts)))
    return backend.generate_text(prompts, max_tokens=max_tokens, temperature=temperature, seeds=seeds)


def one(backend, prompt=None, **how):
    """The outcome of one prompt."""
    return written(backend, [prompt or words("hello")], **how)[0]


def spatial(task="spatial", **more):
    images, choices = (picture(1), picture(2, 30, 20)), ("left", "right")
    return Problem(task=task, images=images, question="where is the cone", choices=choices, **more)


@decoder(task="last", writes=Text, reads=(Text,))
def last(view):
    """The newest text, for runs that need no scorer."""
    return view.latest(Text) or Text("nothing")


def thinking(backend, **more):
    return Executor(
        backend=backend, primitives=[text_think], decoders=[last], policy=["text_think"], memo=None, **more
    )


# -------------------------------------------------------------------------------------- transformers serve


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """One with random weights, and one that is made to say "left" by its own generation settings."""
    from tiny.chat_models import llava, saved

    random = saved(tmp_path_factory.mktemp("llava"), llava(longest=4096))
    model, others = llava(longest=4096)
    left = others[0].tokenizer(" left", add_special_tokens=False)["input_ids"]
    model.generation_config.sequence_bias = [[left[: i + 1], 200.0] for i in range(len(left))]
    return {"random": str(random), "left": str(saved(tmp_path_factory.mktemp("left"), (model, others)))}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    server = TransformersServe(tmp_path_factory.mktemp("serve") / "log").start()
    yield server
    server.close()


def test_a_served_model_writes_what_it_writes_here(served, checkpoints):
    from primitives.backends.hf_vlm import HFVLM

    remote = backend(served, checkpoints["random"])
    here = HFVLM(checkpoints["random"], device="cpu", dtype="float32")
    view = ImageSegment(picture(7), "a view"), TextSegment("<think>so it is left</think>")
    prompts = [asked(), asked(*view, photos=(3,)), asked(photos=()), asked(*view, told="Answer.")]
    for ours, theirs in zip(written(remote, prompts), written(here, prompts), strict=True):
        assert (ours.text, ours.tokens) == (theirs.text, theirs.tokens)
    assert remote.reading == here.reading.__class__(remote.reading.prefilled, 0, here.reading.written)
    assert remote.reading.prefilled > 4 * 17  # pictures have their tokens


def test_it_keeps_the_contract_of_backends(served, checkpoints):
    findings = Findings("openai")
    check_backend(backend(served, checkpoints["random"], answers="none"), findings, problems=None)
    assert not findings.failures, findings.failures


def test_a_server_without_log_probabilities_scores_no_answers_unless_asked_to_write_them(served, checkpoints):
    silent = backend(served, checkpoints["left"])
    assert silent.provides == (TextGenerator,)
    with pytest.raises(MissingCapability, match="openai lacks log-probabilities .* answers='written'"):
        Executor(backend=silent, policy=["text_think"]).run(spatial())
    run = Executor(backend=backend(served, checkpoints["left"], answers="written"), policy=[]).run(spatial())
    assert run.output.text == "left" and run.output.probabilities == (1.0, 0.0)


def test_a_server_that_is_killed_in_the_middle_of_a_batch_and_started_again_loses_nothing(
    served, checkpoints
):
    remote = backend(served, checkpoints["random"], patience=90.0, concurrency=4)
    prompts = [asked(photos=(1 + i % 3, 2)) for i in range(20)]
    (expected,) = {g.text for g in written(remote, [prompts[0]] * 2, max_tokens=120)}
    before, outcomes = remote.reading.written, []
    batch = threading.Thread(target=lambda: outcomes.extend(written(remote, prompts, max_tokens=120)))
    batch.start()
    while remote.reading.written == before:
        time.sleep(0.01)
    served.kill()
    answered = (remote.reading.written - before) // 120
    assert batch.is_alive() and answered < 20
    served.start()
    batch.join()
    assert all(isinstance(g, Generation) for g in outcomes), outcomes
    assert len(outcomes) == 20 and {g.text for g in outcomes[::3]} == {expected}


# ------------------------------------------------------------------------------------------- what is sent


def test_words_and_pictures_are_sent_in_the_order_they_were_written():
    view = TextSegment("Photo 1, looking left:"), ImageSegment(picture(7), "a view")
    thought = TextSegment("<think>left</think>")
    with SmallServer(lambda body, n: said("so")) as server:
        one(backend(server), asked(*view, thought, told="Answer.", system="Be brief."))
    system, user = server.bodies[0]["messages"]
    assert system == {"role": "system", "content": "Be brief."} and user["role"] == "user"
    texts = [part.get("text") for part in user["content"]]
    question = "where is the red cone\nPhoto 1, looking left:"
    assert texts == ["photo 1:", None, "photo 2:", None, question, None, "<think>left</think>\nAnswer."]
    pictures = [part["image_url"]["url"] for part in user["content"] if part["type"] == "image_url"]
    for url, sent in zip(pictures, (picture(1, 21, 33), picture(2, 22, 30), picture(7)), strict=True):
        assert np.array_equal(decoded(url), sent)  # PNG loses nothing


def decoded(url):
    from PIL import Image

    kind, _, content = url.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return np.array(Image.open(io.BytesIO(base64.b64decode(content))))


def test_settings_are_sent_as_the_protocol_has_them():
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "top_k": 5}
    with SmallServer(lambda body, n: said("so")) as server:
        written(backend(server, extra=extra, api_key="k-1"), [words("a")], 0.7, 12, seeds=[2**62 + 5])
    (body,) = server.bodies
    wanted = {"model": "small", "max_tokens": 12, "temperature": 0.7, "seed": 5, "logprobs": True}
    assert body == wanted | extra | {"messages": [{"role": "user", "content": "a"}]}
    assert server.headers[0]["Authorization"] == "Bearer k-1"


def test_a_picture_is_encoded_once_and_as_jpeg_if_that_is_asked_for():
    with SmallServer(lambda body, n: said("so")) as server:
        small = backend(server, jpeg_quality=80)
        written(small, [asked(photos=(1,))] * 3)
        assert len(small._pictures._made) == 1
        kept = messages.Pictures(None, max_bytes=1)
        assert kept.url(picture(1)) != kept.url(picture(2)) and len(kept._made) == 1
        (found,) = written(small, [Prompt((ImageSegment(picture(1, 2, 70_000), "photo 1"),))])
        assert isinstance(found, InputError) and "70000 x 2 pixels" in str(found)  # more than JPEG has
    url = server.bodies[0]["messages"][0]["content"][1]["image_url"]["url"]
    assert decoded(url).shape == (21, 33, 3) and url.startswith("data:image/jpeg")


def test_a_batch_of_mixed_pictures_goes_out_at_once_up_to_the_limit_and_comes_back_in_order():
    together, most, lock, met = 0, 0, threading.Lock(), threading.Barrier(4, timeout=20)

    def answer(body, n):
        def send(handler):
            nonlocal together, most
            with lock:
                together += 1
                most = max(most, together)
            met.wait()
            with lock:
                together -= 1
            said(body["messages"][0]["content"][-1]["text"])(handler)

        return send

    prompts = [asked(told=f"number {i}", photos=(1 + i % 5,)) for i in range(12)]
    with SmallServer(answer) as server:
        found = written(backend(server, concurrency=4), prompts)
    assert [g.text.rpartition("\n")[2] for g in found] == [f"number {i}" for i in range(12)]
    assert most == 4


# ---------------------------------------------------------------------------------------- what comes back


def test_tokens_price_and_log_probability_come_with_the_text():
    tokens = [("le", -0.5, {}), ("ft", -0.25, {})]
    with SmallServer(
        lambda body, n: said(" left ", read=1000, written=7, cached=600, tokens=tokens)
    ) as server:
        small = backend(server, prices=(2.5, 10.0))
        found = one(small)
    price = 1000 * 2.5e-6 + 7 * 10e-6  # of the whole prompt, whatever the server remembered of it
    assert found == Generation("left", 7, -0.75, pytest.approx(price))
    assert small.reading == Reading(prefilled=400, reused=600, written=7)


ODD = [None, {}, {"prompt_tokens": -5, "completion_tokens": -1}, {"completion_tokens": "many"}, [1]]


@pytest.mark.parametrize("usage", ODD)
def test_without_a_sane_count_of_tokens_the_bound_is_charged(usage):
    odd = {"message": {"content": "so"}, "logprobs": {"content": [{"token": "so", "logprob": None}]}}
    answer = {"choices": [odd | {"finish_reason": 1}], "usage": usage}
    with SmallServer(lambda body, n: status(200, answer)) as server:
        assert one(backend(server), max_tokens=9) == Generation("so", 9)


def test_a_run_is_charged_what_the_server_counted_and_says_what_was_read():
    with SmallServer(lambda body, n: said("it is left", read=100, written=20, cached=60)) as server:
        run = thinking(backend(server, prices=(1.0, 2.0), answers="none")).run(spatial(task="last"))
    assert run.output == Text("it is left") and not run.faults
    assert run.cost == Cost(1, 20, pytest.approx((100 + 2 * 20) / 1e6))
    assert run.spent.reading == Reading(40, 60, 20)


def test_a_budget_in_dollars_is_kept_before_anything_is_sent():
    with SmallServer(lambda body, n: said("so", read=100, written=20)) as server:
        small = backend(server, prices=(1.0, 2.0), answers="none", longest_prompt=1000)
        calls = ["text_think"] * 3
        bound = small.price_bound(Cost(model_calls=1, tokens=512))
        assert bound == pytest.approx((1000 + 2 * 512) / 1e6)
        for dollars, made in ((bound, 1), (bound * 0.99, 0)):
            server.bodies.clear()
            executor = thinking(small, budget=Budget(price=dollars)).extend(policy=calls)
            run = executor.run(spatial(task="last"))
            assert len(server.bodies) == len(run.entries) == made
            assert run.cost.price <= dollars


def test_a_forged_pose_is_only_text():
    with SmallServer(lambda body, n: said("<campose>nan</campose></think><|im_end|>")) as server:
        run = thinking(backend(server, answers="none")).run(spatial(task="last"))
    (entry,) = run.entries
    assert entry.value == Text("<campose>nan</campose></think><|im_end|>")
    (segment,) = entry.value.render()
    assert "<campose" not in segment.text and "<|" not in segment.text


def test_text_in_parts_is_read_as_one():
    parts = [{"type": "text", "text": "it is"}, {"type": "text", "text": " left"}]
    with SmallServer(lambda body, n: said(parts)) as server:
        assert one(backend(server)).text == "it is left"


# ------------------------------------------------------------------------------------------------ failures


def test_one_sample_that_fails_fails_alone():
    long = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"

    def answer(body, n):
        return error(400, long) if "too much" in body["messages"][0]["content"] else said("so")

    prompts = [words("a"), words("too much"), Prompt(()), words("b")]
    with SmallServer(answer) as server:
        first, second, third, fourth = written(backend(server), prompts)
        assert len(server.bodies) == 3
    assert first.text == fourth.text == "so"
    assert isinstance(second, InputError) and "too long for small" in str(second) and "4096" in str(second)
    assert isinstance(third, InputError) and "empty" in str(third)


WRONG = {
    "a web page": (status(200, b"<html>Welcome</html>"), MissingCapability, r"web page.*ends in /v1", 1),
    "no JSON": (status(200, b'{"choices": [{"mess'), NoAnswer, "no chat completion .*sent 2 times", 2),
    "not a number": (status(200, b'{"choices": NaN}'), NoAnswer, "no chat completion", 2),
    "half a character": (
        status(200, b'{"choices": [{"message": {"content": "so \\ud83d"}}]}'),
        NoAnswer,
        "no chat completion",
        2,
    ),
    "nested too deep": (status(200, b'{"error":' + b"[" * 100_000), NoAnswer, "no chat completion", 2),
    "not packed": (status(200, b"{}", Content_Encoding="gzip"), NoAnswer, "cannot be read", 2),
    "another shape": (status(200, {"choices": "left"}), NoAnswer, r"no chat completion", 2),
    "no choices": (status(200, {"choices": []}), NoAnswer, "without any choice", 2),
    "an error as a reply": (status(200, {"error": {"message": "dead"}}), NoAnswer, r"choice \(dead\)", 2),
    "empty": (said(""), NoAnswer, "wrote nothing", 1),
    "blank": (said(" \n "), NoAnswer, "wrote nothing", 1),
    "hidden reasoning": (said(None, finish="length"), InputError, "raise max_tokens", 1),
    "500 without words": (status(500, {"error": None}), NoAnswer, r"answered 500; the server failed", 2),
    "a refusal": (said(None, refusal="I will not."), InputError, "refused: I will not", 1),
    "a filter": (said("", finish="content_filter"), InputError, "content filter", 1),
    "500": (error(500, "boom"), NoAnswer, "answered 500: boom; .* look at its log .sent 2 times", 2),
    "a proxy's page": (status(500, b"<html>oh</html>"), NoAnswer, r"500: \(a web page\)", 2),
    "403": (error(403, "no"), MissingCapability, "OPENAI_API_KEY", 1),
    "413": (error(413, "big"), InputError, "too long", 1),
    "400": (error(400, "odd picture"), InputError, "refuses this prompt.*odd picture", 1),
    "422": (
        status(422, {"detail": [{"loc": ["body", "messages"], "msg": "bad", "input": "x" * 9999}]}),
        InputError,
        "body.messages: bad$",
        1,
    ),
    "418": (error(418, "teapot"), InputError, "418", 1),
    "no money": (error(429, "pay", code="insufficient_quota"), NoAnswer, "nothing left", 1),
    "402": (error(402, "pay"), NoAnswer, "must be paid", 1),
    "max_tokens": (error(400, "max_tokens is too large: 9", param="max_tokens"), InputError, "too long", 1),
}


@pytest.mark.parametrize("what", WRONG)
def test_every_wrong_answer_is_an_error_in_one_sentence(what):
    answer, kind, match, requests = WRONG[what]
    with SmallServer(lambda body, n: answer) as server:
        found = one(backend(server, attempts=2))
    assert type(found) is kind and len(server.bodies) == requests, found
    assert len(str(found)) < 700 and "\n" not in str(found)
    with pytest.raises(kind, match=match):
        raise found


@pytest.mark.parametrize("silence", [hang, drip])
def test_a_server_that_hangs_is_given_up_after_the_timeout(silence):
    with SmallServer(lambda body, n: silence) as server:
        found = one(backend(server, timeout=0.3, attempts=2))
        assert isinstance(found, NoAnswer) and "within 0.3 s" in str(found) and len(server.bodies) == 2
        server.answer = lambda body, n: silence if n == 2 else said("so")
        assert one(backend(server, timeout=0.5)).text == "so"


@pytest.mark.parametrize("broken", [cut, hang_up])
def test_a_connection_that_breaks_is_made_again(broken):
    with SmallServer(lambda body, n: broken if n < 2 else said("so")) as server:
        assert one(backend(server)).text == "so" and len(server.bodies) == 3
        server.answer = lambda body, n: broken
        found = one(backend(server, patience=0.1))
    assert isinstance(found, NoAnswer) and "cannot be reached" in str(found)


def test_500_twice_then_fine():
    with SmallServer(lambda body, n: error(500, "boom") if n < 2 else said("so")) as server:
        assert one(backend(server)).text == "so" and len(server.bodies) == 3


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again_when_it_says(code):
    busy = error(code, "later", headers={"Retry_After": "0.05"})
    with SmallServer(lambda body, n: busy if n < 4 else said("so")) as server:
        assert one(backend(server, attempts=1)).text == "so" and len(server.bodies) == 5


def test_a_wait_that_the_server_asks_for_holds_up_every_prompt_and_is_not_sat_out_for_ever():
    later = error(429, "slow down", headers={"Retry_After": "3600"})
    with SmallServer(lambda body, n: later) as server:
        found = written(backend(server, concurrency=1), [words("a")])
        assert isinstance(found[0], NoAnswer) and "left alone for 3600 s: raise `patience`" in str(found[0])
        assert len(server.bodies) == 1
    busy = error(429, "slow down", headers={"Retry_After": "0.4"})
    with SmallServer(lambda body, n: busy if n == 0 else said("so")) as server:
        small = backend(server, concurrency=1)
        assert one(small).text == "so" and small._line._closed_until > 0


def test_what_is_given_up_is_not_tried_again_by_the_engine():
    with SmallServer(lambda body, n: error(500, "boom")) as server:
        executor = thinking(backend(server, attempts=2, answers="none"))
        runs = list(executor.map([spatial(task="last", seed=i) for i in range(3)]))
    assert len(server.bodies) == 6  # three samples, twice each
    assert [run.faults[0].kind for run in runs] == ["NoAnswer"] * 3
    assert all(run.output == Text("nothing") for run in runs)


def test_a_server_that_is_away_ends_the_batch_and_not_each_sample_in_turn():
    with held_port() as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        away = OpenAIServer(url, "small", patience=0.2, concurrency=1)
        found = written(away, [words(str(i)) for i in range(50)])
    assert all(isinstance(f, NoAnswer) and "Connection refused" in str(f) for f in found)
    assert len({id(f) for f in found}) == 1


@pytest.mark.parametrize("key", ["sk-odd\x07key", "sk-…", "sk-a\nsk-b"])
def test_a_key_that_is_none_is_refused_and_not_shown(key, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(PluginError, match="the key in OPENAI_API_KEY holds") as told:
        OpenAIServer("http://localhost:8000/v1", "small")
    assert "sk-" not in str(told.value)


def test_an_interrupt_does_not_wait_for_the_server():
    code = (
        "import sys; from primitives.backends.openai_api import OpenAIServer;"
        "from unroller.capabilities import Prompt; from unroller.rendering import TextSegment;"
        "OpenAIServer(sys.argv[1], 'small').generate_text([Prompt((TextSegment('a'),))] * 3, max_tokens=1,"
        " temperature=0, seeds=[0] * 3)"
    )
    with SmallServer(lambda body, n: hang) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", code, server.url], stderr=subprocess.PIPE, text=True
        )
        while len(server.bodies) < 3 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in told and len(server.bodies) == 3


def test_so_does_one_that_is_busy_for_all_but_not_one_that_is_for_some():
    with SmallServer(lambda body, n: error(503, "busy")) as server:
        found = written(backend(server, patience=0.2, concurrency=1), [words(str(i)) for i in range(50)])
        assert len({id(f) for f in found}) == 1 and isinstance(found[0], NoAnswer)

        def answer(body, n):
            return error(503, "busy") if body["messages"][0]["content"] == "0" else said("so")

        server.answer = answer
        found = written(backend(server, patience=1.0, concurrency=2), [words(str(i % 40)) for i in range(80)])
    assert isinstance(found[0], NoAnswer) and all(isinstance(f, Generation) for f in found[1:40])


@pytest.mark.parametrize("key", ["sk-secret-1234", None])
def test_a_key_that_is_not_accepted_names_the_variable_and_never_the_key(key, monkeypatch):
    if key:
        monkeypatch.setenv("OTHER_KEY", key)
    with SmallServer(lambda body, n: error(401, f"Incorrect API key provided: {key}")) as server:
        small = backend(server, key_from="OTHER_KEY", concurrency=1)
        found = written(small, [words("a"), words("b"), words("c")])
        assert len(server.bodies) == 1  # the others would fare no better
        assert small.provides == () and "OTHER_KEY" in small.lacks
    assert {type(f) for f in found} == {MissingCapability} and "set OTHER_KEY" in str(found[0])
    assert ("no key was given" in str(found[0])) == (key is None)
    assert not key or key not in f"{found} {small.lacks} {small.fingerprint} {small!r}"


def test_an_unknown_model_is_told_with_those_there_are():
    with SmallServer(lambda body, n: error(404, "The model `smal` does not exist.")) as server:
        found = one(backend(server, model="smal"))
        assert isinstance(found, MissingCapability) and "no model 'smal' there. It has: small, tall" in str(
            found
        )
        server.models = []
        with pytest.raises(
            MissingCapability, match="openai lacks an answer of its server's .*does not exist"
        ):
            Executor(backend=backend(server, model="smal"), policy=["text_think"])


# ---------------------------------------------------------------------------- settings that are not taken


def openai_refuses(*names):
    """Refuse settings in the words of OpenAI's own servers."""

    def answer(body, n):
        for name in names:
            if name in body:
                told = f"Unsupported parameter: '{name}' is not supported with this model."
                return error(400, told, param=name, code="unsupported_parameter")
        return said("so")

    return answer


def test_a_model_that_takes_max_completion_tokens_only_is_asked_so_from_then_on():
    with SmallServer(openai_refuses("max_tokens", "logprobs")) as server:
        small = backend(server)
        assert one(small).text == one(small).text == "so"
    refused, also_refused, first, second = server.bodies
    assert "max_tokens" in refused and "logprobs" in also_refused
    for body in (first, second):
        assert body["max_completion_tokens"] == 10 and not {"max_tokens", "logprobs"} & set(body)


def test_a_model_without_temperature_or_seed_is_asked_without_and_that_is_said_once():
    with SmallServer(openai_refuses("temperature", "seed")) as server:
        small = backend(server)
        with pytest.warns(UserWarning, match="small takes no") as told:
            assert [g.text for g in written(small, [words("a"), words("b")])] == ["so", "so"]
        one(small)
    assert sorted(str(w.message).partition(":")[0] for w in told) == [
        "small takes no seed",
        "small takes no temperature",
    ]


def test_refusals_of_other_servers_are_understood_too():
    forbidden = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}
    no_probabilities = "You are not allowed to request logprobs from this model"

    def answer(body, n):
        if "seed" in body:
            return status(422, {"detail": [forbidden]})
        return error(403, no_probabilities) if "logprobs" in body else said("so")

    with SmallServer(answer) as server, pytest.warns(UserWarning, match="seed"):
        assert one(backend(server)).text == "so"


def test_a_model_without_any_limit_on_tokens_is_not_asked():
    with SmallServer(openai_refuses("max_tokens", "max_completion_tokens")) as server:
        found = one(backend(server))
    assert isinstance(found, InputError) and "max_completion_tokens" in str(found)


# ----------------------------------------------------------------------------------------------- answers


LETTERS = {"A": math.log(0.5), " B": math.log(0.2), "(B": math.log(0.1), "C": math.log(0.1), "The": -2.0}


def test_choices_are_scored_by_the_letter_a_reply_begins_with():
    reply = said("A", read=1000, written=1, tokens=[("A", math.log(0.5), LETTERS)])
    with SmallServer(lambda body, n: reply) as server:
        small = backend(server, prices=(1.0, 0.0))
        assert small.provides == (AnswerScorer, TextGenerator) and len(server.bodies) == 1
        choices = ("left", "<campose>", "behind it")
        (p,) = small.score_answers([asked(told="Answer with one of these.")], [choices])
        run = Executor(backend=small, policy=[]).run(spatial())
    assert list(p) == pytest.approx([0.5 / 0.9, 0.3 / 0.9, 0.1 / 0.9])  # C is no choice's where there are two
    assert p.price == pytest.approx(0.001)
    body = server.bodies[1]
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)
    told = body["messages"][0]["content"][-1]["text"]
    assert told.endswith("letter of your answer:\nA. left\nB. &lt;campose>\nC. behind it")
    assert run.output.text == "left" and run.output.probabilities == pytest.approx((0.625, 0.375))
    assert run.cost == Cost(1, 0, pytest.approx(0.001))


def test_a_model_that_begins_with_no_letter_says_with_what():
    reply = said("<think>", tokens=[("<think>", -0.1, {"<think>": -0.1, "a": -3.0, "D": -4.0})])
    with SmallServer(lambda body, n: reply) as server:
        (found,) = backend(server).score_answers([words("w")], [("x", "y")])
    assert isinstance(found, InputError) and "one of ['<think>', 'a', 'D']" in str(found)


def test_bad_choices_and_missing_probabilities_fail_alone():
    with SmallServer(lambda body, n: said("A")) as server:
        small = backend(server, answers="letters")
        found = small.score_answers([words("w")] * 3, [(), tuple(map(str, range(27))), ("x", "y")])
    for outcome, match in zip(found, ("no choices", "27 choices", "no log-probabilities"), strict=True):
        assert isinstance(outcome, InputError) and match in str(outcome)


def test_a_server_that_gives_fewer_tokens_than_asked_for_is_asked_for_fewer():
    def answer(body, n):
        if body.get("top_logprobs", 0) > 5:
            return error(400, "Requested sample top_logprobs of 20, which is greater than max allowed: 5")
        return said("A", tokens=[("A", -0.1, {"A": -0.1, "B": -9999.0})])

    with SmallServer(answer) as server:
        small = backend(server)
        assert AnswerScorer in small.provides
        assert list(small.score_answers([words("w")], [("x", "y")])[0]) == [1.0, 0.0]
    assert [body["top_logprobs"] for body in server.bodies] == [20, 5, 5]


@pytest.mark.parametrize(
    ("reply", "choices", "named"),
    [
        ("left", ("left", "right"), 0),
        ("**Right.**", ("left", "right"), 1),
        ("The answer is: left of it", ("left", "left of it"), 1),
        ("2.5 m", ("2 m", "2.5 m", "5 m"), 1),
        ("-1", ("1", "-1"), 1),
        ("left or right", ("left", "right"), None),
        ("leftmost", ("left", "right"), None),
        ("", ("left", "right"), None),
    ],
)
def test_a_written_answer_is_the_one_choice_it_names(reply, choices, named):
    if named is None:
        with pytest.raises(InputError, match="names (none|several) of the choices"):
            by_words(reply, choices)
    else:
        assert by_words(reply, choices) == [float(i == named) for i in range(len(choices))]


# ----------------------------------------------------------------------------------------------- settings


def test_importing_it_and_making_it_loads_nothing_heavy():
    code = (
        "import sys, primitives.backends.openai_api as m; m.OpenAIServer('http://x/v1', 'm').fingerprint;"
        "print(sorted({'torch', 'transformers', 'openai', 'PIL.Image'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_client_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    small = OpenAIServer("http://127.0.0.1:9/v1", "small")
    with pytest.raises(MissingCapability, match=r"needs openai .*: pip install 'unroller\[openai\]'"):
        one(small)
    assert small.provides == () and "pip install" in small.lacks


def test_without_an_address_or_a_model_it_provides_nothing_and_says_why():
    assert OpenAIServer.provides == () == OpenAIServer().provides
    assert "UNROLLER_OPENAI_BASE_URL" in OpenAIServer().lacks
    assert "UNROLLER_OPENAI_MODEL" in OpenAIServer("http://localhost:8000/v1").lacks
    assert OpenAIServer().fingerprint == "openai-none"
    with pytest.raises(
        MissingCapability, match="openai lacks a server's address in UNROLLER_OPENAI_BASE_URL"
    ):
        Executor(backend="openai", policy=["text_think"])
    with pytest.raises(MissingCapability, match="UNROLLER_OPENAI_MODEL"):
        one(OpenAIServer("http://localhost:8000/v1"))


def test_the_environment_names_everything_for_the_command_line(monkeypatch):
    with SmallServer(lambda body, n: said("left", read=100, written=2)) as server:
        settings = {"BASE_URL": server.url, "MODEL": "small", "PRICES": "2.5, 10", "ANSWERS": "written"}
        for name, value in (settings | {"EXTRA": '{"top_k": 1}'}).items():
            monkeypatch.setenv(f"UNROLLER_OPENAI_{name}", value)
        monkeypatch.setenv("OPENAI_API_KEY", "k-2")
        run = Executor(backend="openai", policy=["text_think"]).run(spatial())
    assert run.output.text == "left" and run.cost == Cost(2, 2, pytest.approx(2 * (250 + 20) / 1e6))
    assert server.bodies[0]["top_k"] == 1 and server.headers[0]["Authorization"] == "Bearer k-2"


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "localhost:8000"},
        {"base_url": "http://"},
        {"base_url": "http://127.0.0.1:99999/v1"},
        {"base_url": "http://[::1/v1"},
        {"answers": "guess"},
        {"prices": (-1.0, 2.0)},
        {"prices": (math.nan, 2.0)},
        {"prices": (1.0,)},
        {"concurrency": 0},
        {"attempts": 0},
        {"timeout": 0},
        {"timeout": math.nan},
        {"patience": -1},
        {"jpeg_quality": 0},
        {"extra": {"stream": True}},
        {"extra": {"x": object()}},
        {"extra": {"x": math.nan}},
    ],
)
def test_settings_that_are_none_are_refused(wrong):
    with pytest.raises(PluginError):
        OpenAIServer(**{"base_url": "http://x/v1", "model": "m"} | wrong)


@pytest.mark.parametrize(("name", "value"), [("PRICES", "cheap"), ("PRICES", "1,2,3"), ("EXTRA", "[1]")])
def test_so_are_those_of_the_environment(name, value, monkeypatch):
    monkeypatch.setenv(f"UNROLLER_OPENAI_{name}", value)
    with pytest.raises(PluginError, match=f"UNROLLER_OPENAI_{name}"):
        OpenAIServer()


def test_the_fingerprint_is_of_what_changes_results():
    def print_of(url="http://x/v1", model="m", **settings):
        return OpenAIServer(url, model, **settings).fingerprint

    same = [{}, {"api_key": "k"}, {"concurrency": 2}, {"timeout": 9.0}, {"prices": (1.0, 2.0)}]
    assert len({print_of(**settings) for settings in same} | {print_of("http://me:pass@x/v1/")}) == 1
    others = [{"model": "n"}, {"url": "http://y/v1"}, {"answers": "written"}, {"extra": {"top_k": 1}}]
    others += [{"jpeg_quality": 90}, {"revision": "2"}, {"answer_tokens": 8}]
    assert len({print_of(**settings) for settings in (*others, {})}) == len(others) + 1


def test_waits_that_servers_ask_for():
    ahead = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    assert asked_to_wait({"retry-after": "7"}) == 7 and asked_to_wait({"retry-after-ms": "1500"}) == 1.5
    assert asked_to_wait({"retry-after": ahead}) == pytest.approx(100, abs=5)
    assert asked_to_wait({"retry-after": "-3"}) == 0
    assert {asked_to_wait({"retry-after": odd}) for odd in ("soon", "nan", "inf", "")} == {None}
    assert asked_to_wait({}) is None


# ------------------------------------------------------------------------------------------------- oracle


def test_a_better_model_writes_the_oracles_text_for_another_that_answers():
    reply = said("B", tokens=[("B", -0.1, {"B": -0.1, "A": -3.0})])
    with (
        SmallServer(lambda body, n: said("it is on the right")) as large,
        SmallServer(lambda b, n: reply) as small,
    ):
        oracle = oracle_from(backend(large, model="large", answers="none", prices=(5.0, 0.0)))
        executor = Executor(backend=backend(small), policy=[])
        run = executor.extend(primitives=[oracle], policy=["oracle_text"]).run(spatial())
    assert run.entries[0].value == Text("it is on the right", kind="think")
    assert run.output.text == "right" and run.cost == Cost(2, 2, pytest.approx(10 * 5e-6))
    assert "<think>it is on the right</think>" in json.dumps(small.bodies[-1]["messages"])
    with pytest.raises(MissingCapability, match="writes no text: it lacks"):
        oracle_from(OpenAIServer())
