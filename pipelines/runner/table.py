"""The short table at the end of a run."""

import re
from collections.abc import Mapping

METRIC = re.compile(r"(?:(?P<row>.+?)_)??(?P<column>(?:(?:warm|cold)_)?(?:recall|ndcg|mrr)_\d+)")
COLUMNS = ("recall_10", "ndcg_10", "mrr_10")
WARMTH = ("warm_recall_10", "cold_recall_10")
"""Shown where the model was measured on cold items."""
OF_ROWS = {"log_loss": ("auc", "user_auc", "log_loss"), "mae": ("rmse", "mae")}
"""Of models of clicks and of ratings, under the one of them that nothing but a whole row of the table has."""
GROUPS = ("known_users", "new_users", "warm_items", "cold_items")
"""Parts of a rating's test rows, which the report shows."""


def table(metrics: Mapping[str, float]) -> str:
    """Metrics as rows of the model, the controls and the baselines.

    Args:
        metrics: From name to number; all but the model's have the row's name in front, as in `popularity_ndcg_10`.

    Returns:
        Lines of text; empty where there are no metrics of ranking, of clicks or of ratings.
    """
    rows: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        match = METRIC.fullmatch(name)
        if match and match["column"] in (*COLUMNS, *WARMTH) and not (match["row"] or "").endswith(GROUPS):
            rows.setdefault(match["row"] or "", {})[match["column"]] = value
    for always, own in OF_ROWS.items():
        for before in [name.removesuffix(always) for name in metrics if name.endswith(always)]:
            row = rows.setdefault(before.rstrip("_"), {})
            row |= {column: metrics[before + column] for column in own if before + column in metrics}
    if not rows:
        return ""
    of_rows = [column for group in OF_ROWS.values() for column in group]
    shown = (*COLUMNS, *of_rows, *(WARMTH if WARMTH[1] in rows.get("", {}) else ()))
    columns = [column for column in shown if any(column in row for row in rows.values())]
    width = max(len("model"), *(len(name) for name in rows))
    lines = [" " * width + "".join(f"{column:>16}" for column in columns)]
    for name in sorted(rows):
        numbers = "".join(f"{rows[name][column]:16.4f}" if column in rows[name] else f"{'-':>16}" for column in columns)
        lines.append(f"{name.replace('_', ' ') or 'model':<{width}}{numbers}")
    return "\n".join(lines)
