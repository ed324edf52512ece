"""The machine: mesh and shardings, memory, compiled programs, disk."""
