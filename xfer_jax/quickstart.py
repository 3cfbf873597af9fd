"""A first look, `make quickstart`: miniature languages, a pocket mT5, no download, minutes.

Runs the pocket study: pre-trains a pocket mT5 on the text of ten miniature languages, fine-tunes it
on named entities in each, and asks each model in all ten. Then probes what it knew of each language
before, says what goes together with the scores, and draws it all on one page.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from seqio_tasks import miniature
from xfer_jax import configuration, report
from xfer_jax.analysis import analyze
from xfer_jax.cli import exit_codes
from xfer_jax.engine import probe
from xfer_jax.report import figures
from xfer_jax.runtime import compilation, host_memory, progress
from xfer_jax.study import definition, execution, job_graph, scores

FILE = "gin/studies/pocket.gin"
OUT = Path("out/quickstart")


def main(out: Path = OUT) -> None:
    """Runs it all; what was finished before is not done again.

    Args:
      out: folder for checkpoints, scores and the picture.
    """
    began = time.monotonic()
    out = out.absolute()
    configuration.load("study", [FILE], [])
    grid = configuration.build(definition.Study)
    workers = execution.machine_workers()
    progress.say(
        f"the pocket study: {len(job_graph.lay_out(grid))} runs by {workers} workers, into {out}\n"
        f"  follow it with: xfer-jax study status {FILE} --out {out}\n"
    )
    execution.run(grid, out, workers)
    rows, _ = scores.collect(grid, out)
    cells = {(row["source"], row["target"]): row["score"] for row in rows}
    picture = draw(cells, out / "transfer.png")
    probe_pretrained(out)
    why = analyze.analyze(analyze.Request([out], out / "analysis"))
    page = report.report(out / "analysis")
    alike, unlike = scores.thirds(cells, miniature.World().syntactic_similarity)
    progress.say(f"\n{why}")
    progress.say(
        "\nThese are made-up languages: word order and affixes are those that WALS gives for"
        "\nar, bn, … hi; the words are invented. They test the tool, not the languages."
        f"\nAsked in another language, models score {alike:.1f} on the third of the pairs whose"
        f" grammars\nare most alike, and {unlike:.1f} on the third whose grammars are least alike."
        f"\npicture: {picture}\nreport:  {page}\ndone in {time.monotonic() - began:.0f} s"
    )


def probe_pretrained(out: Path) -> None:
    """Probes the pre-trained model with the text that the source models were taught on."""
    compilation.keep_programs()
    bindings = [
        f"CHECKPOINT_PATH = {str(out / 'pretrained')!r}",
        f"PROBE_OUTPUT_DIR = {str(out / 'probe')!r}",
        "PROBE_FEATURE_LENGTHS = {'inputs': 64, 'targets': 16}",
        "EVALUATOR_NUM_EXAMPLES = 500",
    ]
    files = ["gin/models/pocket.gin", "gin/tasks/pocket_ner.gin"]
    text = configuration.load("probe", files, bindings)
    probe.probe(configuration.build(probe.Probe), text)


def draw(cells: Mapping[tuple[str, str], float], path: Path) -> Path:
    """Draws the scores, languages of like grammar next to each other."""
    world = miniature.World()
    grammars = {code: world.grammar(code) for code in miniature.LANGUAGES}
    order = sorted(grammars, key=lambda c: (grammars[c].order, grammars[c].adposition))
    labels = {}
    for code in order:
        side = "prepositions" if grammars[code].adposition == "before" else "postpositions"
        labels[code] = f"{grammars[code].order}, {side}   {code}"
    figure = figures.matrix(
        cells,
        labels,
        "Named entities: fine-tuned on one language, evaluated on another",
        "Miniature languages with the word order of real ones; span F1, percent",
    )
    return figures.save(figure, path)


if __name__ == "__main__":
    host_memory.restart_with_large_pages()
    sys.exit(exit_codes.report(main))
