"""A real Prefect server, a real embedded runtime, real flows."""
