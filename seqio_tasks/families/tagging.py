"""Tagging, as text `pos: the cat sat` -> `DET NOUN VERB`: one tag per token.

UD-POS: universal parts of speech in the 38 languages of XTREME-R, and its metric; data of Universal
Dependencies in the files of XTREME's scripts. CCG: supertags of CCGbank (Hockenmaier & Steedman
2007), an intermediate task of Phang et al. 2020. The mT5 release has neither; the formats are ours.

A token is one word of the input: as in XTREME's scripts, white space and zero-width non-joiners
inside it are removed. A token with only invisible characters is refused, because it would have a
tag but no word.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from seqio_tasks import data_files, metrics, strict_metrics
from seqio_tasks.data_files import XTREME_SPLITS
from seqio_tasks.records import (
    INTERMEDIATE,
    XTREME_R,
    Example,
    Family,
    Format,
    Scoring,
    Source,
)

# the 38 languages of XTREME-R's UD-POS
# fmt: off
LANGUAGES = (
    "af", "ar", "bg", "de", "el", "en", "es", "et", "eu", "fa", "fi", "fr", "he", "hi", "hu",
    "id", "it", "ja", "kk", "ko", "lt", "mr", "nl", "pl", "pt", "ro", "ru", "ta", "te", "th",
    "tl", "tr", "uk", "ur", "vi", "wo", "yo", "zh",
)
TAGS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN",
    "PUNCT", "SCONJ", "SYM", "VERB", "X",
)
# fmt: on


def _reader(known: tuple[str, ...]) -> Callable[[Path, str, str], Iterator[Example]]:
    def read(path: Path, language: str, split: str) -> Iterator[Example]:
        """Reads sentences, see `data_files.tagged_sentences`."""
        del language
        remedy = "make the file from the treebanks or use validation"
        return data_files.tagged_sentences(path, split, known, _one_word, remedy)

    return read


def _one_word(token: str) -> str:
    word = "".join(token.replace("\u200c", "").split())
    return word if data_files.is_visible(word) else ""


def _format(prompt: str) -> Format:
    def preprocess(dataset: Any, language: str) -> Any:
        """Makes `inputs` and `targets` from examples with `tokens` and `tags`."""
        import tensorflow as tf

        del language

        def as_text(example):
            return {
                "inputs": prompt + tf.strings.reduce_join(example["tokens"], separator=" "),
                "targets": tf.strings.reduce_join(example["tags"], separator=" "),
            }

        return dataset.map(as_text, num_parallel_calls=tf.data.AUTOTUNE)

    return Format(preprocess, plain_text=lambda inputs: inputs.removeprefix(prompt), tags=True)


FAMILIES = (
    Family(
        name="udpos",
        title="Universal Dependencies parts of speech",
        languages=LANGUAGES,
        # TFDS has one configuration per treebank, but XTREME joins all treebanks of a language
        source=Source(
            files=lambda language, split: (f"udpos/{XTREME_SPLITS[split]}-{language}.tsv",),
            read=_reader(TAGS),
        ),
        format=_format("pos: "),
        scoring=Scoring(metrics.tag_f1, strict_metrics.tags, score="tag_f1"),
        groups=(XTREME_R,),
    ),
    Family(
        name="ccg",
        title="CCG supertags",
        languages=("en",),
        source=Source(
            files=lambda language, split: (f"ccg/{XTREME_SPLITS[split]}.tsv",),
            read=_reader(()),
            remedy=(
                "CCGbank needs a licence of the Linguistic Data Consortium, make token<TAB>supertag"
                " lines from your copy"
            ),
        ),
        format=_format("ccg: "),
        scoring=Scoring(metrics.token_accuracy, strict_metrics.tags, score="token_accuracy"),
        groups=(INTERMEDIATE,),
    ),
)
