"""``python -m prefect_runtime.cli``: the command line where the console script is not on the PATH."""

from prefect_runtime.cli import main

main()
