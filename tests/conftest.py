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
# What takes minutes is begun first, the longest before the others, or one process would still be at
# it when the others are done. Names of files, and of a folder.
_FIRST = ("study", "test_study", "test_partitioning", "test_xtreme_r", "test_train", "test_page",
          "test_registry", "test_optimizer", "test_analyze", "test_model", "test_odd_but_right",
          "test_decoding", "test_probes", "test_huggingface", "test_loss")  # fmt: skip
_SLOW = ("study", "test_study", "test_emission")  # as a whole


def pytest_collection_modifyitems(items):
    def places(item: pytest.Item) -> tuple[str, str]:
        return item.path.parent.name, item.path.stem

    def turn(item: pytest.Item) -> int:
        return min((_FIRST.index(name) for name in places(item) if name in _FIRST), default=99)

    for item in items:
        if set(places(item)) & set(_SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=turn)


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory):
    """A cache folder of this session's own, for this process and those that it starts."""
    folder = tmp_path_factory.mktemp("xfer-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFER_CACHE_DIR", str(folder))
        yield folder
