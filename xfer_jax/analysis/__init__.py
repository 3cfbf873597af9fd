"""Analyses scores: correlations, regressions, learning curves, gains. Never imports the engine."""
