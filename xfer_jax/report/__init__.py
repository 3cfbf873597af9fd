"""Makes an HTML page from the results of an analysis: `xfer-jax report DIR` writes DIR/report.html.

`reading` checks the tables that `analyze` wrote, `sections` computes what is shown, `figures`
draws, and the templates contain all text of the page. The page needs no other file and no network.
Every figure is also saved in DIR/figures, as SVG and as a CSV file of its numbers. The folder is
not trusted: everything that is read from it is escaped, and writing follows no link in it.
"""

from xfer_jax.report.page import FILE, report

__all__ = ["FILE", "report"]
