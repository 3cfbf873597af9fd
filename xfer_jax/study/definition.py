"""What a study file sets."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import gin
from pydantic import Field, StringConstraints

from seqio_tasks.errors import RequestError
from seqio_tasks.settings import Count, CountFromZero, Line, Lines, Seed, settings

NO_INTERMEDIATE = ""
MORE = "more"  # in the place of an intermediate: as many steps more on the task itself
# Names of files of gin/ and of intermediate tasks: they become parts of folders' paths.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$", max_length=64)]
TaskName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$|^$")]
Number = Annotated[int, Field(ge=0)]


@gin.configurable(module="xfer_jax.study")
@settings("study.Study.{}")
class Study:
    """What a study file sets. Files are named without `gin/…/` and `.gin`."""

    model: FileName  # file of gin/models: 'pocket'
    tasks: Sequence[FileName]  # files of gin/tasks: ('panx', 'xnli')
    # languages to fine-tune in; None: all languages to evaluate on
    sources: Sequence[TaskName] | None = None
    # languages to evaluate on; None: those of the task's file
    targets: Sequence[TaskName] | None = None
    pretrain: FileName | None = None  # file of gin/tasks: what every model is trained on first
    initial_checkpoint: Line | None = None  # instead: a checkpoint that every model starts from
    # tasks trained before the source language: 'panx.sw' is gin/tasks/panx.gin in Swahili,
    # 'panx.uralic.n3000.s0' is in a family of languages with 3,000 examples, '' is none, and 'more'
    # trains longer in the source language instead
    intermediates: Sequence[TaskName] = (NO_INTERMEDIATE,)
    intermediate_steps: Count | None = None  # steps of each of them; None: as their files say
    # which part of the training data: '' is all of it, 'matched' is as much as the language with
    # the least data has
    arms: Sequence[Literal["", "matched"]] = ("",)
    # training examples in the target language, after the source language; 0: zero-shot
    n_shots: Sequence[CountFromZero] = (0,)
    few_shot: Mapping[Count, Lines] | None = None  # bindings of few-shot runs, by number of shots
    seeds: Sequence[Seed] = (0,)
    files: Lines = ()  # gin files after the task's: 'gin/runs/from_scratch.gin'
    settings: Lines = ()  # bindings of every run: "EVALUATOR_NUM_EXAMPLES = 500"
    keep_few_shot: bool = False  # whether to keep the checkpoints of few-shot training
    # by task, for the plan: mean tokens of inputs and of targets, and examples that are evaluated
    # for each target
    assumed: Mapping[FileName, tuple[Number, Number, Number]] | None = None
    engine: Literal["native", "t5x"] = "native"  # or 't5x': T5X's own binary runs every job
    search_paths: Lines = ()  # folders in which gin files are looked for
    imports: Lines = ()  # modules that gin files may import

    def __post_init__(self):
        if self.pretrain and self.initial_checkpoint:
            raise RequestError("a study has pretrain or initial_checkpoint, not both")
        for name in (
            "tasks", "sources", "targets", "seeds", "n_shots", "arms", "intermediates",
        ):  # fmt: skip
            values = getattr(self, name)
            if values is None:
                continue
            if not values or len(set(values)) < len(values):
                raise RequestError(
                    f"study.Study.{name} must be a list without repeats that is not empty, not"
                    f" {values!r}"
                )
        if MORE in self.intermediates and self.intermediate_steps is None:
            raise RequestError(
                f"the intermediate {MORE!r} trains in the source for as long as the others do: set"
                " study.Study.intermediate_steps"
            )
        lacking = [n for n in self.n_shots if n and n not in (self.few_shot or {})]
        if lacking:
            raise RequestError(
                f"study.Study.few_shot says nothing of {lacking[0]} shots: give its steps and"
                f' learning rate, e.g. {{{lacking[0]}: ("TRAIN_STEPS_RELATIVE = 100",)}}'
            )
