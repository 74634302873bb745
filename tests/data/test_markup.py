import time

import pytest

from modalrec.data.markup import plain_text


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("<p>One</p><p>Two", "One Two"),
        ("a<br/>b<img src='a>b'>c", "a b c"),
        ("<b>bo</b>ld", "bold"),
        ("Tom &amp;#39;s, AT&T <br>x & y", "Tom 's, AT&T x & y"),
        ("AT&T &copy; R&amp;D", "AT&T \u00a9 R&D"),
        ("&lt;b&gt;bold&lt;/b&gt; &amp;lt;i&amp;gt;", "bold <i>"),
        ("<style>.a {}</style>t<script>if (a < b) x('</b>')</script>u", "t u"),
        ("<script>var a = '<b>';", ""),
        ("<!-- c --> d <?php x ?> e", "d e"),
        ("a <b and c", "a <b and c"),
        ("holes <5 mm> and x < y > z", "holes <5 mm> and x < y > z"),
        ("the <unknown thing> stays", "the <unknown thing> stays"),
        ("no \ud83d\ude00 half \ud83d.", "no \U0001f600 half \ufffd."),
        ("", ""),
    ],
)
def test_what_a_browser_would_show(written: str, shown: str) -> None:
    assert plain_text(written) == shown


@pytest.mark.parametrize("part", ["<", "<!", "<a ", "&", "<a href='", "<![CDATA[", "<!--", "</", "<script>", "<b><i>"])
def test_odd_texts_take_no_long_time(part: str) -> None:
    begin = time.process_time()
    plain_text(part * 200_000)
    assert time.process_time() - begin < 5
