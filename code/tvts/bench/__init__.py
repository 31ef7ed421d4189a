"""Benchmarks: measured on request (`tvts bench ...`), never asserted in a test."""
