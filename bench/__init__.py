"""Benchmarks: each path beside its peer or its limit, both measured in the same run (docs/benchmarks.md)."""
