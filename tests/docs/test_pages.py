"""What the documentation says exists: pages, anchors, commands, options, files, targets of make."""

import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from docgen import api, commands, pages
from xfer_jax import configuration
from xfer_jax.cli import main

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "t5x_configs" / "README.md",
    *sorted(DOCS.rglob("*.md")),
]
MARKDOWN = {path: path.read_text("utf-8") for path in PAGES} | {
    DOCS / name: text for name, text in pages.generated().items()
}
_FENCE = re.compile(r"^( *)(```+)[^\n]*\n(.*?)^\1\2 *$", re.M | re.S)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_INLINE = re.compile(r"(?<!`)(`{1,2})(?!`)(.+?)(?<!`)\1(?!`)", re.S)
_ENVIRONMENT = re.compile(r"[A-Z_][A-Z0-9_]*=")
_PLACEHOLDERS = ("NAME",)  # what the reader fills in


def of_repository(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(text: str) -> str:
    """Returns a page without its blocks of code."""
    return _FENCE.sub("", text)


def blocks(text: str) -> list[str]:
    return [found[3] for found in _FENCE.finditer(text)]


def inline(text: str) -> list[str]:
    return [" ".join(found[2].split()) for found in _INLINE.finditer(prose(text))]


def each_page(among=tuple(PAGES)):
    return pytest.mark.parametrize("path", list(among), ids=of_repository)


@functools.cache
def anchors(path: Path) -> frozenset[str]:
    """Returns the ids of a page's headings, and of the modules that it documents."""
    text = prose(MARKDOWN[path])
    found = set(re.findall(r"^::: (\S+)", text, re.M))
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        named = re.search(r"\{ *#([\w.-]+) *\}$", heading)
        if named:
            found.add(named[1])
            continue
        plain = re.sub(r"[^\w\s-]", "", heading.strip().lower())
        found.add(re.sub(r"\s+", "-", plain))
    return frozenset(found)


@each_page(MARKDOWN)
def test_links_lead_somewhere(path):
    text = _INLINE.sub("", prose(MARKDOWN[path]))
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target in MARKDOWN or target.exists(), f"{link} leads nowhere"
        if anchor:
            assert target in MARKDOWN, f"{link} is an anchor of no page"
            assert anchor in anchors(target), f"{link}: there is no such heading"
        if DOCS in path.parents:
            assert DOCS in target.parents, f"{link} leads out of the site"


def test_a_page_that_github_shows_links_to_none_that_is_generated():
    generated = {DOCS / name for name in pages.generated()}
    for path in PAGES:
        if DOCS in path.parents:
            continue
        for link in _LINK.findall(prose(MARKDOWN[path])):
            assert (path.parent / link.partition("#")[0]).resolve() not in generated, link


def test_the_navigation_has_every_page():
    found: list[str] = []

    def collect(entry) -> None:
        if isinstance(entry, str):
            found.append(entry)
        elif isinstance(entry, dict):
            collect(list(entry.values()))
        else:
            for inner in entry:
                collect(inner)

    collect(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"])
    here = {str(path.relative_to(DOCS)) for path in MARKDOWN if DOCS in path.parents}
    of_api = {f"reference/api/{name}.md" for name in api.packages()}  # added by docgen.hook
    assert sorted(found) == sorted(here - of_api)


@each_page()
def test_tables_that_are_asked_for_exist(path):
    assert "<!--" not in _INLINE.sub("", prose(pages.filled(MARKDOWN[path])))


def lines(block: str) -> Iterator[str]:
    """Yields the commands of a block, a command a line."""
    for line in block.replace("\\\n", " ").splitlines():
        yield from (part.strip() for part in line.split("&&"))


def words(line: str) -> list[str]:
    """Returns the words of a command of `xfer-jax`, without what stands before; else nothing."""
    try:
        found = shlex.split(line, comments=True)
    except ValueError:
        return []
    while found and _ENVIRONMENT.match(found[0]):
        found.pop(0)
    return found[1:] if found and found[0] in ("xfer-jax", ".venv/bin/xfer-jax") else []


@functools.cache
def macros(command: str) -> frozenset[str]:
    """Returns the macros that the files of T5X's commands, or of this tool's, declare."""
    folder = "t5x_configs" if command.startswith("t5x") else "gin/runs"
    texts = (file.read_text("utf-8") for file in (ROOT / folder).glob("*.gin"))
    return frozenset(name for text in texts for name in re.findall(r"^([A-Z]\w*) *=", text, re.M))


def check_bindings(command: str, arguments: list[str]) -> None:
    for argument in arguments:
        if argument.startswith("--gin."):
            name, _, value = argument.removeprefix("--gin.").partition("=")
            assert value, f"{argument} sets nothing"
            known = "." in name or name in macros(command)
            assert known or name in _PLACEHOLDERS, f"there is no macro {name}"


@each_page()
def test_commands_are_those_of_the_parser(path, capsys):
    for block in blocks(MARKDOWN[path]):
        for line in lines(block):
            arguments = words(line)
            if not arguments:
                continue
            check_bindings(arguments[0], arguments)
            given = [a for a in arguments if not a.startswith("--gin.") and a != "…"]
            try:
                main._parser().parse_args(given)
            except SystemExit:
                pytest.fail(f"{line}\n{capsys.readouterr().err}")


@each_page()
def test_commands_in_sentences_exist(path):
    for text in inline(MARKDOWN[path]):
        name, *arguments = words(text) or ["COMMAND"]
        if name == "COMMAND":
            continue
        assert name in commands.parsers(), f"`{text}`: there is no command {name}"
        known = commands.parsers()[name]._option_string_actions
        for option in (a.partition("=")[0] for a in arguments if a.startswith("--")):
            assert option in known or option.startswith("--gin."), f"`{text}`: no option {option}"
        check_bindings(name, arguments)


@each_page()
def test_bindings_of_t5x_exist(path):
    for block in blocks(MARKDOWN[path]):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.findall(r"python -m (t5x\.\w+)", line):
                check_bindings(command, re.findall(r"--gin\.\w+=\S*", line))


@each_page()
def test_gin_files_exist(path):
    for name in re.findall(r"(?<![\w/])((?:gin|t5x_configs)/[a-z0-9_/]+\.gin)\b", MARKDOWN[path]):
        assert (ROOT / name).is_file(), name


@each_page()
def test_targets_of_make_exist(path):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    code = [*inline(MARKDOWN[path]), *(line for b in blocks(MARKDOWN[path]) for line in lines(b))]
    for line in code:
        bare = re.sub(r"^(?:[A-Z_]+=\S+ )*", "", line)
        called = re.match(r"make(?: +([a-z-]+))?(?![\w-])", bare)
        if called and called[1]:
            assert called[1] in targets, line


@each_page()
def test_files_and_modules_of_the_repository_exist(path):
    folders = "seqio_tasks|xfer_jax|gin|tests|benchmarks|docs|docgen|constraints|t5x_configs"
    installed = {"xfer_jax/gin", "xfer_jax/t5x_configs"}
    for text in inline(MARKDOWN[path]):
        if re.fullmatch(rf"(?:{folders})/[a-z0-9_./-]*", text) and text not in installed:
            assert (ROOT / text).exists(), text
        module = re.fullmatch(r"python -m (benchmarks\.\w+)", text)
        if module:
            assert ROOT.joinpath(*module[1].split(".")).with_suffix(".py").is_file(), text


def test_macros_of_t5x_are_explained():
    text = MARKDOWN[DOCS / "guides" / "t5x.md"]
    named = {name for cell in inline(text) for name in re.findall(r"[A-Z][A-Z0-9_*]+", cell)}
    layers = {"NUM_ENCODER_LAYERS", "NUM_DECODER_LAYERS"}  # `NUM_*_LAYERS`
    derived = {"MIXTURE_OR_TASK_NAME", "EVAL_TASKS", "MODEL"}  # from others, or T5X's own
    assert macros("t5x") <= named | layers | derived


def test_every_command_and_option_is_in_the_reference():
    text = pages.generated()["reference/commands.md"]
    assert len(commands.parsers()) > 10
    for name, parser in commands.parsers().items():
        part = text.partition(f"{{ #xfer-jax-{name} }}")[2].partition("\n## ")[0]
        assert part, name
        for option in parser._option_string_actions:
            hidden = option in ("-h", "--help", "--expect") or (
                name == "study" and option in ("--import", "--gin_search_paths")
            )
            assert hidden or option in part, f"{name} {option}"


def test_every_macro_is_in_the_reference():
    text = pages.generated()["reference/macros.md"]
    assert len(macros("train")) > 50
    for name in macros("train"):
        assert f"| `{name}` |" in text, name


def test_every_setting_of_a_study_is_in_the_reference():
    from xfer_jax.study import definition

    text = pages.generated()["reference/studies.md"]
    classes = [of for of in vars(definition).values() if isinstance(of, type)]
    records = [of for of in classes if of.__module__ == definition.__name__]
    assert records
    for record in records:
        for name in record.__dataclass_fields__:
            assert f"| `{name}` |" in text, name


def test_every_task_and_shipped_file_is_in_the_reference():
    from seqio_tasks import catalogue, retrieval_data

    text = pages.generated()["reference/tasks.md"]
    for name in catalogue.families():
        assert f"### `xfer_{name}`" in text, name
    for name in retrieval_data.FAMILIES:
        assert f"| `{name}` |" in text, name
    everything = "".join(pages.generated().values())
    for file in configuration.shipped_files():
        if file.startswith(("gin/tasks", "gin/studies")):
            assert file in everything, file


def test_every_environment_variable_is_in_the_reference():
    texts = [path.read_text("utf-8") for top in ("xfer_jax", "seqio_tasks")
             for path in (ROOT / top).rglob("*.py")]  # fmt: skip
    named = {name for text in texts for name in re.findall(r"\bXFER_[A-Z_]+\b", text)}
    assert "XFER_DATA_DIR" in named
    for name in named:
        assert f"| `{name}` |" in MARKDOWN[DOCS / "reference" / "index.md"], name


def test_imports_point_one_way():
    found = api.imports()
    for name in found:
        assert name not in api.below(name, found), f"{name} imports itself, by way of others"
    for name in ("xfer_jax.analysis", "xfer_jax.report", "xfer_jax.results"):
        assert "xfer_jax.engine" not in api.below(name, found), name
    texts = {path: path.read_text("utf-8") for path in (ROOT / "seqio_tasks").rglob("*.py")}
    importers = [path for path, text in texts.items() if re.search(r"(import|from) xfer_jax", text)]
    assert not importers


def test_every_module_is_in_the_reference():
    text = "".join(text for name, text in pages.generated().items() if "/api/" in name)
    for top in ("xfer_jax", "seqio_tasks"):
        for path in (ROOT / top).rglob("*.py"):
            if path.name not in ("__init__.py", "__main__.py"):
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                assert f"::: {module}\n" in text, module
