"""English and the model's own words to token ids and back: a plain `tokenizer.json` beside the weights.

The words are those of `vocabulary`, one id each. What turns English into them is in the file too, as rules
of its normalizer, so other loaders (`transformers.PreTrainedTokenizerFast`) read the world's questions
alike. What comes from a user goes through `question_words`, which refuses what the model was never asked;
the model's own contexts go through `encode_words`, to which the rules of English do not apply.

Departs from text tokenizers: nothing is guessed from pieces of words. An unknown word is an error that
names the nearest known ones. Tags are words like any other, not special tokens of the library, so that
decoding never drops them; a user's text that holds one is refused.
"""

import difflib
import itertools
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase, Replace, Sequence, Strip
from tokenizers.pre_tokenizers import Split

from .language import TEMPLATES
from .vocabulary import INDEX, NUMBERS, OBJECTS, TOKENS
from .world.questions import Form
from .world.scene import COLOURS, SHAPES

FILE = "tokenizer.json"
FORMS = (  # in the order of world.questions.FORMS
    "Standing where photo 1 was taken, where is A?",
    "Stand at A and face B. Where is C?",
    "Stand at A and face B. Go to C without turning. Where is D?",
    "Stand at A and face B. Go to C without turning, then straight ahead as far as B is from A. Where is D?",
    "How many spheres do the two photos show?",
    "Which is nearer to A: B or C?",
)
LONGEST_QUESTION = 600  # characters
LONGEST_CONTEXT = 50_000  # 4,096 words, the most that thinking at length may have, and some

# English -> the model's words, lower-cased, one rule after the other. A rule cannot move what it finds:
# "where is C" may come first, see `question_words`.
_RULES = (
    (r"’", "'"),
    (r"[,;:?!]|\.(?!\d)", " "),  # not the point of a number
    (r"\b(?:the|an?)\s", " "),
    (r"\s+", " "),
    (r"\bboxes\b", "box"),
    (r"\b(?:sphere|ball|cube|cylinder|cone)\Ks\b", ""),
    (r"\bball\b", "sphere"),
    (r"\bcube\b", "box"),
    # camera 1
    (r"(?:\b(?:standing|from) )*\bwhere photo ?1 was taken\b", "at camera"),
    (r"\b(?:when|as) i (?:take|took) photo ?1\b|\b(?:as )?(?:seen )?from photo ?1\b", "at camera"),
    # at A facing B
    (r"\bwhere(?:'s| is)\b|\bin (?:which|what) direction is\b", "where"),
    (r"(?:\b(?:when|if|i am|i'm|i|you are|you're|you|stand|standing) )*\bat\b", "at"),
    (r"(?:\b(?:and|while|am|are|i|you) )*\b(?:face|facing|look at|looking at)\b(?= [a-z])", "facing"),
    # go C [ahead]: one who goes and turns is asked something else, so "without turning" must be said
    (r"(?:\b(?:and|then|i|you) )*\b(?:go|walk) to\b", "go to"),
    (r"\bgo to\b(?= (?:\S+ ){1,3}without turning\b)", "go"),
    (r"\bwithout turning ?\b", ""),
    (  # as far as B is from A, and as no other two; \K: what is before it stays
        r"\bat (\S+ \S+) facing (\S+ \S+) go \S+ \S+ "
        r"\K(?:and )?then (?:go )?straight ahead as far as (?:\2 is from \1|\1 is from \2)(?!\S)",
        "ahead",
    ),
    # count spheres
    (r"\bhow many\b", "count"),
    (
        r"\b(?:are (?:there|shown|seen)|(?:can|do) (?:you|we) see|do (?:(?:two|both|three) )?photos show)\b"
        r"(?: in (?:all|total|(?:(?:two|both|three) )?photos)\b)?",
        "",
    ),
    # near A B C
    (r"\bwhich (?:one |object )?is (?:nearer|closer) to\b", "near"),
    (r"\bor\b", ""),
)
# Tags, objects, everything else between spaces.
_PIECE = rf"<[^<>\s]*>|(?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})(?![^\s<])|[^\s<>]+|[<>]"
_NUMBER = re.compile(r"([+-]?)([0-9.]*[0-9])(deg|m)")
_FRAME = {part for template in TEMPLATES.values() for part in template if isinstance(part, str)}
_ENGLISH = {  # words that may stand in a question, so that others can be pointed at
    *re.findall("[a-z]+", re.sub(r"\\.", " ", " ".join([*FORMS, *(found for found, _ in _RULES)]).lower())),
    *(*COLOURS, *SHAPES, *OBJECTS, "1"),
}


