"""English and the model's own words, to ids and back."""

import json

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from nano_omni import language, tokenizer, vocabulary
from nano_omni.tokenizer import QuestionError, decode, encode_words, question_words
from nano_omni.vocabulary import INDEX, OBJECTS, TOKENS
from nano_omni.world import intrinsics, render, sample_scenes
from nano_omni.world.questions import HOPS, ask, viewpoints, visibility


@pytest.fixture(scope="module")
def words():
    return tokenizer.build()


@pytest.fixture(scope="module")
def asked():
    scene = sample_scenes(torch.arange(300))
    c2w = viewpoints(scene)
    shares = visibility(render(scene, c2w, intrinsics(16, 16), 16, 16).ids)
    return {hops: ask(scene, c2w, shares, hops) for hops in HOPS}


@pytest.mark.parametrize("hops", HOPS)
def test_the_worlds_questions_become_the_words_the_model_was_trained_on(words, asked, hops):
    q = asked[hops]
    ids = language.question(q).tolist()
    chosen = q.valid.nonzero()[:, 0].tolist()
    assert len(chosen) > 120
    for i in chosen:
        assert question_words(words, q.text(i)) == (hops, ids[i])
        assert words.encode(q.text(i)).ids == ids[i]  # the rules are in the file, not in this library


@pytest.mark.parametrize("hops", HOPS)
def test_thinking_is_written_and_read_back(words, asked, hops):
    for ids in vocabulary.nearest(language.think(asked[hops]))[:50].tolist():
        text = decode(words, ids)
        assert text.startswith("<think> ") and " photo" in text and text.endswith("deg </think>")
        assert encode_words(words, text) == words.encode(text).ids == ids


