"""Contracts and fault servers that plug-in authors reuse in their own tests."""
