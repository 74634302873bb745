"""Multimodal recommender training: one function per stage, the same on a laptop and on Kubeflow."""

__version__ = "0.1.0"
