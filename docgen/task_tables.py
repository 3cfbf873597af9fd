"""The tasks, from the catalogue."""

from collections.abc import Iterator

from docgen import gin_files
from docgen.markdown import code, prose, table
from seqio_tasks import catalogue, languages, records, retrieval_data
from seqio_tasks.records import Family, Source


def page() -> str:
    """Renders the page of all tasks."""
    families = catalogue.families()
    parts = [
        "# Tasks",
        "A task is named `xfer_FAMILY.LANGUAGE`: `xfer_panx.sw`. The command `xfer-jax tasks`"
        " prints this list with the place of the data on your machine. How names, formats and"
        " metrics work stands in [Your own task or data](../guides/own-data.md#names).",
        table(
            ("family", "title", "languages", "score", "gin file"),
            (
                (
                    f"[`xfer_{name}`](#xfer_{name})",
                    prose(family.title),
                    str(len(family.languages)),
                    code(family.scoring.score) if family.format.objective == "supervised" else "",
                    code(f"gin/tasks/{name}.gin") if _file(name) else "",
                )
                for name, family in families.items()
            ),
        ),
    ]
    for name, family in families.items():
        parts += _family(name, family)
    parts += ["## Retrieval", _retrieval(), "## Mixtures of language families", *_mixtures()]
    parts += ["## Probes", _probes(), "## Files of gin/tasks", _files()]
    return "\n\n".join(parts) + "\n"


def _file(name: str) -> bool:
    return any(path.stem == name for path in gin_files.files("tasks"))


def _family(name: str, family: Family) -> Iterator[str]:
    yield f"### `xfer_{name}` {{ #xfer_{name} }}"
    yield f"{prose(family.title)}."
    rows = [
        ("languages", " ".join(map(code, family.languages))),
        ("splits", ", ".join(_split(family.source, split) for split in family.source.splits)),
    ]
    if family.format.objective == "supervised":
        rows.append(("score", f"{code(family.scoring.score)}, in percent"))
    else:
        rows.append(("objective", prose(family.format.objective.replace("_", " "))))
    if family.format.labels:
        rows.append(("labels", ", ".join(map(code, family.format.labels))))
    if family.source.matched_size:
        rows.append(
            ("size-matched subset", f"{family.source.matched_size:,} examples: `.matched.s0`")
        )
    if family.groups:
        rows.append(("group", ", ".join(map(code, family.groups))))
    mixtures = catalogue.mixtures(family)
    if mixtures:
        rows.append(("mixtures", " ".join(map(code, (records.ALL_LANGUAGES, *mixtures)))))
    rows += _origins(family.source, family.languages[0])
    yield table(("property", "value"), rows)


def _split(source: Source, split: str) -> str:
    size = f" ({source.sizes[split]:,} examples)" if split in source.sizes else ""
    return f"{code(split)}{size}"


def _origins(source: Source, language: str) -> Iterator[tuple[str, str]]:
    """Yields where the data of a language come from, split by split."""
    if source.make is not None:
        yield "data", "made by this project, no files"
        return
    for split in source.splits:
        if source.parts is not None and source.parts(split):
            names = ", ".join(code(f"xfer_{part.name}") for part in source.parts(split))
            yield f"{split} data", f"of {names}"
            continue
        of_files = source.files(language, split)
        of_tfds = source.tfds(language, split)
        where = []
        if of_tfds:
            where.append(f"TFDS {code(of_tfds[0])}, split {code(of_tfds[1])}")
        if of_files:
            where.append(f"file {' or '.join(map(code, of_files))}")
        if where:
            yield f"{split} data ({language})", "; ".join(where)


def _retrieval() -> str:
    return table(
        ("`TASK` of `retrieve`", "score", "splits", "languages"),
        (
            (
                code(name),
                code(family.metric),
                ", ".join(map(code, family.splits)),
                " ".join(map(code, family.languages)),
            )
            for name, family in retrieval_data.FAMILIES.items()
        ),
    )


def _mixtures() -> Iterator[str]:
    yield (
        "The name of a language family stands in the place of a language: `xfer_panx.uralic`. Of a"
        " family's languages a mixture has those that its task has."
    )
    yield table(
        ("family of languages", "languages"),
        ((code(group), " ".join(map(code, codes))) for group, codes in languages.GROUPS.items()),
    )
    yield (
        "`xfer_intermediate.KIND.FAMILY` is another name for such a mixture, and"
        f" `xfer_intermediate.KIND{catalogue.AND_TEXT}.FAMILY` keeps span corruption of plain text"
        " beside it. Kinds:"
    )
    yield table(
        ("kind", "is"), ((code(kind), code(f"xfer_{of}")) for kind, of in catalogue.KINDS.items())
    )


def _probes() -> str:
    names = " ".join(code(f"xfer_{name}") for name in catalogue.probe_families())
    return f"The text of every family, masked, for the command `probe`: {names}."


def _files() -> str:
    return table(
        ("file", "what it is"),
        (
            (code(f"gin/tasks/{path.name}"), prose(gin_files.first_words(path)))
            for path in gin_files.files("tasks")
        ),
    )
