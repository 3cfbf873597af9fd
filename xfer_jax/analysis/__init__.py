"""What scores say: correlations, regressions, growth, gains. Never imports the engine."""
