"""Every benchmark of speed that this machine has the packages for, and a table of what they found.

    make bench        # or: python -m benchmarks

Writes `benchmarks/results/*.json` and `benchmarks/results/README.md`. Peers that are not installed
are left out: Hugging Face's comes with the extra `parity`, T5X's when it can be imported.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import peers, record, train_step

ALL = (
    "train_step", "decode", "loss_memory", "input_pipeline", "startup", "analysis", "study",
    "verified_restore",
)  # fmt: skip
TITLES = {
    peers.OURS: "xfer-jax",
    peers.EAGER: "Hugging Face, eager",
    peers.LARGE_PAGES: "Hugging Face, eager, large pages",
    peers.COMPILED: "Hugging Face, `torch.compile`",
    peers.T5X: "T5X's network and Adafactor",
}


def read(folder: Path, name: str) -> dict[str, Any]:
    """Returns what a benchmark found."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def steps_table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Returns the lines of a table of engines at one kind of training."""
    lines = [
        "| | examples/s | tokens/s | padding | peak memory | utilisation | xfer-jax is faster by |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, of in found.items():
        spread = ""
        if name != peers.OURS:
            ratios = train_step.ratios(of)
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(
            f"| {TITLES[name]} | {of['examples_per_second']:.2f} | {of['tokens_per_second']:.0f}"
            f" | {of['padding']:.0%} | {of['peak_bytes'] / 2**30:.2f} GiB"
            f" | {of['utilisation']:.0%} | {spread} |"
        )
    return lines


def page(folder: Path) -> str:
    """Renders what all benchmarks found."""
    steps, decoding = read(folder, "train_step"), read(folder, "decode")
    memory, pipeline = read(folder, "loss_memory"), read(folder, "input_pipeline")
    started, analysed = read(folder, "startup")["seconds"], read(folder, "analysis")
    machine = steps["machine"]
    pieces = memory["rows"]
    greedy = {k: of for k, of in decoding["greedy"].items() if isinstance(of, dict)}
    labels = decoding["labels"]
    lines = [
        "# Speed",
        "",
        f"Measured by the commands of `make bench` on {steps['date']}: {machine['processor']},"
        f" {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']},"
        f" Python {machine['python']}, jax {machine['jax']}; a float32 matrix product reaches"
        f" {steps['matmul_gflops']:.0f} GFLOP/s."
        " GPU and TPU: not measured.",
        "",
        "mT5-small's shape with all 250,112 pieces, float32, dropout 0.1, Adafactor. Utilisation is"
        " the operations of the real tokens (three times a forward pass, `cost.forward_flops`) by"
        " the time and by what a matrix product reaches. Peak memory is the process's while it"
        " trains. xfer-jax and one of the others take turns, which begin with two steps that are"
        " not timed. xfer-jax asks for large pages of memory (`GLIBC_TUNABLES`) by itself; what"
        " Hugging Face does when it is started with them is a row of its own.",
        "",
        "**16 examples of 128 and 8 tokens, no padding**",
        "",
        *steps_table(steps["full"]),
        "",
        "**Examples as long as XNLI's, 16 a step**, padded or packed as each does it",
        "",
        *steps_table(steps["mix"]),
        "",
        "| decoding | examples/s | |",
        "|---|---|---|",
        *(
            f"| greedy, {TITLES[name]} | {of['examples_per_second']:.1f} |"
            f" {decoding['rows']} x {decoding['inputs']} tokens, {decoding['outputs']} out;"
            f" {decoding['greedy'].get('equal_tokens', float('nan')):.0%} of the tokens equal |"
            for name, of in greedy.items()
        ),
        f"| labels, chosen | {labels['labels']['examples_per_second']:.1f} | of three |",
        f"| labels, greedy | {labels['greedy']['examples_per_second']:.1f} | two tokens |",
        "",
        f"Memory of the loss from {pieces[0]['length']} to {pieces[-1]['length']} target tokens of"
        f" eight sequences: {pieces[0]['pieces_bytes'] / 2**30:.2f} to"
        f" {pieces[-1]['pieces_bytes'] / 2**30:.2f} GiB; with all logits at once"
        f" {pieces[0]['whole_bytes'] / 2**30:.2f} to {pieces[-1]['whole_bytes'] / 2**30:.2f}.",
        "",
        "![Memory of the loss](loss_memory.svg)",
        "",
        f"Input pipeline: {pipeline['examples_per_second']:,} examples/s,"
        f" {pipeline.get('times_the_step', '?')} times what the step consumes."
        f" `--help`: {started['help']:.2f} s; opening a cached task:"
        f" {started['open_cached_task'] * 1000:.0f} ms; twelve steps of a pocket model in a new"
        f" process: {started['twelve_steps_cold']:.0f} s, and {started['twelve_steps_warm']:.0f} s"
        " when its programs are kept from before.",
        "",
        f"Analysis of {analysed['sources']} x {analysed['targets']} languages:"
        f" {sum(analysed['seconds'].values()):.0f} s, {analysed['peak_bytes'] / 2**20:.0f} MiB.",
        "",
    ]
    if (folder / "retrieval.json").is_file():
        of = read(folder, "retrieval")
        lines += [
            f"Exact search of the best {of['k']} for {of['size']:,} queries among {of['size']:,}"
            f" vectors of {of['width']}, by `benchmarks.retrieval`: {of['seconds']:.0f} s,"
            f" {of['ratio']:.0%} of a matrix product's rate in the same minutes,"
            f" {of['peak_bytes'] / 2**30:.1f} GiB.",
            "",
        ]
    if (folder / "verified_restore.json").is_file():
        of = read(folder, "verified_restore")
        lines += [
            f"Restoring a checkpoint of mT5-base's shape ({of['bytes'] / 2**30:.1f} GiB) takes"
            f" {of['ratio']:.2f} times as long when its hashes are compared meanwhile.",
            "",
        ]
    if (folder / "study.json").is_file():
        of = read(folder, "study")
        each = of["t5x_seconds"]
        evaluating = [value for key, value in each.items() if key != "train"]
        lines += [
            f"A study of {of['source_models']} pocket models, {of['steps']} steps each, and"
            f" {of['cells']} cells: {of['seconds']:.0f} s. Of T5X a process that trains takes"
            f" {each['train']:.0f} s, one that scores a cell"
            f" {sum(evaluating) / len(evaluating):.0f} s: together {of['t5x_seconds_computed']:.0f}"
            f" s (computed), {of['ratio']:.1f} times as long; where every cell's process trains its"
            f" own source model, {of['ratio_cell_by_cell']:.0f} times.",
            "",
        ]
    return "\n".join(lines)


def main() -> int:
    """Runs them one after the other, each a process of its own; returns the exit code."""
    for name in ALL:
        print(f"\n--- {name}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        if code:
            return code
    path = record.RESULTS / "README.md"
    path.write_text(page(record.RESULTS), encoding="utf-8")
    print(f"\nwrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
