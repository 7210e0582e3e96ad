"""The contract both sides of a runtime share. Imports nothing above it.

models, fields, metrics      documents: jobs, programs, and their single values
codec                        values <-> JSON text; its parts: arrays, qiskit_values, plain_values, spans, client_side
json_text, digests           what is read is within limits, and is what was written
errors                       every error, in one tree
redaction, logs              no secret in a text
discovery_file, environment  where an embedded runtime is
"""
