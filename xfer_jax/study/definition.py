"""What a study file sets: the study, and the list of its stages."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import gin
from pydantic import AfterValidator, Field, StringConstraints

from seqio_tasks.errors import RequestError
from seqio_tasks.settings import Count, Line, Lines, Seed, settings


def _subset(text: str) -> str:
    if not re.fullmatch(r"|matched|n[1-9][0-9]{0,8}", text):
        raise ValueError("'' (all), 'matched', or a number of examples such as 'n100'")
    return text


# Names of stages, of files of gin/ and of languages: they become parts of folders' paths.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$", max_length=64)]
Subset = Annotated[str, AfterValidator(_subset)]
Number = Annotated[int, Field(ge=0)]
TARGETS, OTHER_TARGETS, SAME = "targets", "other_targets", "same"
# Names of folders that a run or a study has beside those of its stages.
_RESERVED = (
    "train",
    "test",
    "training_eval",
    "inference_eval",
    "analysis",
    "workers",
    "slurm",
    "snakemake",
)


def _setting(field: str) -> str:
    """Returns the name by which gin sets a field of the stage that is being made."""
    return "/".join([*gin.current_scope(), f"study.Stage.{field}"])


@gin.configurable(module="xfer_jax.study")
@settings(_setting)
class Stage:
    """One stage of a study: its jobs train, probe or evaluate retrieval.

    It has a job for each model that it starts from, task, language, subset and seed.
    """

    # part of the jobs' folders; by default the gin scope: `ner/study.Stage.tasks = …` sets `ner`
    name: Name = Field(default_factory=gin.current_scope_str, validate_default=True)
    action: Literal["train", "probe", "retrieve"] = "train"
    # earlier stages whose models it starts from; (): the study's initial checkpoint, or a new model
    start_from: Sequence[Name] = ()
    # files of gin/tasks: ('panx', 'xnli'); 'retrieve': ('tatoeba',); (): the task of the model that
    # it starts from
    tasks: Sequence[Name] = ()
    # languages to train on, one a job: ('en', 'sw'), or groups of languages, ('uralic',); 'targets'
    # are all languages to evaluate on, 'other_targets' all but the one that the model was trained
    # on before; 'same' is that one, and the same subset of its data; None: as the task's file says
    train_on: Literal["targets", "other_targets", "same"] | Sequence[Name] | None = None
    # subsets of the training data, one a job, with settings of their own: {'n100': ('BATCH_SIZE =
    # 32',)}; '' is all data, 'matched' as much as the language with the least data has
    variants: Mapping[Subset, Lines] = Field(default_factory=lambda: {"": ()})
    settings: Lines = ()  # gin bindings of its runs: ('TRAIN_STEPS_RELATIVE = 1000',)
    # languages to evaluate on, or to probe; 'targets' are those of the study, 'same' the one that
    # a job trains on; (): none, other stages start from its models
    score_on: Literal["targets", "same"] | Sequence[Name] = ()
    keep: bool = True  # whether to keep the checkpoints
    seeds: Sequence[Seed] | None = None  # None: those of the study

    def __post_init__(self):
        if self.name in _RESERVED or self.name.startswith("checkpoint_"):
            raise RequestError(
                f"a stage cannot be named {self.name!r}: a folder of that name has another use"
            )
        for field in ("start_from", "tasks", "train_on", "score_on", "seeds"):
            values = getattr(self, field)
            if values and not isinstance(values, str) and len(set(values)) < len(values):
                raise RequestError(f"{self.of(field)} must be a list without repeats")
        for field in ("train_on", "variants", "seeds"):
            if not getattr(self, field) and getattr(self, field) is not None:
                raise RequestError(f"{self.of(field)} must not be empty")
        if not self.tasks and not self.start_from:
            raise RequestError(f"{self.of('tasks')} must be set: the stage starts from no other")
        if self.train_on in (OTHER_TARGETS, SAME) and not self.start_from:
            raise RequestError(
                f"{self.of('train_on')} = {self.train_on!r} needs {self.of('start_from')}: the"
                " stages whose models it starts from"
            )
        if self.score_on == SAME and (self.train_on is None or self.action != "train"):
            raise RequestError(
                f"{self.of('score_on')} = 'same' is for action 'train', with {self.of('train_on')}"
            )
        if self.action != "train" and (self.train_on is not None or self.variants != {"": ()}):
            raise RequestError(f"{self.of('action')} = {self.action!r} trains on nothing")
        if self.action == "probe" and not self.score_on:
            raise RequestError(f"{self.of('score_on')} must be set: the languages to probe")

    def of(self, field: str) -> str:
        """Returns the name by which gin sets a field of this stage."""
        return f"{self.name}/study.Stage.{field}"


@gin.configurable(module="xfer_jax.study")
@settings("study.Study.{}")
class Study:
    """What a study file sets. Files are named without `gin/…/` and `.gin`."""

    model: Name  # file of gin/models: 'pocket'
    stages: Sequence[Stage]  # in order: (@ner/study.Stage(), @few_shot/study.Stage())
    initial_checkpoint: Line | None = None  # that stages start from; None: a new model
    # languages to evaluate on; None: those of the task's file
    targets: Sequence[Name] | None = None
    seeds: Sequence[Seed] = (0,)  # of the order of the data, of dropout, and of subsets
    files: Lines = ()  # gin files after the task's: 'gin/runs/from_scratch.gin'
    settings: Lines = ()  # gin bindings of every run: "EVALUATOR_NUM_EXAMPLES = 500"
    # by task, for the plan: mean tokens of inputs and of targets, and examples that are evaluated
    # for each target
    assumed: Mapping[Name, tuple[Count, Count, Number]] | None = None
    engine: Literal["native", "t5x"] = "native"  # or 't5x': T5X's own binary trains and evaluates
    search_paths: Lines = ()  # folders in which gin files are looked for
    imports: Lines = ()  # modules that gin files may import

    def __post_init__(self):
        for field in ("stages", "targets", "seeds"):
            values = getattr(self, field)
            if field == "stages":
                values = [stage.name for stage in values]
            if values is not None and (not values or len(set(values)) < len(values)):
                raise RequestError(
                    f"study.Study.{field} must be a list without repeats that is not empty, not"
                    f" {values!r}"
                )
        before: dict[str, Stage] = {}
        for stage in self.stages:
            if stage.action != "train" and not stage.start_from and not self.initial_checkpoint:
                raise RequestError(
                    f"{stage.name} has no model to {stage.action}: set {stage.of('start_from')}, or"
                    " study.Study.initial_checkpoint"
                )
            for name in stage.start_from:
                if name not in before:
                    known = ", ".join(before) or "none"
                    raise RequestError(
                        f"{stage.of('start_from')} names {name!r}, which is no earlier stage"
                        f" (earlier stages: {known})"
                    )
                self._check_start(stage, before[name])
            before[stage.name] = stage

    def _check_start(self, stage: Stage, start: Stage) -> None:
        """Raises RequestError if a stage cannot start from the models of another."""
        if start.action != "train":
            raise RequestError(f"{stage.name} cannot start from {start.name}, which trains nothing")
        if not start.keep:
            raise RequestError(
                f"{stage.name} starts from models of {start.name}: set {start.of('keep')} = True"
            )
        if start.score_on == SAME and start.start_from:
            raise RequestError(
                f"{stage.name} cannot start from {start.name}, which trains on a few examples of"
                " the language that it is evaluated on"
            )
        if stage.train_on in (OTHER_TARGETS, SAME) and start.train_on is None:
            raise RequestError(
                f"{stage.of('train_on')} = {stage.train_on!r} needs the language of the stage"
                f" before: set {start.of('train_on')}"
            )
        seeds, theirs = self.seeds_of(stage), self.seeds_of(start)
        if stage.action == "train" and len(theirs) not in (1, len(seeds)):
            raise RequestError(
                f"{stage.name} has {len(seeds)} seeds and {start.name}, which it starts from,"
                f" {len(theirs)}: set {start.of('seeds')} to one seed, or to as many"
            )

    def seeds_of(self, stage: Stage) -> Sequence[int]:
        """Returns the seeds of a stage.

        If the stage before has one seed, all start from its models; else the n-th starts from the
        n-th.
        """
        return self.seeds if stage.seeds is None else stage.seeds
