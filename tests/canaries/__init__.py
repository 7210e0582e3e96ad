"""Twelve secrets that all tests use, and who looks for them where they must not be."""
