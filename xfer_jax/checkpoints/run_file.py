"""`run.json`: the metadata of a checkpoint's training run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic

from seqio_tasks import files
from seqio_tasks.errors import RequestError
from seqio_tasks.sentencepiece_model import Vocabulary
from xfer_jax.checkpoints import checksums
from xfer_jax.checkpoints.arrays import MOST_STEPS, read_file

RUN_FILE = "run.json"
_Line = Annotated[
    str, pydantic.Field(max_length=4096, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")
]
_Whole = Annotated[int, pydantic.Field(ge=0, le=2**63)]
_Scalar = bool | int | float | str | None
_Flat = _Scalar | list[_Scalar] | dict[str, _Scalar]


class _About(pydantic.BaseModel):
    """The fields of `run.json`; each is optional, and other fields must be flat."""

    model_config = pydantic.ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, _Flat]

    first_step: Annotated[int, pydantic.Field(ge=0, le=MOST_STEPS)] = 0
    vocabulary: Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")] = "0" * 64
    vocabulary_file: _Line = ""
    task: _Line = ""
    source: Annotated[str, pydantic.Field(max_length=100, pattern=r"^[\w.-]+$")] = "en"
    n_shots: _Whole | None = None
    examples: _Whole = 0
    seed: Annotated[int, pydantic.Field(ge=-(2**63), le=2**63)] = 0
    data: _Flat = None
    microbatches: Annotated[int, pydantic.Field(ge=1, le=2**31)] = 1


def about(location: str | Path) -> dict[str, Any]:
    """Returns the metadata of a checkpoint; empty for a checkpoint of another tool.

    Returns:
      Its `first_step`, `vocabulary` (SHA-256), `vocabulary_file`, `task`, `source`, `n_shots`,
      `examples`, `seed`, `data` and `microbatches`, as far as they are known.

    Raises:
      RequestError: the file is damaged.
    """
    content = read_file(location, RUN_FILE)
    if content is None:
        return {}
    checksums.check_content(location, RUN_FILE, content)
    try:
        found = files.parse_json(content, RUN_FILE)
        _About.model_validate(found)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        problem = f"{where}: {first['msg']}" if where else first["msg"]
        raise RequestError(f"{location}/{RUN_FILE} is damaged: {problem}") from None
    except RequestError as error:
        raise RequestError(f"{location}/{RUN_FILE} is damaged: {error}") from None
    return found


def check_vocabulary(location: str | Path, about: Mapping[str, Any], used: Vocabulary) -> None:
    """Raises RequestError if a checkpoint was trained with another vocabulary, as far as known.

    Args:
      location: the checkpoint.
      about: its metadata, from `about`.
      used: the vocabulary to use it with.
    """
    if about.get("vocabulary", used.digest) != used.digest:
        its_own = about.get("vocabulary_file") or f"SHA-256 {about['vocabulary']}"
        raise RequestError(
            f"{location} was trained with another vocabulary ({its_own}) than {used.name}; set"
            " VOCAB_FILE to its own"
        )