class QuestionError(ValueError):
    """A text that the model cannot read. The message says why and what to write instead."""


def build() -> Tokenizer:
    """The tokenizer of the present vocabulary."""
    tokenizer = Tokenizer(WordLevel(dict(INDEX), unk_token="<unk>"))
    rules = [Replace(Regex(found), written) for found, written in _RULES]
    tokenizer.normalizer = Sequence([Lowercase(), *rules, Strip()])
    tokenizer.pre_tokenizer = Split(Regex(_PIECE), "removed", invert=True)
    return tokenizer  # without a decoder: words are joined by single spaces


def save(folder: Path) -> Path:
    """Write `tokenizer.json` of the present vocabulary into `folder`; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    build().save(str(folder / FILE))
    return folder / FILE


def load(folder: Path) -> Tokenizer:
    """Raises FileNotFoundError, and ValueError for a file that is damaged or of another vocabulary; one that
    ends before the newest words of the present one is read."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {FILE} in {folder}: write one with nano_omni.tokenizer.save(folder)")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no type of its own
        raise ValueError(f"{path} cannot be read as a tokenizer: {error}") from error
    found = tokenizer.get_vocab()
    if found != {word: INDEX[word] for word in TOKENS[: len(found)]}:  # an older one lacks the newest words
        other = min(found.items() ^ INDEX.items())[0]
        raise ValueError(
            f"{path} is of another version: of {len(found)} words, {other!r} has the id {found.get(other)}; "
            f"in the present vocabulary of {len(INDEX)} it has {INDEX.get(other)}. Read it with the version "
            "of nano_omni that trained the weights beside it."
        )
    return tokenizer


def question_words(tokenizer: Tokenizer, text: str) -> tuple[Form, list[int]]:
    """An English question -> its form and its ids, those of `language.question`.

    Raises QuestionError for text that is too long, holds tags or control characters, is of none of the
    FORMS or names what is no object.
    """
    form, words = _question(tokenizer, text)
    return form, list(words)


@lru_cache(maxsize=4096)  # the same question is read again with every context
def _question(tokenizer: Tokenizer, text: str) -> tuple[Form, tuple[int, ...]]:
    _check(text, LONGEST_QUESTION)
    if not text.strip():
        raise QuestionError(f"the question is empty.\n{_forms()}")
    if "<" in text or ">" in text:
        raise QuestionError("a question must not hold < or >: tags are the model's own. Leave them out.")
    said = _pieces(tokenizer, _plain(tokenizer, text))
    if said[:1] == ["where"] and "at" in said:  # asked first, the place afterwards
        place = said.index("at")
        said = said[place:] + said[:place]
    if said[:1] == ["count"] and len(said) > 1:
        if said[1:] not in [[shape] for shape in SHAPES]:
            raise QuestionError(f'"{" ".join(said[1:])}" cannot be counted: {", ".join(SHAPES)} can.')
        return "count", tuple(INDEX[word] for word in said)
    frame: list[str | int] = []
    names: list[str] = []
    for before, word in itertools.pairwise(["", *said]):
        if word in _FRAME:
            frame.append(word)
        elif before and before not in _FRAME and before not in OBJECTS:
            names[-1] += f" {word}"  # of a name that is not known, to be complained of as a whole
        else:
            frame.append(len(names))
            names.append(word)
    form = next((form for form, template in TEMPLATES.items() if template == tuple(frame)), None)
    if form is None or "go to" in " ".join(said):
        raise QuestionError(_no_form(said))
    for name in names:
        if name not in OBJECTS:
            raise QuestionError(_no_object(name))
        if names.count(name) > 1:
            raise QuestionError(f'"{name}" is named twice: the objects of a question must all differ.')
    return form, tuple(INDEX[part if isinstance(part, str) else names[part]] for part in frame)


def encode_words(tokenizer: Tokenizer, text: str) -> list[int]:
    """Text in the model's own words, tags included -> ids. Raises QuestionError for any other word.

    The inverse of `decode`, but for a colour followed by a shape, which are read as the one word they are
    everywhere in `language`. Not for a user's text: tags become tags.
    """
    return list(_encoded(tokenizer, text))


