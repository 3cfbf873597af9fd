"""What the engine's tests share: T5X's numbers, a tiny world and a clean configuration."""

import dataclasses
import functools
import json
import os
import struct
from pathlib import Path

import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from tensorboardX.proto.event_pb2 import Event

from seqio_tasks import catalogue, data_config, vocabulary
from tests.support.tiny import TINY_MODEL, TINY_TASK, TINY_WORLD
from xfer_jax import configuration
from xfer_jax.checkpoints import store
from xfer_jax.engine import run_folder, train
from xfer_jax.mt5 import model, optimizer

T5X_FOLDER = Path(__file__).parents[1] / "fixtures" / "t5x"


@dataclasses.dataclass(frozen=True)
class T5X:
    """The numbers that T5X made (see the folder's README): a small mT5 and two batches."""

    folder: Path

    def json(self, name: str):
        return json.loads((self.folder / f"{name}.json").read_text())

    @functools.cached_property
    def reference(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / "reference.npz"))

    @functools.cached_property
    def adafactor(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / "adafactor.npz"))

    @functools.cached_property
    def flat_params(self) -> dict[str, np.ndarray]:
        return {
            name.removeprefix("target/"): array
            for name, array in np.load(self.folder / "params.npz").items()
        }

    @property
    def params(self) -> dict:
        return unflatten_dict(self.flat_params, sep="/")

    def batch(self, kind: str) -> dict[str, np.ndarray]:
        """Returns the features that the network reads of the `unpacked` or `packed` batch."""
        arrays = np.load(
            self.folder / {"unpacked": "batch.npz", "packed": "batch_packed.npz"}[kind]
        )
        # T5X's mT5 ignores the positions, and the weights are those of the targets.
        return {name: arrays[name] for name in arrays if "_tokens" in name or "_segment_" in name}

    def checkpoint(self, layout: str) -> Path:
        """Returns T5X's own checkpoint in its `orbax` or `legacy` layout; both hold `params`."""
        folder = os.environ.get("XFER_T5X_FIXTURES")
        if folder is None:
            pytest.skip("T5X's own checkpoints (4 MB each): XFER_T5X_FIXTURES does not name them")
        return Path(folder) / f"checkpoint_{layout}" / "checkpoint_30"

    @property
    def sizes(self) -> dict[str, int]:
        """Returns the network's sizes by the names of `xfer_jax.mt5.layers.Config`."""
        network = self.json("config")["network"]
        names = ("vocab_size", "emb_dim", "num_heads", "head_dim", "mlp_dim")
        return {n: network[n] for n in (*names, "num_encoder_layers", "num_decoder_layers")}


@pytest.fixture(scope="session")
def t5x() -> T5X:
    return T5X(T5X_FOLDER)


@pytest.fixture(scope="session")
def t5x_config(t5x):
    """T5X's small mT5, in float32 and without dropout, as the numbers were made."""
    return model.Config(**t5x.sizes, dropout_rate=0.0, dtype="float32")


@pytest.fixture(scope="session")
def t5x_module(t5x_config):
    return model.Transformer(t5x_config)


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(cache_dir):
    """Every run of the command line compiles its programs anew: within a session, not twice."""
    settings = {
        "jax_compilation_cache_dir": str(cache_dir / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.2,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))  # for the processes that tests start
        yield


@pytest.fixture(scope="module", autouse=True)
def _settings_of_the_shell_do_not_count():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XFER_DATA_DIR", "XFER_VOCAB"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def _no_bindings_of_other_tests():
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture
def tiny_world():
    """Makes the miniature languages tiny for one test; returns their vocabulary."""
    catalogue.families()  # imports the modules that the bindings are of
    gin.parse_config(TINY_WORLD)
    return vocabulary.of(data_config.configured(vocabulary_file=data_config.POCKET))


@pytest.fixture(scope="session")
def tiny_gin(tmp_path_factory) -> Path:
    """A gin file of the tiny world, a model of one layer a stack, and inference in English."""
    file = tmp_path_factory.mktemp("gin") / "tiny.gin"
    file.write_text(TINY_WORLD + TINY_MODEL + TINY_TASK)
    return file


@pytest.fixture(scope="session")
def command(tiny_gin):
    """Builds the arguments of a command on the tiny world from macros."""

    def arguments(name: str, **macros) -> list[str]:
        bindings = [f"--gin.{macro}={value!r}" for macro, value in macros.items()]
        return [name, f"--gin_file={tiny_gin}", *bindings]

    return arguments


@pytest.fixture
def earlier_run(command, tmp_path, tiny_world):
    """A run's folder as training leaves it at step 5, and the macros that it was made with."""
    folder = tmp_path / "earlier"
    macros = {"MODEL_DIR": str(folder), "TRAIN_STEPS": 8}
    _, file, *bindings = command("train", **macros)
    text = configuration.load(
        "train",
        [file.removeprefix("--gin_file=")],
        [binding.removeprefix("--gin.") for binding in bindings],
    )
    run_folder.claim(folder, text, {})
    request = configuration.build(train.Run)
    params = jax.tree.map(lambda x: jnp.ones(x.shape), model.parameter_shapes(request.model))
    tree = store.to_tree(params, optimizer.init(params), 5)
    about = {
        "first_step": 0,
        "task": request.training_data.task,
        "vocabulary_file": tiny_world.name,
    }
    store.save(folder, tree, about | {"vocabulary": tiny_world.digest})
    return folder, macros


@pytest.fixture(scope="session")
def events():
    """Reads the scalars of a folder's TensorBoard files as (tag, step, value)."""

    def read(folder: Path) -> list[tuple[str, int, float]]:
        found = []
        for path in sorted(folder.glob("events.out.tfevents.*")):
            content = path.read_bytes()
            while content:
                (length,) = struct.unpack("<Q", content[:8])  # then its checksum, event, checksum
                event = Event.FromString(content[12 : 12 + length])
                content = content[16 + length :]
                found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
        return found

    return read
