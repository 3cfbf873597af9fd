"""Greedy decoding beside Hugging Face's `generate`, and label choice beside greedy decoding.

    python -m benchmarks.decode

mT5-small's shape, float32, the same weights and inputs; engines are processes that take turns, and
their tokens must be equal. The weights are drawn, so that sequences do not end by themselves: every
engine emits as many tokens. Labels are XNLI's three, a token and an end of sequence each; what they
save depends on how much longer inputs are than outputs.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peers, record, train_step
from benchmarks.peers import Batch

ROWS, INPUTS, OUTPUTS = 32, 48, 16
LABELS = ((310, 1), (333, 1), (356, 1))


def batches(outputs: int) -> list[Batch]:
    """Returns one batch of full rows; the width of its targets is how many tokens to emit."""
    inputs = np.random.default_rng(3).integers(5, 250000, (ROWS, INPUTS), dtype=np.int32)
    return [{"inputs": inputs, "targets": np.zeros((ROWS, outputs), np.int32)}]


def take_turns(engines: dict[str, peers.Engine], rounds: int) -> dict[str, dict[str, Any]]:
    """Returns what each engine did, after once to warm up, and once more before every turn."""
    first = {name: engine.run(0) for name, engine in engines.items()}
    replies: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            engine.run(0)  # the kernel has taken the memory back meanwhile
            replies[name].append(engine.run(0))
    return {
        name: {
            "seconds": [round(reply["seconds"], 3) for reply in of],
            "examples_per_second": round(
                ROWS / float(np.median([reply["seconds"] for reply in of])), 2
            ),
            "warm_up_seconds": round(first[name]["seconds"], 1),
            "peak_bytes": of[-1]["peak_bytes"],
            "result": of[-1]["result"],
        }
        for name, of in replies.items()
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    args = parser.parse_args(argv)
    results: dict[str, Any] = {"rows": ROWS, "inputs": INPUTS, "outputs": OUTPUTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train_step.write_weights(folder, train_step.SIZES)
        (folder / "labels.json").write_text(json.dumps(LABELS))
        for work, of_engines in {
            "greedy": {
                engine: ("generate", batches(OUTPUTS))
                for engine in (peers.OURS, peers.EAGER)
                if peers.available(engine)
            },
            "labels": {"labels": ("labels", batches(2)), "greedy": ("generate", batches(2))},
        }.items():
            engines = {
                title: peers.Engine(title if work == "greedy" else peers.OURS, folder, kind, batch)
                for title, (kind, batch) in of_engines.items()
            }
            found = take_turns(engines, args.rounds)
            for engine in engines.values():
                engine.close()
            outputs = {title: of.pop("result") for title, of in found.items()}
            if work == "greedy" and len(outputs) == 2:
                same = np.mean(np.asarray(outputs[peers.OURS]) == np.asarray(outputs[peers.EAGER]))
                found["equal_tokens"] = float(same)
            results[work] = found
            rates = {
                t: of["examples_per_second"] for t, of in found.items() if isinstance(of, dict)
            }
            best = next(iter(rates))
            print(f"\n{work}:", "equal tokens:", found.get("equal_tokens", "-"))
            for title, rate in rates.items():
                print(f"  {title:<10} {rate:>8.2f} examples/s   x{rates[best] / rate:.2f}")
    print(f"wrote {record.keep('decode', results, args.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
