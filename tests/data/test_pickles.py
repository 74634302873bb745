import base64
import functools
import gzip
import os
import pickle
import subprocess
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modalrec.data.pickles import read_frame, read_vector_lists
from modalrec.errors import DataError

FRAME = pd.DataFrame(
    {
        "SessionId": [3, 3, 8],
        "ItemId": ["a", "b", "c"],
        "Time": [1.25, 2.5, 3.75],
        "day": pd.to_datetime(["2014-04-01 00:00:00.5", "2014-04-02 10:00:01.2", "2014-04-03 00:00:00.0"]),
        "zoned": pd.to_datetime(["2014-04-01", "2014-04-02", "2014-04-03"]).tz_localize("UTC"),
        "kind": pd.Series(["view", None, "buy"], dtype=object),
        "small": np.array([1, 2, 3], np.int16),
        "flag": [True, False, True],
    }
)


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def dumped(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_frame_of_this_pandas_comes_back(tmp_path, protocol):
    table = read_frame(dumped(tmp_path / "a.pickle", FRAME, protocol))
    assert table.column_names == list(FRAME.columns)
    for name in ("SessionId", "ItemId", "Time", "small", "flag"):
        assert table[name].to_pylist() == FRAME[name].tolist(), name
    assert table["kind"].to_pylist() == ["view", None, "buy"]
    for name in ("day", "zoned"):
        seconds = [moment.timestamp() for moment in FRAME[name]]
        assert [moment.timestamp() for moment in pd.to_datetime(table[name].to_pylist(), utc=True)] == seconds


@pytest.mark.parametrize(
    "frame",
    [
        FRAME[FRAME.Time > 2],
        FRAME.sort_values("Time", ascending=False),
        FRAME[["SessionId", "small"]].set_index("small", drop=False),
        pd.DataFrame(np.arange(12).reshape(4, 3), columns=["x", "y", "z"]),
        pd.DataFrame(np.asfortranarray(np.arange(12.0).reshape(4, 3)), columns=["x", "y", "z"]),
        pd.concat([FRAME, FRAME], ignore_index=True)[["ItemId", "Time"]],
        FRAME.astype({"ItemId": object}).rename(columns=str.lower)[["itemid", "time"]],
    ],
    ids=["filtered", "reversed", "indexed", "one block", "fortran", "chunks", "objects"],
)
def test_frames_in_many_shapes(tmp_path, frame):
    table = read_frame(dumped(tmp_path / "a.pkl", frame))
    for name in frame.columns:
        if name not in ("kind", "day", "zoned"):
            assert table[name].to_pylist() == frame[name].tolist(), name


PANDAS_2 = {
    2: (
        "c-n<jYjfN*6!kt58UqCype?1eyow8DOL;C($b(QwOk7Y4m`8ABTe~*#diPi|$(FhgXm%5z{13kIfv*fR%`f5?fF$oG6AFVpV@cM%_ndp~m"
        "9AHV9!*2a8$mZ?jaEiG%v_*?p3^fJCvTuqplZ2w!!W!~J40=cN1O_lr8MD<4ozvBW!#)ky20vlxiV3=#`azk`+V2I^zyV92dfG5eC1(cB1"
        "rR2uix-=<W8Q5m}VL6n_k9(ZpuZL2g1Z;X=cixdKY)u#s>BU(k)~GH(9DCCZ^nq<m|(AC*_z>5vONx_W<`0+&jd6g8MAHBH!8o_m4t`qTi"
        "FA54ct75jSyQYjcQcf(I?TrlXz3LyqGt{Usm$u?>NT{jF%qJtTK)M){1#eWMWvBZ+&6;IP0We&Bh29?RrX&og-v2NLm!Z7427JW6oXt`6}"
        "S!Leu}nv8UE$0N!3ae^my7(W@6B+obTlp^^w!HF@+D|luv$r%C5-&(;*OYc)WJCf!(hY6hWqa!kCRlz?`&`|KF30~NRKcnDZBzS2D{^b#T"
        "tBF?>{Hp}7N%-hab(&h8!^Zg8{%xk5)Mv|a|14ft^1MOtrodT6rfSy|nYReuR%B)fW}}I{ZKO*td&ukc*LNGqS(sD*=V`FYLKAa)TD5d(g"
        "j6sQcNkZFu4i*)8_h2roBXrx4Dk-Z!YIGxCf-%~og;Y9vg>!`=U6g1Wteijud-MqSkfX@1ndDm5LoudGCE4e^8_F6$oSDN3{fx_2rm8~%*"
        "P7m6M|32Fzx`K34E?~KB^@>eQNuc+rM6#HjJyce=oNGP_yk@&H;x`;|t~fCBcfoSAGG{awpWuZe<L(<mjW~1vH2lXaQdz`#g;Wf-!!`^C6"
        "fjQ_ZfcGPMZWs!S1qwEKDmtJXiRh>)!_-tZ}BrkAocZ&Cd*k^HyW$f8pqEw3I~HHz+7$(~XY1esE@z5yPcknJrjcS@RGV4TO@bTLG((^(X"
        "(BNyN3I2UETvF6rv$UfF(|M$x*Q+eUxvXc++Ey0!O-^pb(Z8MXo?}%bi;Hni}cC?IK&`jW(ZRm(xbbGii4`sPvJ>0M>GX8f2-?IU35^R*$"
        "s=ReD(A-s;`Vz)aue}ZvROi0Af-Q|fg~&L5DDY!htX4wX96uGf<sMYqNzz^8UYPgf%_1AzOQ_Ehj-NMq?l=Ah^|9(A"
    ),
    5: (
        "c-oazOHUL*5Z>9HT|p3)O%M`-C*zWs;p)MJ#}X5mFed1gv^_JuI}_$bcTa#s3?Af>^v%-W;UDlPc<^U<H1UqrJxg{M^k5&lYNorYzW(ZQ+"
        "Wh>(u9>AC7BmZ~aDtpOr^ji^KuvB^NnaZM6D)s#6X+<Lq<s!*Y4m!WNyamp2q&c(?K3VwO>ZQ5u)kA%qj^Wo4NOQ9`(kJV>OLv6A`bQwMt"
        "p6Aw^chU)8g16#y{$e#{sA*(&KsRm%U!)^UHjNzSg)QCk7H!(>OvI%Hu-6L)GKwaCvbKyU=kP%6b8w=WSo%GMihI;JcRFI0I#MLE<$v;g@"
        "kD;|#GjMG^<vja$P@miFS-^&U;Bxlzn%i58S|im|5&XF;9`$;&{ZZS+9hK`P9l_Vf|DmJbyotBM`Xs`{%jobPVnTt%Fhd&sLr5vdOz!ynN"
        "Sn%Bp1MKeR5s`Y!dlJ;69XVy%--blP??q94#3z`!QRCgOU2xyOG*t`!ZTO_17J{soO+g#Tt8#LHwp-#x+Xf0J%PDmw_amvvC-sV7G9}u?v"
        "xb@5SOiV<*Gem9QLhW_BbxfOK)sk=qnxiMtQ_Xp_e2ek__I24sW>=p5{Q9<CtG)kra;4>WZ`Px2eXJX%i8ad(z*8*}&>&*iManL-SYjojJ"
        "5ipSv^89NluZdbwe#a$7P2EI9G?p8&ATLHhh$6t(-oDg=Cy9R6#1iY`=vI1teC2qe9eT2^K2^w)!LFQ)r$Ql)_vayk!M{_%FcB2d*zuX`#"
        ">%H4G*VTUjy3Jas)(l>S4P`$|aV#vW3hGz(Piap<)@IOm8?-us3nsXwcWAhonqW^NKy}Iw~a&6=beOdI{|t^$|^y{7{gvEU+iBMo2<^h6C"
        "k7l)m!^1q9gr"
    ),
}
"""By protocol: what pandas 2.2.3 dumped of the frame in the test below, deflated, in base 85."""


@pytest.mark.parametrize("protocol", PANDAS_2)
def test_a_frame_of_pandas_two(tmp_path, protocol):
    path = tmp_path / "old.pickle"
    path.write_bytes(zlib.decompress(base64.b85decode(PANDAS_2[protocol])))
    table = read_frame(path)
    days = [moment.strftime("%d") for moment in table["day"].to_pylist()]
    assert table.drop_columns("day").to_pydict() == {
        "SessionId": [3, 3, 8],
        "ItemId": ["a", "b", None],
        "Time": [1.25, 2.5, 3.75],
    }
    assert days == ["01", "02", "03"]


def test_a_packed_pickle(tmp_path):
    path = tmp_path / "a.pickle.gz"
    path.write_bytes(gzip.compress(pickle.dumps(FRAME)))
    assert read_frame(path)["SessionId"].to_pylist() == [3, 3, 8]


@pytest.mark.fault("pickles")
@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (Call(os.system, "touch mark"), "posix.system"),
        (Call(eval, "open('mark', 'w')"), "builtins.eval"),
        (Call(exec, "open('mark', 'w')"), "builtins.exec"),
        (Call(getattr, "", "upper"), "builtins.getattr"),
        (Call(subprocess.Popen, ["touch", "mark"]), "subprocess.Popen"),
        (Call(functools.partial, os.system, "touch mark"), "functools.partial"),
        (functools.partial(os.system, "touch mark"), "functools.partial"),
        (Call(np.load, "mark"), "numpy.load"),
        (Call(pd.read_pickle, "mark"), "pandas.*read_pickle"),
        (Call(pd.eval, "1"), "pandas.*eval"),
        ([FRAME, Call(os.remove, "mark")], "posix.remove"),
        (FRAME.assign(bad=pd.Series([Call(os.system, "touch mark")] * 3)), "posix.system"),
        (FRAME.astype({"ItemId": "category"}), "pandas.*Categorical"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hostile_pickle_is_refused_by_the_name_of_what_it_wants(tmp_path, monkeypatch, value, wanted):
    monkeypatch.chdir(tmp_path)
    path = dumped(tmp_path / "bad.pickle", value)
    with pytest.raises(DataError, match=rf"bad\.pickle: refused: the pickle asks for {wanted},.*nothing of it was run"):
        read_frame(path)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pickle"]


@pytest.mark.fault("pickles")
def test_known_names_called_with_anything_do_nothing(tmp_path):
    """Each admitted name is an inert record, also where a hostile file calls it with what the real one would run."""
    for value in (Call(np.dtype, "O"), Call(bytearray, 1 << 40), Call(slice, 1), [1, 2], {"_mgr": 3}, None, 7):
        with pytest.raises(DataError, match="holds no pickled DataFrame"):
            read_frame(dumped(tmp_path / "odd.pickle", value))


@pytest.mark.fault("pickles")
def test_objects_of_a_forged_type_are_not_pointers(tmp_path):
    """Raw bytes as an object array would be pointers to numpy; here they are nothing."""
    raw = pickle.dumps(pd.DataFrame({"x": np.array([1, 2], np.int64)}), protocol=2)
    assert b"i8" in raw
    path = tmp_path / "forged.pickle"
    path.write_bytes(raw.replace(b"i8", b"O8"))
    with pytest.raises(DataError, match="holds no pickled DataFrame"):
        read_frame(path)


@pytest.mark.fault("pickles")
@pytest.mark.parametrize("keep", [1, 10, 200, -1])
def test_a_cut_pickle_is_refused(tmp_path, keep):
    path = dumped(tmp_path / "cut.pickle", FRAME)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cut\.pickle: "):
        read_frame(path)


@pytest.mark.fault("pickles")
def test_a_number_far_out_takes_no_room_for_all_before_it(tmp_path):
    """Nine bytes: keep this under the number 2^24. Room for all before it were 256 MiB, and 2^31 can be said."""
    (tmp_path / "far.pickle").write_bytes(b"\x80\x02}r\x00\x00\x00\x01.")
    tracemalloc.start()
    try:
        assert list(read_vector_lists(tmp_path / "far.pickle")) == []
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_joblib_says_what_it_is(tmp_path):
    joblib = pytest.importorskip("joblib")
    joblib.dump(FRAME, tmp_path / "lib.pickle")
    with pytest.raises(DataError, match=r"was written by joblib\.dump, whose own format is not read\. Write the frame"):
        read_frame(tmp_path / "lib.pickle")
    joblib.dump(FRAME, tmp_path / "packed.pickle", compress=3)
    with pytest.raises(DataError, match="holds no pickled DataFrame"):
        read_frame(tmp_path / "packed.pickle")