@lru_cache(maxsize=4096)  # as often as a context is read on
def _encoded(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    _check(text, LONGEST_CONTEXT)
    said = _pieces(tokenizer, " ".join(text.split()))
    unknown = [word for word in said if word not in INDEX]
    if unknown:
        raise QuestionError(f"not in the model's own words: {_near(unknown, TOKENS)}")
    return tuple(INDEX[word] for word in said)


def decode(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """Words with single spaces between them. Raises ValueError for an id that is no word."""
    ids = [int(k) for k in ids]
    wrong = next((k for k in ids if not 0 <= k < len(TOKENS)), None)
    if wrong is not None:
        raise ValueError(f"{wrong} is the id of no word: ids are 0 .. {len(TOKENS) - 1}")
    return tokenizer.decode(ids, skip_special_tokens=False)


def _plain(tokenizer: Tokenizer, text: str) -> str:
    return text if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(text)


def _pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    splitter = tokenizer.pre_tokenizer
    return [text] if splitter is None else [word for word, _ in splitter.pre_tokenize_str(text)]


def _check(text: str, longest: int) -> None:
    if len(text) > longest:  # first: whatever follows reads all of it
        raise QuestionError(f"{len(text):,} characters are too many: write at most {longest:,}.")
    for place, character in enumerate(text):  # control, format, surrogate, private, unassigned
        if unicodedata.category(character)[0] == "C" and character not in "\t\n\r":
            raise QuestionError(
                f"U+{ord(character):04X} at character {place} is not read: write letters, digits, spaces and "
                "punctuation only."
            )


def _forms() -> str:
    return "\n".join(["Ask one of", *(f"  {form}" for form in FORMS), 'with objects such as "the red cone".'])


def _near(unknown: Iterable[str], known: Iterable[str], most: int = 3) -> str:
    """The first few of the unknown words, each with the known ones nearest to it."""
    unknown, known = list(dict.fromkeys(word[:40] for word in unknown)), list(known)
    hints = []
    for word in unknown[:most]:
        near = _near_numbers(word) or difflib.get_close_matches(word, known, n=2, cutoff=0.7)
        hints.append(f'"{word}"' + (f": did you mean {_either(near)}?" if near else " is unknown."))
    return " ".join(hints) + (f" {len(unknown) - most} more." if len(unknown) > most else "")


def _near_numbers(word: str) -> list[str]:
    number = _NUMBER.fullmatch(word)
    if number is None or number[2].count(".") > 1:
        return []
    family = [
        m for m in map(_NUMBER.fullmatch, TOKENS) if m and (m[1] > "", m[3]) == (number[1] > "", number[3])
    ]
    family.sort(key=lambda m: abs(float(m[1] + m[2]) - float(number[1] + number[2])))
    return [m[0] for m in family[:2]]


def _either(words: Iterable[str]) -> str:
    return " or ".join(f'"{word}"' for word in words)


def _no_form(said: list[str]) -> str:
    phrase = " ".join(said)
    known = {*INDEX, *_ENGLISH} - {*NUMBERS} | {"1"}
    unknown = [word for word in said if word not in known]
    why = ""
    if unknown:
        why = f"\n{_near(unknown, sorted(_ENGLISH))}"
    elif "as far as" in phrase:
        why = '\nAfter "as far as" say "B is from A": where one stood is A, what one faced is B.'
    elif "go to" in phrase:
        why = '\nAfter "go to C" say "without turning": nothing else was asked of the model.'
    return f"this is no question of a known form.{why}\n{_forms()}"


def _no_object(name: str) -> str:
    words, near = name.split(), []
    if len(words) == 2:  # each by itself: as a whole, "pink cone" is near any cone
        colour, shape = (
            difflib.get_close_matches(word, known, n=1)
            for word, known in zip(words, (COLOURS, SHAPES), strict=True)
        )
        near = [f"{a} {b}" for a in colour for b in shape]
    elif name not in INDEX:
        near = difflib.get_close_matches(name, OBJECTS, n=1, cutoff=0.75)
    hint = f": did you mean {_either(near)}?" if near else " is no object."
    return f'"{name}"{hint} An object is a colour ({", ".join(COLOURS)}) and a shape ({", ".join(SHAPES)}).'
