"""The names of languages in tables."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from seqio_tasks import language_codes, uriel
from seqio_tasks.errors import RequestError
from xfer_jax.results import csv_file


def typology_notes(codes: Iterable[str]) -> list[str]:
    """Returns what a reader should know of where the typology of languages comes from."""
    rows = {code: language_codes.uriel_row(code) for code in sorted(codes)}
    strange = [code for code, row in rows.items() if not uriel.known(row)]
    notes = []
    if strange:
        notes.append(
            f"URIEL does not know {', '.join(strange)}: nothing is known of their typology"
        )
    unlisted = [code for code in strange if not language_codes.is_listed(code)]
    if unlisted:
        notes.append(f"no list of languages has {', '.join(unlisted)}: check for slips")
    borrowed: dict[str, list[str]] = {}
    for code in rows:
        for table, row in language_codes.borrowed(code).items() if code not in strange else ():
            if uriel.known(row):
                borrowed.setdefault(f"{code} from URIEL's {row}", []).append(
                    table.partition("_")[0]
                )
    told = [f"{' and '.join(of)} of {who}" for who, of in borrowed.items()]
    if told:
        notes.append(f"typology is borrowed: {'; '.join(told)}")
    return notes


def codes_of(path: Path, names: pd.Series) -> pd.Series:
    """Returns the codes of languages; an unknown one is refused with its line."""
    codes = {}
    for name in names.unique():
        try:
            codes[name] = code_of(name)
        except RequestError as error:
            where = csv_file.at(path, names[names == name])
            what = "is empty" if not name else f"{name!r:.80}"
            raise RequestError(
                f"{where}: {names.name} {what}"
                + (f": {error}" if name else "; expected a language")
            ) from None
    return names.map(codes)


def code_of(name: str, strict: bool = True) -> str:
    """Returns the code that the analysis calls a language by, see `language_codes.code_of`.

    Args:
      name: a code or an English name.
      strict: refuse an unknown language, unless it has three letters: users have codes of their
        own, see `typology_notes`; else return it as it is, in lower case.

    Raises:
      RequestError: an unknown language; names the nearest.
    """
    try:
        return language_codes.code_of(name)
    except RequestError:
        code = name.strip().lower()
        own = len(code) == 3 and code.isascii() and code.isalpha()
        if strict and (not own or code in language_codes.SUMMARIES):
            raise
        return code
