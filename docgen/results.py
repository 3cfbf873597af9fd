"""Tables of the published measurements, from `benchmarks/results`."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from docgen.markdown import code, table

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
_NAMES = {
    "xfer-jax": "xfer-jax",
    "hf-eager": "Hugging Face, eager",
    "hf-large-pages": "Hugging Face, eager, large pages",
    "hf-compile": "Hugging Face, `torch.compile`",
    "t5x": "T5X's network and Adafactor",
}
_CASES = {"full": "16 x 128 + 8 tokens, no padding", "mix": "as long as XNLI's examples"}
_SIMILARITY = {"syntactic_similarity": "grammar", "lexical_similarity": "words"}
_GIB = 2**30


def _read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}%"


def machine() -> str:
    """Which benchmark was run when, and on what."""
    rows = []
    for path in sorted(FOLDER.glob("*.json")):
        found = json.loads(path.read_text("utf-8"))
        of = found["machine"]
        device = f"{of['processor']}, {of['cores']} cores, {of['memory_gib']} GiB"
        rows.append((code(path.stem), found["date"], device, f"jax {of['jax']}"))
    return table(("file", "date", "machine", "version"), rows)


def worlds() -> str:
    """How many points the most similar third of pairs is above the least similar."""
    rows = []
    for world, of in sorted(_read("worlds")["margins"].items(), reverse=True):
        cells, seeds = [], 0
        for kind in _SIMILARITY:
            mean, low, high = of[kind]["mean_low_high"]
            seeds = len(of[kind]["by_seed"])
            cells.append(f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]")
        rows.append((world, *cells, str(seeds)))
    likeness = (f"pairs alike in {name}" for name in _SIMILARITY.values())
    return table(("planted", *likeness, "seeds"), rows)


def calibration() -> str:
    """How often tests reject at a nominal 5%."""
    found = _read("calibration")
    names = {"qap": "QAP", "qap_spearman": "QAP, Spearman", "within": "within", "wals": "WALS, FDR"}
    names["naive"] = "naive Pearson"
    rows = [
        (what, *(_percent(rejected[name]) for name in names))
        for what, rejected in found["rejected"].items()
    ]
    return table(("tables", *names.values()), rows)


def training() -> str:
    """Speed and memory of training beside the peers."""
    found, rows = _read("train_step"), []
    for case, title in _CASES.items():
        ours = found[case]["xfer-jax"]
        for name, of in found[case].items():
            faster = ""
            if name != "xfer-jax":
                ratios = sorted(
                    theirs / own
                    for theirs, own in zip(of["seconds"], of["ours_seconds"], strict=True)
                )
                faster = f"{ratios[len(ratios) // 2]:.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
            memory = f"{of['peak_bytes'] / _GIB:.2f} GiB"
            share = "" if name == "xfer-jax" else _percent(ours["peak_bytes"] / of["peak_bytes"], 0)
            rows.append(
                (title, _NAMES[name], f"{of['examples_per_second']:.2f}", memory, share,
                 _percent(of["utilisation"], 0), faster)
            )  # fmt: skip
    header = (
        "training", "who", "examples/s", "peak memory", "xfer-jax's memory, of it", "utilisation",
        "xfer-jax is faster by",
    )  # fmt: skip
    return table(header, rows)


def decoding() -> str:
    """Speed of decoding beside Hugging Face's."""
    found = _read("decode")
    size = f"{found['rows']} x {found['inputs']} tokens, {found['outputs']} out"
    rows = [
        (f"greedy, {_NAMES[name]}", f"{found['greedy'][name]['examples_per_second']:.1f}", size)
        for name in ("xfer-jax", "hf-eager")
    ]
    labels = found["labels"]
    rows += [
        (f"three labels, `PREDICT_BY = '{name}'`", f"{labels[name]['examples_per_second']:.1f}", "")
        for name in ("labels", "greedy")
    ]
    return table(("decoding", "examples/s", "size"), rows)


def loss_memory() -> str:
    """Memory of the loss by length, in pieces and with all logits at once."""
    rows = [
        (
            str(row["length"]),
            f"{row['pieces_bytes'] / _GIB:.2f}",
            f"{row['whole_bytes'] / _GIB:.2f}",
        )
        for row in _read("loss_memory")["rows"]
    ]
    return table(("target tokens", "in pieces, GiB", "all logits at once, GiB"), rows)


def study() -> str:
    """Time of a study beside T5X's."""
    found = _read("study")
    return table(
        ("a study of", "xfer-jax", "T5X, computed", "ratio", "ratio where every cell trains"),
        [
            (
                f"{found['source_models']} pocket models, {found['steps']} steps each,"
                f" {found['cells']} cells",
                f"{found['seconds']:.0f} s",
                f"{found['t5x_seconds_computed']:.0f} s",
                f"{found['ratio']:.1f}",
                f"{found['ratio_cell_by_cell']:.0f}",
            )
        ],
    )


def other() -> str:
    """Start-up, input, analysis, search and kills."""
    start, data = _read("startup")["seconds"], _read("input_pipeline")
    tables, search, kills = _read("analysis"), _read("retrieval"), _read("kill_resume")
    of = tables["seconds"]
    same = "none" if not kills["different"] else ", ".join(kills["different"])
    rows = [
        ("`xfer-jax --help`", f"{start['help']:.2f} s"),
        ("opening a cached task", f"{1000 * start['open_cached_task']:.0f} ms"),
        ("twelve steps of a pocket model in a new process", f"{start['twelve_steps_cold']:.0f} s"),
        ("the same, compiled programs kept from before", f"{start['twelve_steps_warm']:.0f} s"),
        (
            "input pipeline",
            f"{data['examples_per_second']:,} examples/s, {data['times_the_step']:,} times what a"
            " step consumes",
        ),
        (
            f"analysis and report of {tables['sources']} x {tables['targets']} languages,"
            f" {tables['features']} features, {tables['permutations']:,} permutations",
            f"{of['analyze']:.1f} + {of['report']:.1f} s, {tables['peak_bytes'] / _GIB:.2f} GiB",
        ),
        (
            f"exact search of the best {search['k']}, {search['size']:,} queries among as many"
            f" vectors of {search['width']}",
            f"{search['seconds']:.0f} s, {search['ratio']:.2f} of a matrix product's rate,"
            f" {search['peak_bytes'] / _GIB:.1f} GiB",
        ),
        (f"files that differ after {kills['kills']} kills of a study", same),
    ]
    return table(("what", "measured"), rows)


def intermediate() -> str:
    """Mean scores of the two studies of intermediate tasks, in targets other than the source."""
    worlds = {"syntax": "syntax", "neither": "neither"}
    means: dict[str, dict[str, list[float]]] = {}
    for world in worlds:
        with (FOLDER / "intermediate" / f"{world}.csv").open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                if row["source"] != row["target"]:
                    of = means.setdefault(row["intermediate"] or "none", {})
                    of.setdefault(world, []).append(float(row["score"]))
    rows = [
        (code(name), *(f"{sum(of[world]) / len(of[world]):.1f}" for world in worlds))
        for name, of in means.items()
    ]
    return table(("intermediate task", "syntax planted", "nothing planted"), rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "machines": machine,
    "worlds": worlds,
    "calibration": calibration,
    "training": training,
    "decoding": decoding,
    "loss_memory": loss_memory,
    "study_time": study,
    "other_measurements": other,
    "intermediate": intermediate,
}
