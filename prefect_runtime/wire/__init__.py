"""The contract both sides of a runtime share: documents, codec, errors. Imports nothing above it."""
