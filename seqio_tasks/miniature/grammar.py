"""Word order of the miniature languages, from WALS values of the real languages."""

import dataclasses
import functools
import math

from seqio_tasks import uriel
from seqio_tasks.errors import RequestError

# ------------------------------------------------------------------------------------ grammars


@dataclasses.dataclass(frozen=True)
class Grammar:
    """The word order of a miniature language.

    Two grammars are equal if they give the same word order, even if some values are imputed.
    """

    order: str  # of subject, verb and object: 'SVO', 'SOV', 'VSO', 'VOS', 'OVS' or 'OSV'
    adposition: str  # 'before' or 'after' its name
    adjective: str  # 'before' or 'after' its noun
    affix: str  # the tense affix of the verb: 'prefix' or 'suffix'
    imputed: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """Fields whose value is missing in WALS and comes from URIEL's nearest neighbours."""


DEFAULT_GRAMMAR = Grammar("SVO", "before", "before", "suffix")

# The values of each field, and the URIEL flag of each value. Several flags of a field may be set: a
# language with two dominant orders has both.
WALS_FLAGS = {
    "order": {order: f"S_{order}" for order in ("SVO", "SOV", "VSO", "VOS", "OVS", "OSV")},
    "adposition": {
        "before": "S_ADPOSITION_BEFORE_NOUN",
        "after": "S_ADPOSITION_AFTER_NOUN",
    },
    "adjective": {"before": "S_ADJECTIVE_BEFORE_NOUN", "after": "S_ADJECTIVE_AFTER_NOUN"},
    "affix": {"prefix": "S_TEND_PREFIX", "suffix": "S_TEND_SUFFIX"},
}
# The code of each language in URIEL. Arabic is `ara`, the row with the most known WALS features.
_URIEL_CODES = {
    "ar": "ara",
    "bn": "ben",
    "en": "eng",
    "fi": "fin",
    "id": "ind",
    "ru": "rus",
    "sw": "swa",
    "es": "spa",
    "de": "deu",
    "hi": "hin",
}


@functools.cache
def _uriel_flags(feature_set: str) -> dict[str, dict[str, bool | None]]:
    """Returns the flags of a URIEL table by language and name; None where unknown."""
    try:
        flags, rows = uriel.values(list(_URIEL_CODES.values()), feature_set)
    except RequestError as error:
        raise RequestError(f"{error}, or set World.syntax_signal = 0") from error
    return {
        language: {
            flag: None if math.isnan(value) else value > 0.5
            for flag, value in zip(flags, row.tolist(), strict=True)
        }
        for language, row in zip(_URIEL_CODES, rows, strict=True)
    }


def choose_value(field: str, flags: dict[str, bool | None]) -> str | None:
    """Converts the WALS flags of one field to one value.

    If one flag is set: its value. If several are set: the first value that is not the default, so
    that a language with the default order *and* another order differs from the default (Arabic, SVO
    and VSO, becomes VSO; German, SVO and SOV, becomes SOV). If none is set: the default.

    Args:
        field: A field of `Grammar` with a word order.
        flags: Whether each flag is set, by name; None where unknown.

    Returns:
        The value, or None if no flag of the field is known.
    """
    known = {value: flags[flag] for value, flag in WALS_FLAGS[field].items()}
    if all(is_set is None for is_set in known.values()):
        return None
    default = getattr(DEFAULT_GRAMMAR, field)
    chosen = [value for value, is_set in known.items() if is_set]
    return next((value for value in chosen if value != default), default)


@functools.cache
def wals_grammar(language: str) -> Grammar:
    """Returns the grammar of the real language in WALS; missing values are imputed."""
    values, imputed = {}, []
    for field in WALS_FLAGS:
        value = choose_value(field, _uriel_flags("syntax_wals")[language])
        if value is None:
            value = choose_value(field, _uriel_flags("syntax_knn")[language])
            imputed.append(field)
        values[field] = value or getattr(DEFAULT_GRAMMAR, field)
    return Grammar(**values, imputed=tuple(imputed))
