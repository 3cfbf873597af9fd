"""PAN-X (WikiANN): named entities, as text `tag: tokens` -> `PER: rick $$ LOC: paris`.

Format and metric of the mT5 release (multilingual_t5 `preprocessors.wikiann`, `metrics.span_f1`);
data of Pan et al. 2017 in the splits of Rahimi et al. 2019.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqio_tasks import data_files, languages, metrics, strict_metrics
from seqio_tasks.data_files import XTREME_SPLITS
from seqio_tasks.errors import RequestError
from seqio_tasks.records import XTREME_R, Example, Family, Format, Scoring, Source

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
SEPARATOR = " $$ "  # between the entities of a target
# the 48 languages of XTREME-R's WikiANN
# fmt: off
LANGUAGES = (
    "af", "ar", "az", "bg", "bn", "de", "el", "en", "es", "et", "eu", "fa", "fi", "fr", "gu",
    "he", "hi", "hu", "id", "it", "ja", "jv", "ka", "kk", "ko", "lt", "ml", "mr", "ms", "my",
    "nl", "pa", "pl", "pt", "qu", "ro", "ru", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur",
    "vi", "yo", "zh",
)
# fmt: on
# Training sentences of the smallest languages in the splits of Rahimi et al.; counted for sw and
# te, written from memory for the others. All other languages have at least 5,000.
SMALL = {
    "gu": 100,
    "jv": 100,
    "kk": 1000,
    "my": 100,
    "pa": 100,
    "qu": 100,
    "sw": 1000,
    "te": 1000,
    "yo": 100,
}  # fmt: skip


def spans(tokens: list[str], tags: list[str]) -> list[str]:
    """Joins the tokens of each entity, in order of occurrence: ['PER: rick', …].

    An entity starts at B-, or at I- with another type than the previous tag.
    """
    found: list[tuple[str, list[str]]] = []
    previous = "O"
    for token, tag in zip(tokens, tags, strict=True):
        if tag != "O":
            if tag.startswith("B-") or previous[2:] != tag[2:]:
                found.append((tag[2:], []))
            found[-1][1].append(token)
        previous = tag
    return [f"{kind}: {' '.join(words)}" for kind, words in found]


def read(path: Path, language: str, split: str) -> Iterator[Example]:
    """Reads sentences and their entities, from files of WikiANN or of XTREME.

    The original files of WikiANN have the language before every token, as in `en:Ada`; this prefix
    is removed. A token such as `12:30` does not change, because a prefix must occur in all tokens
    of a file.

    Raises:
      RequestError: see `data_files.tagged_sentences`; or all tokens have the prefix of another
        language; or a token is empty without its prefix.
    """
    sentences = list(data_files.tagged_sentences(path, split, TAGS))
    prefix = _prefix(sentences)
    if prefix not in ("", language):
        raise RequestError(
            f"{path}: its tokens begin with {prefix}: and are in that language, not in {language}"
        )
    for number, sentence in enumerate(sentences, start=1):
        tokens, tags = sentence["tokens"], sentence["tags"]
        if prefix:
            tokens = [token.removeprefix(f"{prefix}:").strip() for token in tokens]
        if not all(tokens):
            raise RequestError(f"{path}, sentence {number}: a token that is empty after {prefix}:")
        yield {
            "tokens": tokens,
            "tags": tags,
            "langs": [language] * len(tokens),
            "spans": spans(tokens, tags),
        }


def _prefix(sentences: list[Example]) -> str:
    """Returns the language prefix of all tokens, as in `en:Ada`; '' if there is none."""
    tokens = (token for sentence in sentences for token in sentence["tokens"])
    prefix, colon, _ = next(tokens, "").partition(":")
    is_language = bool(colon) and prefix in languages.LANGUAGES
    return prefix if is_language and all(t.startswith(f"{prefix}:") for t in tokens) else ""


def preprocess(dataset: Any, language: str) -> Any:
    """Makes `inputs` and `targets` from WikiANN examples (`tokens`, `spans`)."""
    import tensorflow as tf

    del language

    def as_text(example):
        # TFDS gives ["None"] for a sentence without entities; the format has an empty target.
        entities = tf.boolean_mask(example["spans"], example["spans"] != "None")
        return {
            "inputs": metrics.TAG_PROMPT + tf.strings.reduce_join(example["tokens"], separator=" "),
            "targets": tf.strings.reduce_join(entities, separator=SEPARATOR),
        }

    return dataset.map(as_text, num_parallel_calls=tf.data.AUTOTUNE)


FAMILY = Family(
    name="panx",
    title="PAN-X (WikiANN) named entities",
    languages=LANGUAGES,
    source=Source(
        files=lambda language, split: (f"panx/{XTREME_SPLITS[split]}-{language}.tsv",),
        read=read,
        tfds=lambda language, split: (f"wikiann/{language}:1.0.0", split),
        matched_size=1000,  # training sentences of Swahili, the smallest of the ten study languages
        small=SMALL,
    ),
    format=Format(preprocess, plain_text=lambda inputs: inputs.removeprefix(metrics.TAG_PROMPT)),
    scoring=Scoring(metrics.span_f1, strict_metrics.span_f1, score="span_f1", percent=100.0),
    groups=(XTREME_R,),
)
