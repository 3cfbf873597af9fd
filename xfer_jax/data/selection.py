"""Which examples a run trains and evaluates on, and how they are batched."""

from typing import Any, ClassVar, Literal

import gin

from seqio_tasks import catalogue
from seqio_tasks.errors import RequestError
from seqio_tasks.records import Task
from seqio_tasks.settings import AboveZero, BatchSize, Count, Line, Lines, settings
from xfer_jax.data import streams

EVAL_MACROS = {
    "tasks": "EVAL_TASKS",
    "lengths": "TASK_FEATURE_LENGTHS",
    "split": "EVAL_SPLIT",
    "batch_size": "EVAL_BATCH_SIZE",
    "examples": "EVALUATOR_NUM_EXAMPLES",
}


@gin.configurable(module="xfer_jax.data.selection")
@settings(
    {"task": "MIXTURE_OR_TASK_NAME", "split": "TRAIN_SPLIT", "lengths": "TASK_FEATURE_LENGTHS"}
)
class TrainingData:
    """The examples that a model is trained on."""

    task: Line  # name of a task or mixture
    lengths: dict[str, Any]  # maximum numbers of tokens of 'inputs' and 'targets'
    split: Line = "train"
    batch_size: BatchSize | None = 128  # examples per step
    # Instead: as many examples per step as have so many tokens of inputs in the mean, without
    # padding. The mT5 release counts its batches so: 2^17 are 128 packed rows of 1,024.
    batch_tokens: Count | None = None
    # Parts of a batch that are computed one after another; None: as few as fit the device.
    num_microbatches: Count | None = None
    long_targets: Literal["error", "drop", "trim"] = "error"  # for targets over their length
    # The tasks of a mixture are sampled in proportion to their number of examples to the power of
    # 1 / temperature (Raffel et al. 2020, arXiv 1910.10683, 3.5.2); None: in equal parts.
    mixing_temperature: AboveZero | None = None

    def __post_init__(self):
        streams.check_lengths(self.lengths)
        for task in catalogue.tasks(self.task):
            task.check_split(self.split, "TRAIN_SPLIT: ")
        if (self.batch_size is None) == (self.batch_tokens is None):
            raise RequestError(
                "set BATCH_SIZE, in examples, or BATCH_TOKENS, in tokens of inputs, and the other"
                f" to None (BATCH_SIZE is {self.batch_size}, BATCH_TOKENS is {self.batch_tokens})"
            )


@gin.configurable(module="xfer_jax.data.selection")
@settings(EVAL_MACROS)
class EvalData:
    """The examples that a model is evaluated on."""

    LENGTHS: ClassVar[str] = EVAL_MACROS["lengths"]  # the macro, for error messages

    tasks: Lines  # names of tasks or mixtures
    lengths: dict[str, Any]  # maximum numbers of tokens of 'inputs' and 'targets'
    split: Line = "validation"
    batch_size: BatchSize = 256  # examples decoded at a time
    examples: Count | None = None  # sample size per task; None: all examples

    def __post_init__(self):
        streams.check_lengths(self.lengths, self.LENGTHS)
        for task in self.resolved():
            task.check_split(self.split, "EVAL_SPLIT: ")

    def resolved(self) -> list[Task]:
        """Returns the tasks, those of mixtures one by one."""
        return [task for name in self.tasks for task in catalogue.tasks(name)]
