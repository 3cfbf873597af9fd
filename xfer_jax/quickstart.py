"""A first look, `make quickstart`: miniature languages, a pocket mT5, no download, minutes.

Runs the pocket study: pre-trains a pocket mT5 on the text of ten miniature languages, probes how
well it knows each, fine-tunes it on named entities in each, and evaluates each model on all ten.
Then it correlates the scores with language features, and draws the results on one page.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from seqio_tasks import data_config, miniature
from xfer_jax import configuration, report
from xfer_jax.analysis import analyze
from xfer_jax.cli import exit_codes
from xfer_jax.report import figures
from xfer_jax.results import score_table
from xfer_jax.runtime import host_memory, progress
from xfer_jax.study import collect, definition, execution, job_graph

FILE = "gin/studies/pocket.gin"
OUT = Path("out/quickstart")


def main(out: Path = OUT) -> None:
    """Runs everything; what is done already is not done again.

    Args:
      out: folder for checkpoints, scores and the picture.
    """
    began = time.monotonic()
    out = out.absolute()
    configuration.load("study", [FILE], [])
    study = configuration.build(definition.Study)
    world = data_config.configured().world
    workers = execution.machine_workers()
    progress.say(
        f"the pocket study: {len(job_graph.lay_out(study))} runs by {workers} workers, into {out}\n"
        f"  follow it with: xfer-jax study status {FILE} --out {out}\n"
    )
    execution.run(study, out, workers)
    table = score_table.read(out / collect.FILE).table
    cells = table.set_index(["source", "target"])["score"].to_dict()
    picture = draw(cells, world, out / "transfer.png")
    why = analyze.analyze(analyze.Request([out], out / "analysis"))
    page = report.report(out / "analysis")
    alike, unlike = collect.thirds(cells, world.syntactic_similarity)
    progress.say(f"\n{why}")
    progress.say(
        "\nThese languages are invented: their word order and affixes are those of ar, bn, … hi in"
        "\nWALS, their words are made up. They test the tool and say nothing about real languages."
        f"\nMean score in another language: {alike:.1f} for the third of the pairs with the most"
        f" similar grammars,\n{unlike:.1f} for the third with the least similar grammars."
        f"\npicture: {picture}\nreport:  {page}\ndone in {time.monotonic() - began:.0f} s"
    )


def draw(cells: Mapping[tuple[str, str], float], world: miniature.World, path: Path) -> Path:
    """Draws the matrix of scores; languages with similar grammars are neighbours."""
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
