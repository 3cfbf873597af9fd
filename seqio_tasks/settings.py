"""Checks values from gin files and the command line against their declared types.

A class decorated with `settings` is a frozen dataclass. Pydantic checks the values of each new
instance; a wrong value raises RequestError with one sentence that names the macro.
"""

import dataclasses
import functools
import inspect
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field

from seqio_tasks import files
from seqio_tasks.errors import RequestError, did_you_mean

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Names = str | Mapping[str, str] | Callable[[str], str]
_LARGEST = 2**31 - 1  # largest count; counts are int32 in compiled programs
_SHOWN = 60  # characters of a wrong value in a message


def _one_line(text: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("text on one line, without control characters")
    return text


# Types for the fields of settings. The error message of a validator says what was expected.
Count = Annotated[int, Field(ge=1, le=_LARGEST)]
BatchSize = Annotated[int, Field(ge=1, le=2**20)]
CountFromZero = Annotated[int, Field(ge=0, le=_LARGEST)]
Size = Annotated[int, Field(ge=1, le=2**24)]  # a dimension of the model
Layers = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FromZero = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Line = Annotated[str, AfterValidator(_one_line)]
Lines = Sequence[Line]
Folder = Annotated[Path, BeforeValidator(files.absolute)]


@dataclass_transform(frozen_default=True)
def settings(names: Names = MappingProxyType({})) -> Callable[[type[T]], type[T]]:
    """Turns a class into a frozen dataclass whose values are checked.

    Args:
      names: the users' names of the fields: a format such as 'study.Study.{}'; a function of the
        field; or macro names by field, for macros that are not the field name in capitals.
    """

    def decorate(cls: type[T]) -> type[T]:
        config = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True, extra="forbid")
        made: Any = pydantic.dataclasses.dataclass(frozen=True, config=config)(cls)
        initialise = made.__init__

        @functools.wraps(initialise)
        def checked(self: Any, *args: Any, **kwargs: Any) -> None:
            try:
                initialise(self, *args, **kwargs)
            except pydantic.ValidationError as error:
                fields = [field.name for field in dataclasses.fields(made)]
                raise RequestError(_sentence(error, names, fields)) from None

        made.__init__ = checked
        return made

    return decorate


def arguments(names: Names = MappingProxyType({})) -> Callable[[F], F]:
    """Checks the arguments of a function, like `settings` checks the fields of a class."""

    def decorate(function: F) -> F:
        config = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True)
        called = pydantic.validate_call(config=config)(function)
        known = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                return called(*args, **kwargs)
            except pydantic.ValidationError as error:
                raise RequestError(_sentence(error, names, known)) from None

        return cast(F, checked)

    return decorate


def _sentence(error: pydantic.ValidationError, names: Names, fields: Sequence[str]) -> str:
    """Returns one sentence that says what is wrong with the first wrong value."""
    first = error.errors(include_url=False)[0]
    # Of the types that a value may have, the one that it comes nearest to: the error is inside it.
    alike = [e for e in error.errors(include_url=False) if e["loc"][:1] == first["loc"][:1]]
    first = max(alike, key=lambda e: sum(not _is_type(part) for part in e["loc"]))
    cause = first.get("ctx", {}).get("error")
    field, *inside = first["loc"] or ("",)
    if isinstance(cause, RequestError) and not inside and not field:
        return str(cause)  # from the __post_init__ of the class
    if isinstance(field, int):  # given by position
        field = fields[field]
    name = _name(str(field), names)
    if first["type"] == "missing":
        return f"{name} must be set"
    if first["type"] == "unexpected_keyword_argument":
        return f"there is no setting {field!r}{did_you_mean(str(field), fields)}"
    if isinstance(cause, RequestError):
        return f"{name}: {cause}"
    where = "".join(f"[{part!r}]" for part in inside if not _is_type(part))
    value = repr(first["input"])
    value = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
    same = [_expected(e) for e in alike if e["input"] is first["input"]]
    return f"{name}{where} must be {' or '.join(dict.fromkeys(same))}, not {value}"


def _is_type(part: Any) -> bool:
    """Returns whether a part of an error's location names a type, not a position in the value."""
    types = (
        "json-or-python",
        "constrained-",
        "literal[",
        "function-",
        "int",
        "float",
        "str",
        "[key]",
    )
    return isinstance(part, str) and part.startswith(types)


def _name(field: str, names: Names) -> str:
    if isinstance(names, str):
        return names.format(field)
    if callable(names):
        return names(field)
    return names.get(field, field.upper())


def _expected(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    bounds = {
        "greater_than": "above {gt}",
        "greater_than_equal": "at least {ge}",
        "less_than": "below {lt}",
        "less_than_equal": "at most {le}",
    }
    if kind in bounds:
        return bounds[kind].format(**context)
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return context["expected"]
    return {
        "int_type": "a whole number",
        "int_parsing_size": "a whole number of fewer digits",
        "float_type": "a number",
        "finite_number": "a finite number",
        "bool_type": "True or False",
        "string_type": "text in quotation marks, such as 'en'",
        "string_pattern_mismatch": "a name of letters, digits, _ and .",
        "sequence_str": "a list, such as ('en',) with its comma",
        "is_instance_of": "a list, such as ('en', 'sw')",
        "tuple_type": "a list, such as (50, 2, 2490)",
        "dict_type": "a dictionary, such as {'inputs': 128, 'targets': 8}",
        "mapping_type": "a dictionary",
        "callable_type": "a function that gin names with @",
    }.get(kind, error["msg"])
