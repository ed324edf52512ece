"""One piece of work done by several tools, each in an environment of its own.

`work` is what they share and imports numpy alone; `launch_*` are run inside an
environment; `__main__` alternates them.
"""
