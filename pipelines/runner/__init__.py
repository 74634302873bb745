"""What the commands of `python -m pipelines` do: find recipes, compile, validate, run locally, submit."""
