"""Chat templates as published models have them, and as bad: what a template leaves out is an error, never
silence. All of them over one tiny Llava: a template is a text file beside any model."""

import json

import numpy as np
import pytest
from tiny.chat_models import LLAVA_TURNS, llava, saved

from primitives.answers import spatial
from primitives.backends.hf_vlm import HFVLM
from primitives.thinking import text_think
from unroller import Executor, Problem
from unroller.capabilities import Prompt
from unroller.faults import InputError, PluginError
from unroller.rendering import ImageSegment, TextSegment

CONTENT = (
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' or 'image_url' in c %}<image>\n{% elif 'text' in c %}{{ c['text'] }}"
    "{% endif %}"
    "{% endfor %}{% endif %}"
)
REPLY = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

QWEN = (  # a system turn of its own, tools before it, content that is a text or a list
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n" + CONTENT + "<|im_end|>\n{% endfor %}" + REPLY
)
GEMMA = (  # the system prompt goes before the first words of the user, and turns have to alternate
    "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'][0]['text'] + '\n\n' %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set first = '' %}{% set loop_messages = messages %}"
    "{% endif %}{% for m in loop_messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}<|im_start|>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ first if loop.first else '' }}" + CONTENT + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
SILENT = (  # the system prompt is left out, and nothing said
    "{% for m in messages %}{% if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n"
    + CONTENT
    + "<|im_end|>\n{% endif %}{% endfor %}"
    + REPLY
)
REFUSING = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + SILENT
)
OF_TEXT = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
SHORT = LLAVA_TURNS.replace("{{ c['text'] }}", "{{ c['text'][:4] }}")
BROKEN = "{% for m in messages %}{{ m['content'] }"

SYSTEM = "You are a careful observer."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("llava"), llava())


@pytest.fixture
def chat_of(folder):
    """The backend's chat with another template."""
    backend = HFVLM(folder, device="cpu", dtype="float32")
    backend.load()

    def having(template):
        backend.reader.chat.processor.chat_template = template
        return backend

    return having


def asked(system="", instruction="Think step by step."):
    photos = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), np.uint8)
    shown = [ImageSegment(pixels, f"photo {i + 1}") for i, pixels in enumerate(photos)]
    return Prompt((*shown, TextSegment("where is the red cone")), instruction, system)


def written(backend, prompt):
    (one,) = backend.generate_text([prompt], max_tokens=4, temperature=0.0, seeds=[1])
    return one


@pytest.mark.parametrize(("template", "reads"), [(QWEN, "system\nYou are"), (GEMMA, "user\nYou are")])
def test_a_system_prompt_stands_where_the_template_puts_it(template, reads, chat_of):
    backend = chat_of(template)
    assert written(backend, asked(SYSTEM)).tokens
    chat = backend.reader.chat
    said = chat.decode(chat.read(asked(SYSTEM), 0).tokens)
    assert reads in said and said.count(SYSTEM) == 1
    assert said.index(SYSTEM) < said.index("photo 1:") < said.index("where is the red cone")
    assert len(chat.read(asked(), 0)) < len(chat.read(asked(SYSTEM), 0))


@pytest.mark.parametrize("template", [SILENT, REFUSING])
@pytest.mark.parametrize("system", [SYSTEM, "Think step by step."])  # which the instruction says as well
def test_a_template_that_carries_no_system_prompt_is_an_error(template, system, chat_of):
    refused = written(chat_of(template), asked(system))
    assert isinstance(refused, InputError) and "carries no system prompt" in str(refused)
    assert written(chat_of(template), asked()).tokens


@pytest.mark.parametrize("template", [OF_TEXT, SHORT, BROKEN])
@pytest.mark.parametrize("photos", [True, False])
def test_a_template_that_loses_part_of_the_prompt_is_an_error(template, photos, chat_of):
    prompt = asked() if photos else Prompt((TextSegment("where"),), "Think.")
    with pytest.raises(PluginError, match="chat template of .* (leaves out part|cannot be used)"):
        written(chat_of(template), prompt)


def test_words_that_look_like_a_list_are_only_words(chat_of):
    prompt = Prompt((TextSegment("what is {'type': 'text'} in Python"),), "Answer.")
    assert written(chat_of(QWEN), prompt).tokens


def test_a_run_says_what_is_wrong_with_the_template(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "chat_template.jinja").write_text(OF_TEXT)
    backend = HFVLM(tmp_path, device="cpu")
    x = Problem.spatial(*np.zeros((2, 24, 32, 3), np.uint8), question="Where?", choices=["left", "right"])
    with pytest.warns(UserWarning, match="cannot go on from what it has read"):
        run = Executor(
            backend=backend, primitives=[text_think], decoders=[spatial], policy=["text_think"]
        ).run(x)
    assert run.output is None and {fault.action for fault in run.faults} == {"text_think", "spatial"}
    assert all("leaves out part of the prompt" in fault.message for fault in run.faults)
    json.dumps(run.to_dict())
