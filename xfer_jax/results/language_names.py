"""Resolves the names of languages in tables."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from seqio_tasks import language_codes, uriel
from seqio_tasks.errors import RequestError
from xfer_jax.results import csv_file


def typology_notes(codes: Iterable[str]) -> list[str]:
    """Returns notes on languages whose typology is unknown or borrowed from another language."""
    rows = {code: language_codes.uriel_row(code) for code in sorted(codes)}
    unknown = [code for code, row in rows.items() if not uriel.known(row)]
    notes = []
    if unknown:
        notes.append(f"URIEL does not contain {', '.join(unknown)}: their typology is unknown")
    unlisted = [code for code in unknown if not language_codes.is_listed(code)]
    if unlisted:
        notes.append(f"no list of languages contains {', '.join(unlisted)}: check their spelling")
    borrowed: dict[str, list[str]] = {}
    for code in rows:
        for table, row in language_codes.borrowed(code).items() if code not in unknown else ():
            if uriel.known(row):
                borrowed.setdefault(f"{code} from {row}", []).append(table.partition("_")[0])
    listed = [f"{' and '.join(tables)} of {pair}" for pair, tables in borrowed.items()]
    if listed:
        notes.append(f"typology is borrowed from another row of URIEL: {'; '.join(listed)}")
    return notes


def codes_of(path: Path, names: pd.Series) -> pd.Series:
    """Returns the codes of languages; raises RequestError with the line of an unknown one."""
    codes = {}
    for name in names.unique():
        try:
            codes[name] = code_of(name)
        except RequestError as error:
            where = csv_file.at(path, names[names == name])
            what = "is empty" if not name else f"{name!r:.80}"
            raise RequestError(
                f"{where}: {names.name} {what}"
                + (f": {error}" if name else "; expected a code or name of a language")
            ) from None
    return names.map(codes)


def code_of(name: str, strict: bool = True) -> str:
    """Returns the code of a language in the analysis, see `language_codes.code_of`.

    Args:
      name: a code or an English name.
      strict: whether to refuse an unknown language; a code of three letters is always accepted,
        since users have codes of their own, see `typology_notes`. An unknown language that is
        accepted is returned in lower case.

    Raises:
      RequestError: the language is unknown; names the most similar ones.
    """
    try:
        return language_codes.code_of(name)
    except RequestError:
        code = name.strip().lower()
        own = len(code) == 3 and code.isascii() and code.isalpha()
        if strict and (not own or code in language_codes.SUMMARIES):
            raise
        return code
