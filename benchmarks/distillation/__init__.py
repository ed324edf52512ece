"""Distillation beside other tools: same models, same tokens, same loss.

`work` is what they share and imports numpy alone; `launch_*` are run inside an
environment of benchmarks.side_by_side; `__main__` alternates them.
"""
