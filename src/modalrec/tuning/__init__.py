"""Tuning: a Katib Experiment, run by Katib on a cluster or by Optuna on this machine.

The file is the same in both places. `experiment` reads it and refuses what Katib would refuse (`webhook`, `job`) and
what the trial's command would (`fields`); `search` runs it here; `katib` runs it on a cluster. Only the last one speaks
to Kubernetes: an Experiment is the format of a file, and reading it needs no cluster.
"""
