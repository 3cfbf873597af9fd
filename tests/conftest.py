"""What all tests share: the user's own caches are neither read nor written."""

import os

import hypothesis
import pytest

# The same examples on every machine and in every run, however slow the machine.
hypothesis.settings.register_profile("same", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("same")

# Most of the tests' time goes into compiling small programs; unoptimised, by one thread (test
# processes share the cores) and by XLA's older emitter, that takes a third of it. Only set where
# nothing is: XLA_FLAGS="" runs the tests on the code that users run.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    " --xla_cpu_use_fusion_emitters=false",
)
# What takes minutes is begun first, or one process would still be at it when the others are done.
_FIRST = ("test_study.py", "test_partitioning.py", "test_train.py", "test_optimizer.py",
          "test_model.py", "test_decoding.py", "test_xtreme_r.py", "test_loss.py", "test_runs.py",
          "test_store.py", "test_convert.py", "test_speed.py")  # fmt: skip


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in _FIRST)


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory):
    """A cache folder of this session's own, for this process and those that it starts."""
    folder = tmp_path_factory.mktemp("xfer-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFER_CACHE_DIR", str(folder))
        yield folder
