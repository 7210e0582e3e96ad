"""Imported by the process that workers are forked from, and by no other: its import changes that process.

Process.py names it as one of the modules to load there.
"""

from __future__ import annotations

import warnings

from prefect_runtime.local.confinement import adopt_orphans

# A program that forks and dies leaves children behind: they become this process's, where process.py finds them.
adopt_orphans()
# It is meant to reap those, too; Python's forkserver warns of each.
warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")
