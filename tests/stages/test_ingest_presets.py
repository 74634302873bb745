"""The presets of the published session sets, on small files in the raw formats, against the published rules.

The rules are written out here once more, plainly, with pandas; ingest shares no code with them.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest
from modalrec.config import load_preset, resolve
from modalrec.data.splits import FULL_ONLY, TEST, TRAIN, VALID
from modalrec.errors import DataError
from modalrec.run import Run
from modalrec.stages.ingest import Config, ingest

DAY = 86_400_000
Sessions = Counter[tuple[tuple[int, ...], tuple[int, ...]]]


def clicks(end: int, part: int, seed: int, step: int = 1) -> pd.DataFrame:
    """Random events of four parts of some days: user, item, ms, kind; in the order of time.

    Some sessions run past the cuts, some items come in the last part or the last two alone, many times are equal.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for session in range(260):
        time = end - int(rng.integers(0, 4 * part * DAY))
        if session % 10 == 0:
            time = end - (1 + session // 10 % 2) * part * DAY - int(rng.integers(0, 1_200_000))
        for _ in range(int(rng.integers(1, 9))):
            item = int(rng.choice([7, 11, 8, 101, 9, 55, 10, 2]))
            # Sessions run on after `end`, so that the cuts lie up to some hours later than whole parts before it.
            age = (end - time + 32_000_000) / (part * DAY)
            if age < 2 and rng.random() < 0.3:
                item = int(rng.integers(90, 92)) if age < 1 else int(rng.integers(80, 82))
            item = 200 + int(rng.integers(0, 9)) if rng.random() < 0.04 else item
            kind = rng.choice(["view", "cart"], p=[0.8, 0.2])
            rows.append((1000 + session * 7 % 260, item, time // step * step, kind))
            time += int(rng.choice([0, 0, 999, 60_000, 1_500_000, 3_600_000, 3_600_001, 4_000_000]))
    rows += [(9999, 7, end, "view"), (9999, 11, end, "view")]
    return pd.DataFrame(rows, columns=["user", "item", "ms", "kind"]).sort_values(
        "ms", kind="stable", ignore_index=True
    )


def without_repeats(events: pd.DataFrame, *order: str) -> pd.DataFrame:
    """The first of consecutive events with one item, in sessions sorted by time and `order`."""
    events = events.sort_values(["session", "time", *order], kind="stable")
    same = (events.session == events.session.shift()) & (events["item"] == events["item"].shift())
    return events[~same]


def cut(events: pd.DataFrame, gap: int) -> pd.Series:
    """Session numbers of events sorted by user and time."""
    return ((events.user != events.user.shift()) | (events.time - events.time.shift() > gap)).cumsum()


def until_stable(events: pd.DataFrame) -> pd.DataFrame:
    before = -1
    while len(events) != before:
        before = len(events)
        events = longer(events)
        events = events[events.groupby("item").item.transform("size") >= 5]
    return events


def longer(events: pd.DataFrame) -> pd.DataFrame:
    return events[events.groupby("session").session.transform("size") > 1]


def by_start(events: pd.DataFrame, end: int, days: int) -> dict[str, pd.DataFrame]:
    start = events.groupby("session").time.transform("min")
    full = longer(events[events.time < end - days])
    parts = {"all": events, "train_full": full, "test": events[start >= end - days]}
    parts["train_tr"] = longer(full[full.time < end - 2 * days])
    parts["train_valid"] = full[full.groupby("session").time.transform("min") >= end - 2 * days]
    return parts


def by_end(events: pd.DataFrame, day: int) -> dict[str, pd.DataFrame]:
    def one(events: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        last = events.groupby("session").time.transform("max")
        early, late = events[last < events.time.max() - day], events[last >= events.time.max() - day]
        return early, longer(late[late["item"].isin(early["item"])])

    full, test = one(events)
    train, valid = one(full)
    return {"all": events, "train_full": full, "test": test, "train_tr": train, "train_valid": valid}


def sequences(events: pd.DataFrame) -> Sessions:
    """Items and times of every session, whatever it is called."""
    return Counter((tuple(part["item"]), tuple(part.time)) for _, part in events.groupby("session"))


def check(raw: Path, dataset: Path, preset: str, parts: dict[str, pd.DataFrame], unit: int) -> dict:
    """Runs ingest with a preset and compares every part; returns the statistics."""
    settings = load_preset(preset)["ingest"]
    ingest(raw, dataset, config=resolve(Config, settings), run=Run("ingest", quiet=True))
    statistics = read_manifest(dataset, "dataset").statistics
    sizes = {
        f"{part}_{what}": count
        for part, events in parts.items()
        for what, count in (
            ("events", len(events)),
            ("sessions", events.session.nunique()),
            ("items", events["item"].nunique()),
        )
    }
    assert statistics["parts"] == sizes
    found = pq.read_table(dataset / "interactions.parquet").to_pandas()
    ids = pq.read_table(dataset / "items.parquet")["item_id"].to_pandas().astype(int)
    found = found.rename(columns={"user": "session", "timestamp": "time"}).assign(item=ids.to_numpy()[found["item"]])
    test = parts["test"]
    # What no model can rank is left out of the dataset, and sessions that have one event then.
    seen = longer(test[test["item"].isin(parts["train_full"]["item"])])
    wanted = {TRAIN: parts["train_tr"], VALID: parts["train_valid"], TEST: seen}
    for code, events in wanted.items():
        assert sequences(found[found.split_sessions == code]) == sequences(events.assign(time=events.time // unit)), (
            code
        )
    full = parts["train_full"]
    in_full = found[found.split_sessions.isin([TRAIN, VALID, FULL_ONLY])]
    assert sequences(in_full) == sequences(full.assign(time=full.time // unit))
    assert set(ids) == set(full["item"])
    assert statistics["rows_read"] - statistics["interactions"] == sum(
        step["interactions"] for step in statistics["summary"]
    )
    return statistics


def dropped(statistics: dict) -> dict[str, int]:
    return {step["step"]: step["interactions"] for step in statistics["summary"] if step["interactions"]}


def iso(ms: pd.Series) -> pd.Series:
    return pd.to_datetime(ms, unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S.%f").str[:-3] + "Z"


@pytest.mark.parametrize("seed", range(3))
def test_rsc15(tmp_path: Path, seed: int) -> None:
    events = clicks(1_412_100_000_123, 1, seed)
    events["kind"] = "0"
    events.assign(ms=iso(events.ms))[["user", "ms", "item", "kind"]].to_csv(
        tmp_path / "yoochoose-clicks.dat", header=False, index=False
    )
    events = events.rename(columns={"user": "session", "ms": "time"})
    # Stable by session and time: the authors' trainer sorts what the script leaves as it was.
    events = events.sort_values(["session", "time"], kind="stable")
    events = longer(events)
    events = longer(events[events.groupby("item").item.transform("size") >= 5])
    statistics = check(tmp_path, tmp_path / "dataset", "rsc15", by_end(events, DAY), 1000)
    assert statistics["sessions_full_only_events"] > 0
    assert {"unseen_test", "core"} <= set(dropped(statistics))
    assert "exact_repeats" not in dropped(statistics)


def test_rsc15_is_printed_beside_the_published_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = clicks(1_412_100_000_123, 1, 0)
    events.assign(ms=iso(events.ms))[["user", "ms", "item", "kind"]].to_csv(
        tmp_path / "yoochoose-clicks.dat", header=False, index=False
    )
    ingest(tmp_path, tmp_path / "dataset", config=resolve(Config, load_preset("rsc15")["ingest"]), run=Run("ingest"))
    statistics = read_manifest(tmp_path / "dataset", "dataset").statistics
    entry = statistics["published"]["train_full_events"]
    assert entry["published"] == 31_637_239
    assert entry["here"] == statistics["parts"]["train_full_events"]
    assert entry["difference"] == entry["here"] - entry["published"]
    printed = capsys.readouterr()
    lines = [line for line in (printed.out + printed.err).splitlines() if "train full events" in line]
    assert lines[0].split()[-2:] == ["31,637,239", f"{entry['difference']:+,}"]


@pytest.mark.parametrize("seed", range(3))
def test_yoochoose(tmp_path: Path, seed: int) -> None:
    events = clicks(1_412_100_000_123, 1, seed)
    events["kind"] = "0"
    in_test = events.user % 4 == 0
    for name, rows in (("yoochoose-clicks.dat", events[~in_test]), ("yoochoose-test.dat", events[in_test])):
        rows.assign(ms=iso(rows.ms))[["user", "ms", "item", "kind"]].to_csv(tmp_path / name, header=False, index=False)
    events = events.assign(time=events.ms // 1000).rename(columns={"user": "session"})
    events = until_stable(without_repeats(events, "item"))
    statistics = check(tmp_path, tmp_path / "dataset", "yoochoose", by_start(events, events.time.max(), 86_400), 1)
    assert {"past_cut", "unseen_test", "repeated_items", "core"} <= set(dropped(statistics))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_rees46(tmp_path: Path, seed: int, packed: str) -> None:
    # The last event is a view of 1 December, after the day that the rule counts back from.
    end = 1_575_158_400_000
    events = clicks(end + 5_000, 1, seed, step=1000)
    middle = int(events.ms.median())
    for name, rows in (("2019-Oct.csv", events[events.ms < middle]), ("2019-Nov.csv", events[events.ms >= middle])):
        pd.DataFrame(
            {
                "event_time": pd.to_datetime(rows.ms, unit="ms").dt.strftime("%Y-%m-%d %H:%M:%S UTC"),
                "event_type": rows.kind,
                "product_id": rows["item"],
                "category_id": 2053013555631882655,
                "category_code": "",
                "brand": '"a, b"',
                "price": 1.5,
                "user_id": rows.user,
                "user_session": "72d76fde-8bb3-4e00-8c23-a032dfed738c",
            }
        ).to_csv(tmp_path / f"{name}{packed}", index=False)
    places = {item: place for place, item in enumerate(events["item"].unique())}
    events = events.assign(time=events.ms // 1000, place=events["item"].map(places))
    events = events[events.kind == "view"].sort_values(["user", "time", "place"], kind="stable")
    events = events.assign(session=cut(events, 3600))
    events = until_stable(without_repeats(events, "place"))
    statistics = check(tmp_path, tmp_path / "dataset", "rees46", by_start(events, end // 1000, 86_400), 1)
    assert {"past_cut", "unseen_test", "repeated_items", "core"} <= set(dropped(statistics))
    assert statistics["source"]["other_event_types"] > 0


@pytest.mark.parametrize("seed", range(3))
def test_coveo(tmp_path: Path, seed: int) -> None:
    events = clicks(1_545_782_400_500, 1, seed)
    events["kind"] = events.kind.map({"view": "detail", "cart": "add"})
    # Pages without a product count for the silence too.
    page = np.random.default_rng(seed).random(len(events)) < 0.1
    written = pd.DataFrame(
        {
            "session_id_hash": events.user,
            "event_type": np.where(page, "pageview", "event_product"),
            "product_action": events.kind.where(~page),
            "product_skus_hash": events["item"].astype(str).where(~page),
            "server_timestamp_epoch_ms": events.ms,
            "hashed_url": "ab",
        }
    )
    written.to_csv(tmp_path / "release_10_23_2020.csv", index=False)
    places = {item: place for place, item in enumerate(events["item"][~page].unique())}
    events = events.assign(time=events.ms, place=events["item"].map(places), page=page)
    events = events.sort_values(["user", "time", "place"], kind="stable")
    events = events.assign(session=cut(events, 3_600_000))
    events = events[(events.kind == "detail") & ~events.page]
    events = until_stable(without_repeats(events, "place"))
    statistics = check(tmp_path, tmp_path / "dataset", "coveo", by_start(events, events.time.max(), DAY), 1000)
    assert {"past_cut", "unseen_test", "repeated_items", "core", "other_event_types"} <= set(dropped(statistics))


def test_coveo_refuses_a_view_of_nothing(tmp_path: Path) -> None:
    rows = "s,event_product,detail,x,5,u\ns,event_product,detail,,6,u\ns,pageview,,,7,u\ns,event_product,detail,,8,u\n"
    header = "session_id_hash,event_type,product_action,product_skus_hash,server_timestamp_epoch_ms,hashed_url\n"
    (tmp_path / "release_10_23_2020.csv").write_text(header + rows)
    with pytest.raises(DataError, match=r"(?s)row 2, product_skus_hash: is empty.*row 4, .*Mend or drop"):
        check(tmp_path, tmp_path / "dataset", "coveo", {}, 1)


@pytest.mark.parametrize("seed", range(3))
def test_retailrocket(tmp_path: Path, seed: int) -> None:
    end = 1_442_545_200_000
    events = clicks(end - 12_345, 7, seed)
    events["kind"] = events.kind.replace("cart", "addtocart")
    # The file is in no order at all.
    written = events.sample(frac=1, random_state=seed)
    pd.DataFrame(
        {
            "timestamp": written.ms,
            "visitorid": written.user,
            "event": written.kind,
            "itemid": written["item"],
            "transactionid": "",
        }
    ).to_csv(tmp_path / "events.csv", index=False)
    events = events.assign(time=events.ms).sort_values(["user", "time", "item"], kind="stable")
    events = events.assign(session=cut(events, 3_600_000))
    events = until_stable(without_repeats(events[events.kind == "view"], "item"))
    statistics = check(tmp_path, tmp_path / "dataset", "retailrocket", by_start(events, end, 7 * DAY), 1000)
    assert {"past_cut", "unseen_test", "repeated_items", "core", "other_event_types"} <= set(dropped(statistics))


@pytest.mark.parametrize("seed", range(3))
def test_diginetica(tmp_path: Path, seed: int) -> None:
    events = clicks(1_464_825_600_000, 7, seed)
    start = events.groupby("user").ms.transform("min")
    events["offset"] = events.ms - start
    events["date"] = pd.to_datetime(events.ms, unit="ms").dt.strftime("%Y-%m-%d")
    assert (events.groupby("user").date.nunique() > 1).any(), "sessions past midnight"
    pd.DataFrame(
        {
            "sessionId": events.user,
            "userId": "NA",
            "itemId": events["item"],
            "timeframe": events.offset,
            "eventdate": events.date,
        }
    ).sample(frac=1, random_state=seed).to_csv(tmp_path / "train-item-views.csv", sep=";", index=False)
    first = pd.to_datetime(events.groupby("user").date.transform("min")).astype("datetime64[s]").astype(np.int64)
    events = events.assign(session=events.user, time=first * 1000 + events.offset)
    events = until_stable(without_repeats(events, "item"))
    statistics = check(tmp_path, tmp_path / "dataset", "diginetica", by_start(events, events.time.max(), 7 * DAY), 1000)
    assert {"unseen_test", "repeated_items", "core"} <= set(dropped(statistics))


def test_ties_change_what_is_a_repeat(tmp_path: Path) -> None:
    """The order of equal times is part of a rule: 7, 8, 7 at one moment has a repeat by item, none as it stands."""
    rows = [(1, 7, 5), (1, 8, 5), (1, 7, 5), (1, 9, 9)]
    lines = "".join(f"{when},{user},view,{item},\n" for user, item, when in rows)
    (tmp_path / "events.csv").write_text("timestamp,visitorid,event,itemid,transactionid\n" + lines)
    settings = load_preset("retailrocket")["ingest"] | {"splits": ["leave_one_out"], "min_item_events": 1}
    counts = {}
    for ties in ("file", "item_id"):
        dataset = tmp_path / ties
        ingest(tmp_path, dataset, config=resolve(Config, settings, {"ties": ties}), run=Run("ingest", quiet=True))
        counts[ties] = read_manifest(dataset, "dataset").statistics["interactions"]
    assert counts == {"file": 4, "item_id": 3}
