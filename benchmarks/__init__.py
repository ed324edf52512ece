"""What is measured, not tested: `python -m benchmarks.NAME --help`."""
