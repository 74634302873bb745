"""The report in short, as Markdown."""

from modalrec.evaluation.report.summary import summary


def test_everything_is_there_in_order() -> None:
    found = summary("Title", "Good.", ["Careful."], ["ndcg"], [("model", ["0.1"]), ("base", ["0.2"])], ["Said."])
    assert (
        found == "# Title\n\nGood.\n\n> Careful.\n\n| | ndcg |\n|---|---|\n| model | 0.1 |\n| base | 0.2 |\n\n- Said.\n"
    )


def test_nothing_that_comes_from_data_is_markup() -> None:
    hostile = "a|b\n# c <script>x</script> [d](http://e) `f` **g**"
    lines = summary(hostile, "", [], ["x"], [(hostile, ["1"])], []).splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 3
    assert "<script>" not in "".join(lines)
    row = lines[-1].replace("\\|", "")
    assert row.count("|") == 3
    for sign in ("[d]", "`f`", "**"):
        assert sign not in row
