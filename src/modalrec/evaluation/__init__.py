"""Measuring: one evaluator over the full catalogue, its metrics, cheap baselines, code usage, and the report."""
