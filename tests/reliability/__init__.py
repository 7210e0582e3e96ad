"""Proofs that one request becomes one job: faults, kills and races, judged by a ledger at the far end."""
