"""The page that says what an analysis found: `xfer-jax report DIR` writes DIR/report.html.

`reading` checks the tables that `analyze` left, `sections` computes what is shown, `figures` draws,
and the templates hold every word of HTML. The page needs no other file and no network; every figure
also stands in DIR/figures, as SVG and as the numbers it was drawn from. A folder may come from a
stranger: whatever is read from it is escaped, and no link in it is followed for writing.
"""

from xfer_jax.report.page import FILE, report

__all__ = ["FILE", "report"]
