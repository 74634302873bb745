"""The summary of a run: what was asked for and how it ended, and nothing in it is markup."""

from pathlib import Path

from components.summary import write_summary
from modalrec.artifacts import code_version

ASKED = {"source": "s3://raw/films_1", "preset": "tiny", "settings": {"a|b": ["<b>"]}, "seed": 0}


def test_a_failed_run_is_told_with_its_error(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "summary.md"
    status = {"state": "FAILED", "pipeline_job_resource_name": "semantic-id-x1", "error_code": 13}
    write_summary(str(path), "semantic-id", ASKED, {**status, "error_message": "ingest: row 7\n# no *number*"})
    text = path.read_text()
    assert text.startswith("# semantic-id: FAILED\n")
    assert "| run | semantic-id-x1 |" in text
    assert "| source | s3://raw/films\\_1 |" in text
    assert '| settings | \\{"a\\|b": \\["\\<b\\>"\\]\\} |' in text
    assert f"| code | {code_version()} |" in text.replace("\\", "")
    assert "Error 13: ingest: row 7 \\# no \\*number\\*" in text


def test_a_run_that_went_well_has_no_error(tmp_path: Path) -> None:
    write_summary(str(tmp_path / "s"), "session", ASKED, {"state": "SUCCEEDED", "pipeline_job_resource_name": "x"})
    assert "Error" not in (tmp_path / "s").read_text()