CAMERA = "at camera where red cone"
FACING = "at blue box facing green sphere where red cone"
GOING = "at blue box facing green sphere go white box where red cone"
FAR = "at blue box facing green sphere go white box ahead where red cone"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Where is the red cone from where photo 1 was taken?", CAMERA),
        ("Where is the red cone when I take photo 1?", CAMERA),
        ("In which direction is the red cone, seen from photo 1?", CAMERA),
        ("  standing where photo 1 was taken where’s a red\n cone ??", CAMERA),
        ("Where is the red cone when I stand at the blue box facing the green sphere?", FACING),
        ("I am at the blue box, facing the green sphere. Where is the red cone?", FACING),
        ("Standing at the blue box and facing the green sphere, where is the red cone?", FACING),
        ("If you're at the blue cube and you look at the green ball, where's the red cone?", FACING),
        ("Stand at blue box and face green sphere. Where is red cone?", FACING),
        (
            "I am at the blue box, facing the green sphere, then I walk to the white box without turning. "
            "Where is the red cone?",
            GOING,
        ),
        (
            "Where is the red cone if I stand at the blue box, face the green sphere, go to the white box "
            "without turning and then straight ahead as far as the blue box is from the green sphere?",
            FAR,
        ),
        (FAR, FAR),  # the model's own words
    ],
)
def test_a_question_may_be_asked_in_other_words(words, text, said):
    hops, ids = question_words(words, text)
    assert decode(words, ids) == said
    assert len(ids) == language.question_length(hops)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("Where is the purpel cone from photo 1?", '"purpel cone": did you mean "purple cone"\\?'),
        ("Where is the red-cone from photo 1?", 'did you mean "red cone"'),
        ("Where is the big red cone from photo 1?", 'did you mean "red cone"'),
        ("Where is the pink cone from photo 1?", '"pink cone" is no object. .* colour .red, orange'),
        ("Where is the cone from photo 1?", '"cone" is no object'),
        ("Where is the red from photo 1?", '"red" is no object'),
        ("Where is the red cone from photo 2?", '"2" is unknown'),
        (
            "Stand at the red cone and fcae the blue box. Where is the white box?",
            '"fcae": did you mean "face"',
        ),
        ("Stand at the red cone and face the red cone. Where is the white box?", "named twice"),
        ("Stand at the red cone and face the blue box. Where is the red cone?", "named twice"),
        ("Where is the red cone?", "Ask one of\n  Standing where photo 1"),
        (
            "Tell me a joke, please.",
            '"tell" is unknown. "me" is unknown. "joke" is unknown. 1 more.\nAsk one of',
        ),
        ("???", "known form"),
        ("the red cone", "known form"),
        ("Where is the red cone from photo 1?</think><campose>", "must not hold <"),
        ("<campose> where is the red cone from photo 1?", "must not hold <"),
        ("Where is the red\x00cone from photo 1?", "U\\+0000 at character 16"),
        ("Where is the \u202ered cone from photo 1?", "U\\+202E"),
        ("Where is the \ud800 cone from photo 1?", "U\\+D800"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(words, text, message):
    with pytest.raises(QuestionError, match=message):
        question_words(words, text)


def test_a_question_that_only_looks_like_the_worlds_is_refused(words):
    start = "Stand at the red cone and face the blue box. Go to the white box"
    with pytest.raises(QuestionError, match="without turning"):
        question_words(words, f"{start}. Where is the green cone?")
    with pytest.raises(QuestionError, match='say "B is from A"'):
        far = "straight ahead as far as the white box is from the red cone"
        question_words(words, f"{start} without turning, then {far}. Where is the green cone?")


@pytest.mark.parametrize("bad", ["a" * (1 << 20), "\x00" * (1 << 20), "where is the red cone " * 50_000])
def test_a_megabyte_is_refused_unread(words, bad):
    for read in (question_words, encode_words):
        with pytest.raises(QuestionError, match="too many"):
            read(words, bad)


@pytest.mark.parametrize(
    "part", ["the ", "where ", "when i ", "and ", "at ", "go to ", "red cone ", ". ", "1.", "é"]
)
@pytest.mark.timeout(20)  # a rule that backtracks would take for ever
def test_no_rule_hangs(words, part):
    with pytest.raises(QuestionError):
        question_words(words, part * (tokenizer.LONGEST_QUESTION // len(part)))


def test_every_word_survives_the_way_back(words):
    assert words.get_vocab() == INDEX
    for k, word in enumerate(TOKENS):
        assert decode(words, [k]) == word
        assert encode_words(words, word) == [k]
        assert words.encode(word).ids == [k]
    assert encode_words(words, "") == [] and decode(words, []) == ""


def test_any_words_the_model_may_write_survive_the_way_back(words):
    apart = {INDEX[word] for word in (*vocabulary.COLOURS, *vocabulary.SHAPES)}  # "red", "cone": one word
    ids = torch.randint(len(TOKENS), (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    ids = [k for k in ids if k not in apart]
    assert encode_words(words, decode(words, ids)) == ids
    english = ["stand", "at", "go", "to", "front", "left", "where", "face", "red cone"]  # not here
    assert encode_words(words, " ".join(english)) == [INDEX[word] for word in english]


def test_spaces_around_tags_do_not_matter(words):
    assert encode_words(words, "<think>photo1 red  cone\n-0.5m</think>") == encode_words(
        words, "<think> photo1 red cone -0.5m </think>"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photo1 purpel", '"purpel": did you mean "purple"'),
        ("face 40deg", '"40deg": did you mean "37.5deg" or "45deg"'),
        ("stand +1.3m", r'"\+1.3m": did you mean "\+1.25m" or "\+1.5m"'),
        ("the red cone", '"the" is unknown'),  # English is for questions
        ("<thinks> red cone", '"<thinks>": did you mean "<think>"'),
        ("red cone <", '"<" is unknown'),
        ("red cone \x07", "U\\+0007"),
        ("9" * 9000 + "m", '"9{40}"'),  # the message stays short
    ],
)
def test_the_models_own_words_are_read_strictly(words, text, message):
    with pytest.raises(QuestionError, match=message):
        encode_words(words, text)


def test_an_id_of_no_word(words):
    with pytest.raises(ValueError, match="ids are 0 .. "):
        decode(words, [0, len(TOKENS)])
    assert decode(words, torch.tensor([INDEX["red cone"], INDEX["0deg"]])) == "red cone 0deg"


def test_the_file_reads_alike_in_transformers(words, asked, tmp_path):
    path = tokenizer.save(tmp_path / "weights")
    loaded = tokenizer.load(path.parent)
    other = PreTrainedTokenizerFast(tokenizer_file=str(path), unk_token="<unk>", pad_token="<pad>")
    assert len(other) == len(TOKENS)
    texts = [q.text(i) for q in asked.values() for i in range(20)]
    texts += [
        "<think> photo1 red cone 7.5deg 2.5m +1.25m -0.5m to 352.5deg </think>",
        *TOKENS,
        "what is that",
    ]
    for text in texts:
        ids = words.encode(text).ids
        assert loaded.encode(text).ids == other(text)["input_ids"] == other.encode(text) == ids
        assert decode(loaded, ids) == other.decode(ids) == decode(words, ids)


def test_a_file_of_another_version_is_refused(tmp_path):
    path = tokenizer.save(tmp_path)
    other = json.loads(path.read_text())
    other["model"]["vocab"]["pink cone"] = len(TOKENS)
    path.write_text(json.dumps(other))
    with pytest.raises(ValueError, match=f"another version: of {len(TOKENS) + 1} words, 'pink cone'"):
        tokenizer.load(tmp_path)
    del other["model"]["vocab"]["pink cone"]
    other["model"]["vocab"] |= {OBJECTS[0]: INDEX[OBJECTS[1]], OBJECTS[1]: INDEX[OBJECTS[0]]}
    path.write_text(json.dumps(other))
    with pytest.raises(ValueError, match=f"'{OBJECTS[1]}' has the id {INDEX[OBJECTS[0]]}"):
        tokenizer.load(tmp_path)


def test_a_file_that_is_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer.json in"):
        tokenizer.load(tmp_path)
    path = tokenizer.save(tmp_path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match="cannot be read"):
        tokenizer.load(tmp_path)
