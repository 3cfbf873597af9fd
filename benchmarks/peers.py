"""Engines that do the same work: this one, Hugging Face's on PyTorch, T5X's own network.

Each is a process of its own (`python -m benchmarks.peers ENGINE FOLDER`), which loads the folder's
weights and works through its batches as it is told, so that engines are timed in turn on the same
machine. FOLDER holds a Hugging Face checkpoint, which all three read, and `ENGINE.npz`.
"""

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xfer_jax.runtime import host_memory

OURS, EAGER, COMPILED, T5X = "xfer-jax", "hf-eager", "hf-compile", "t5x"
LARGE_PAGES = "hf-large-pages"  # eager, with the kernel asked for memory as this engine asks
LEARNING_RATE, Z_LOSS = 1e-3, 1e-4
# `inputs` [B, K] and `targets` [B, L], int32, 0 is padding; or this engine's own features
Batch = dict[str, np.ndarray]
Work = Callable[[Batch], Any]


def available(engine: str) -> bool:
    """Whether the packages of an engine are installed."""
    needed = {OURS: "jax", T5X: "t5x"}.get(engine, "transformers")
    return importlib.util.find_spec(needed) is not None


# --- The side that times --------------------------------------------------------------------------


class Engine:
    """An engine in a process of its own, that does what it is told and then waits."""

    def __init__(self, name: str, folder: Path, work: str, batches: list[Batch]):
        """Starts it.

        Args:
          name: of the engine.
          folder: with the weights.
          work: `train`, `generate` or `labels`.
          batches: what it works on.
        """
        self.name, self.batches = name, batches
        arrays = {f"{i}/{key}": x for i, batch in enumerate(batches) for key, x in batch.items()}
        np.savez(folder / f"{name}.npz", **arrays)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers", name, str(folder), work],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"JAX_COMPILATION_CACHE_DIR": str(folder / "programs")}
            | ({host_memory.SETTINGS: host_memory.LARGE_PAGES} if name == LARGE_PAGES else {}),
        )
        self.load_seconds = self._reply()["seconds"]

    def run(self, index: int) -> dict[str, Any]:
        """Does one batch; returns its `seconds`, its `result` and, so far, `peak_bytes`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{index}\n")
        self._process.stdin.flush()
        return self._reply()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{self.name} ended with exit code {self._process.wait()}")


# --- The side that works --------------------------------------------------------------------------


def _ours(folder: Path, work: str) -> Work:
    import jax

    from xfer_jax.engine import train_step
    from xfer_jax.mt5 import decoding, model, partitioning
    from xfer_jax.mt5.model import Transformer

    config = model.Config(**json.loads((folder / "sizes.json").read_text()))
    mesh = partitioning.make_mesh(1)
    params = _weights(folder, config, mesh)
    programs = train_step.programs(config, mesh)
    if work == "train":
        update = train_step.compiled(config, mesh, train_step.Update(Z_LOSS, 1.0))
        state = programs.fresh(params)

        def step(batch: Batch) -> float:
            nonlocal params, state
            on_mesh = partitioning.place(mesh, _features(batch))
            seed, rate = np.uint32(0), np.float32(LEARNING_RATE)
            params, state, sums = update(params, state, on_mesh, seed, rate)
            host_memory.give_back()
            jax.block_until_ready(params)
            return float((sums["loss"] - sums["z_loss"]) / sums["weight"])

        return step
    module = Transformer(config)
    if work == "labels":
        labels = tuple(tuple(x) for x in json.loads((folder / "labels.json").read_text()))
        return lambda batch: np.asarray(
            decoding.choose_label(module, params, batch["inputs"], labels)
        ).tolist()

    def generate(batch: Batch) -> list:
        longest = batch["targets"].shape[1]
        return np.asarray(decoding.greedy_tokens(module, params, batch["inputs"], longest)).tolist()

    return generate


def _weights(folder: Path, config: Any, mesh: Any) -> dict:
    from xfer_jax.checkpoints import store
    from xfer_jax.engine import train_step

    like = train_step.layout(config, mesh)
    like = {"target": like["target"], "state": {"step": like["state"]["step"]}}
    return store.restore(folder, like)["target"]


def _features(batch: Batch) -> Batch:
    if "inputs" not in batch:
        return batch
    targets = batch["targets"]
    return {
        "encoder_input_tokens": batch["inputs"],
        "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": targets,
    }


def _hugging_face(folder: Path, work: str, compiled: bool) -> Work:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    network = transformers.MT5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    forward = torch.compile(network) if compiled else network

    def tensor(array: np.ndarray) -> Any:
        return torch.from_numpy(array.astype(np.int64))

    if work == "train":
        network.train()
        # T5X's settings of Adafactor, which are also the ones that the library advises for T5
        optimizer = transformers.Adafactor(
            network.parameters(), lr=LEARNING_RATE, relative_step=False, scale_parameter=True
        )

        def step(batch: Batch) -> float:
            inputs, labels = tensor(batch["inputs"]), tensor(batch["targets"])
            labels = labels.masked_fill(labels == 0, -100)
            optimizer.zero_grad(set_to_none=True)
            loss = forward(input_ids=inputs, attention_mask=inputs > 0, labels=labels).loss
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        return step
    network.eval()

    def generate(batch: Batch) -> list:
        inputs = tensor(batch["inputs"])
        with torch.inference_mode():
            out = network.generate(
                inputs,
                attention_mask=inputs > 0,
                max_new_tokens=batch["targets"].shape[1],
                do_sample=False,
                num_beams=1,
            )
        return out[:, 1:].tolist()

    return generate


def _t5x(folder: Path, work: str) -> Work:
    import jax
    import jax.numpy as jnp
    from t5x import adafactor, losses
    from t5x.examples.t5 import network

    from xfer_jax.mt5 import model, partitioning

    assert work == "train"
    sizes = json.loads((folder / "sizes.json").read_text())
    config = model.Config(**sizes)
    t5_config = network.T5Config(
        **sizes, mlp_activations=("gelu", "linear"), logits_via_embedding=False
    )
    module = network.Transformer(t5_config)
    params = _weights(folder, config, partitioning.make_mesh(1))
    definition = adafactor.Adafactor(
        LEARNING_RATE,
        decay_rate=0.8,
        step_offset=0,
        logical_factor_rules=adafactor.standard_logical_factor_rules(),
    )
    definition.set_param_axes(_named(model.logical_axes(config)))
    optimizer = jax.jit(definition.create, donate_argnums=0)(params)

    def update(optimizer: Any, batch: Batch, seed: Any) -> Any:
        targets = batch["decoder_target_tokens"]

        def loss_of(params: dict) -> Any:
            rngs = {"dropout": jax.random.key(seed)}
            logits = module.apply(
                {"params": params}, **batch, enable_dropout=True, decode=False, rngs=rngs
            )
            loss, z_loss, weight = losses.compute_weighted_cross_entropy(
                logits, targets, (targets > 0).astype(jnp.float32), z_loss=Z_LOSS
            )
            return loss, (loss - z_loss) / weight

        (_, mean), gradients = jax.value_and_grad(loss_of, has_aux=True)(optimizer.target)
        return optimizer.apply_gradient(gradients, learning_rate=LEARNING_RATE), mean

    program = jax.jit(update, donate_argnums=0)
    seeds = itertools.count()  # of the dropout masks

    def step(batch: Batch) -> float:
        nonlocal optimizer
        optimizer, mean = program(optimizer, _features(batch), np.uint32(next(seeds)))
        jax.block_until_ready(optimizer.target)
        return float(mean)

    return step


def _named(axes: dict) -> dict:
    import jax
    from jax.sharding import PartitionSpec

    return jax.tree.map(lambda x: PartitionSpec(*x), axes, is_leaf=lambda x: isinstance(x, tuple))


def _peak() -> int:
    """Returns the most memory that this process has held since `_forget_peak`, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Works off what comes on standard input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    parser.add_argument("folder", type=Path)
    parser.add_argument("work")
    args = parser.parse_args()
    if args.engine == OURS:
        host_memory.restart_with_large_pages()  # as the command does
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print
    began = time.monotonic()
    work = {
        OURS: lambda: _ours(args.folder, args.work),
        EAGER: lambda: _hugging_face(args.folder, args.work, compiled=False),
        LARGE_PAGES: lambda: _hugging_face(args.folder, args.work, compiled=False),
        COMPILED: lambda: _hugging_face(args.folder, args.work, compiled=True),
        T5X: lambda: _t5x(args.folder, args.work),
    }[args.engine]()
    with np.load(args.folder / f"{args.engine}.npz") as arrays:
        names = list(arrays)
        batches: dict[int, Batch] = {}
        for name in names:
            index, key = name.split("/")
            batches.setdefault(int(index), {})[key] = arrays[name]
    print(json.dumps({"seconds": time.monotonic() - began}), file=out, flush=True)
    _forget_peak()
    for line in sys.stdin:
        began = time.monotonic()
        result = work(batches[int(line)])
        seconds = time.monotonic() - began
        reply = {"seconds": seconds, "result": result, "peak_bytes": _peak()}
        print(json.dumps(reply), file=out, flush=True)


if __name__ == "__main__":
    main()
