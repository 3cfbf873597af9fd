"""A job of a study: one run, and the chain of runs whose model it goes on from."""

import dataclasses
from collections.abc import Iterator

from xfer_jax.study.definition import SAME, Stage


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of `train`, `probe` or `retrieve`."""

    stage: Stage
    parent: "Job | None"  # whose model it starts from; None: the initial checkpoint, or a new model
    task: str  # file of gin/tasks; for retrieval, the task
    targets: tuple[str, ...] = ()  # languages that it is evaluated on
    language: str = ""  # that it is trained on; '': as the task's file says
    variant: str = ""  # of the stage: 'n100'
    subset: str = ""  # of the training data: 'n100.s0'
    seed: int | None = None  # None: it does not train

    @property
    def name(self) -> str:
        """The job's folder in the study's: 'pretrained/pocket_text.s0/ner/pocket_ner.en.s0'."""
        seed = "" if self.seed is None else f"s{self.seed}"
        own = ".".join(filter(None, (self.task, self.language, self.variant, seed)))
        before = f"{self.parent.name}/" if self.parent else ""
        return f"{before}{self.stage.name}/{own}"

    @property
    def group(self) -> tuple[str, str]:
        """The stage, with its variant, and the task: jobs of a group cost the same."""
        return f"{self.stage.name} {self.variant}".rstrip(), self.task

    @property
    def chain(self) -> Iterator["Job"]:
        """The jobs whose models it goes on from, the first of all first; the last is this one."""
        if self.parent:
            yield from self.parent.chain
        yield self

    @property
    def is_few_shot(self) -> bool:
        """Whether it goes on from a source model in the one language that it is evaluated on."""
        return self.stage.score_on == SAME and self.parent is not None and bool(self.parent.targets)

    @property
    def source_model(self) -> "Job":
        """The job that was trained on the source language: itself, or a few-shot job's parent."""
        return self.parent if self.is_few_shot and self.parent else self
