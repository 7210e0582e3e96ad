"""What a client must know of circuits: to read, check and translate them, and to tell equal ones. Most need Qiskit.

Imported when a circuit is met: a client that has none loads no Qiskit.
"""
