"""A study: its jobs, what they cost, how they are run and collected."""
