"""The paper's benchmarks as scores, as a table and as a page."""
