"""Raw data for tests: small folders in the form of every source, pictures, and the way to the real data."""

import gzip
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
GENRES = ("Drama", "Comedy", "Horror", "Sci-Fi")


def real_data(name: str) -> Path:
    """A folder of the real data, or a skip with the reason."""
    folder = Path(os.environ.get("MODALREC_DATA", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MODALREC_DATA")
    return folder


def real_ml100k() -> Path:
    """The folder of ml-100k as `make demo` gets it, or a skip with the reason."""
    folder = Path(os.environ.get("MODALREC_ML100K", ROOT / "out" / "cache" / "ml-100k"))
    if not (folder / "ml-100k.inter").is_file():
        pytest.skip(f"no ml-100k at {folder}; run make demo once, or set MODALREC_ML100K")
    return folder


def histories(users: int = 8, films: int = 6) -> list[tuple[str, str, int, int]]:
    """(user, film, rating, timestamp): each user rates all films but one, a minute apart, users one after the other."""
    return [
        (f"u{user}", f"f{film}", 1 + (user + film) % 5, 1_000_000_000 + 100_000 * user + 60 * film)
        for user in range(users)
        for film in range(films)
        if film != user % films
    ]


def write_atomic(folder: Path, rows: Sequence[tuple[str, str, int, int]] | None = None, films: int = 6) -> Path:
    """A folder in the form of ml-100k."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(map(str, row)) for row in (rows or histories(films=films))]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (folder / "small.inter").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    lines = [f"f{film}\tFilm {film}, The\t{1990 + film}\t{GENRES[film % 4]} War" for film in range(films)]
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
    (folder / "small.item").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder


def write_inter(folder: Path, delimiter: str = ",") -> Path:
    """A folder with interactions alone, in the form of MP4SR's datasets."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [delimiter.join((user, film, f"{time}.0")) for user, film, _, time in histories()]
    header = delimiter.join(("user_id:token", "item_id:token", "timestamp:float"))
    (folder / "pantry.inter").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder


def write_tables(folder: Path, items: str | None = None, interactions: str | None = None) -> Path:
    """A folder of one's own tables, as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    if items is None:
        rows = [f"f{film},Film {film},A film about {film}.,{GENRES[film % 4]}|War,{1990 + film}" for film in range(6)]
        items = "\n".join(["item_id,title,text,categories,year", *rows]) + "\n"
    if interactions is None:
        rows = [f"{user},{film},{time},{rating}" for user, film, rating, time in histories()]
        interactions = "\n".join(["user_id,item_id,timestamp,rating", *rows]) + "\n"
    (folder / "items.csv").write_text(items, encoding="utf-8")
    (folder / "interactions.csv").write_text(interactions, encoding="utf-8")
    return folder


def write_amazon(folder: Path, items: object | None = None, histories: object | None = None) -> Path:
    """A folder in the form of the Amazon sequences."""
    folder.mkdir(parents=True, exist_ok=True)
    if items is None:
        fields = {"description": "Works &amp; lasts.", "brand": "Acme", "categories": "Tools,Drills"}
        items = {str(item): {"title": f"Drill {item}"} | fields for item in range(6)}
    if histories is None:
        histories = {str(user): [(user + step) % 6 for step in range(5)] for user in range(8)}
    (folder / "Small.item.json").write_text(json.dumps(items), encoding="utf-8")
    (folder / "Small.inter.json").write_text(json.dumps(histories), encoding="utf-8")
    return folder


def write_several(folder: Path) -> Path:
    """A folder with films and products, each in a folder of its own."""
    write_atomic(folder / "films")
    write_amazon(folder / "tools")
    return folder


def write_reviews(
    folder: Path,
    release: int,
    rows: Sequence[tuple[str, str, int, int]] | None = None,
    url: str = "http://images.example.org/I",
) -> Path:
    """A folder in the form of a release of the Amazon reviews, as it is distributed."""
    folder.mkdir(parents=True, exist_ok=True)
    if rows is None:
        rows = [(f"A{user}", f"B{(user + step) % 6}", 1 + step, 1_400_000_000 + 60 * step) for user in range(8)
                for step in range(5)]  # fmt: skip
    asins = [f"B{item}" for item in range(6)]
    products: list[dict[str, Any]]
    if release == 2014:
        names = ("reviews_Tools_5.json.gz", "meta_Tools.json.gz")
        products = [
            {"asin": asin, "title": f"Drill {asin}", "price": 9.99, "imUrl": f"{url}/{asin}.jpg",
             "related": {"also_bought": asins}, "salesRank": {"Tools": 5}, "brand": "Acme's",
             "categories": [["Tools", "Drills"], ["Tools", "Gifts"]], "description": "Works &amp;amp; <b>lasts</b>."}
            for asin in asins
        ]  # fmt: skip
    elif release == 2018:
        names = ("Tools_5.json.gz", "meta_Tools.json.gz")
        products = [
            {"category": ["Tools", "Drills"], "tech1": "", "description": ["Works.", "Lasts."], "fit": "",
             "title": f"Drill {asin}", "also_buy": asins, "image": [], "tech2": "", "brand": "Acme",
             "feature": ["Red", "500 W"], "rank": ["#1 in Tools"], "details": {}, "similar_item": "", "price": "$9.99",
             "asin": asin, "imageURL": [f"{url}/{asin}._SX38_.jpg"], "imageURLHighRes": [f"{url}/{asin}.jpg"]}
            for asin in asins
        ]  # fmt: skip
    else:
        names = ("Tools.jsonl.gz", "meta_Tools.jsonl.gz")
        products = [
            {"main_category": "Tools", "title": f"Drill {asin}", "average_rating": 4.5, "rating_number": 3,
             "features": ["Red"], "description": ["Works.", "Lasts."], "price": None, "videos": [], "store": "Acme",
             "images": [{"thumb": f"{url}/{asin}t.jpg", "large": f"{url}/{asin}b.jpg", "variant": "PT01"},
                        {"thumb": f"{url}/{asin}t.jpg", "large": f"{url}/{asin}.jpg", "variant": "MAIN",
                         "hi_res": None}],
             "categories": ["Tools", "Drills"], "details": {"Color": "Red"}, "parent_asin": asin}
            for asin in asins
        ]  # fmt: skip
    if release == 2023:
        reviews = [
            {"rating": float(rating), "title": "Good", "text": "It \u00fcs \ud83d\ude00.<br />", "images": [],
             "asin": f"{item}x", "parent_asin": item, "user_id": user, "timestamp": 1000 * time + 7, "helpful_vote": 0,
             "verified_purchase": True}
            for user, item, rating, time in rows
        ]  # fmt: skip
    else:
        reviews = [
            {"reviewerID": user, "asin": item, "reviewerName": "J. \"D\"", "helpful": [0, 0], "reviewText": "Good.\n",
             "overall": float(rating), "summary": "Good", "unixReviewTime": time, "reviewTime": "05 13, 2014"}
            for user, item, rating, time in rows
        ]  # fmt: skip
    write_lines(folder / names[0], [json.dumps(review) for review in reviews])
    write_lines(folder / names[1], [repr(row) if release == 2014 else json.dumps(row) for row in products])
    return folder


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    """A text file, packed where its name says so."""
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def write_sessions(folder: Path, rows: Sequence[tuple[object, ...]] | None = None, name: str = "clicks.tsv") -> Path:
    """A folder with one file in the form of GRU4Rec: sessions of three clicks, one an hour for four days."""
    folder.mkdir(parents=True, exist_ok=True)
    if rows is None:
        starts = range(1_400_000_000, 1_400_000_000 + 4 * 86_400, 3600)
        rows = [
            (session, f"i{(session + step) % 7}", start + 10.5 * step)
            for session, start in enumerate(starts)
            for step in range(3)
        ]
    lines = ["SessionId\tItemId\tTime", *("\t".join(map(str, row)) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def picture(
    size: tuple[int, int] = (40, 60), colour: tuple[int, ...] = (200, 30, 30), kind: str = "JPEG", mode: str = "RGB"
) -> bytes:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, kind)
    return buffer.getvalue()


MICROLENS = pa.table(
    {
        "item_id": pa.array([3, 1, 2, 0, 4]),
        "item_title": ["Cats", "Dogs", "...", "", None],
        "item_tags": [[0, 0, 7], [0, 9, 7], [0, 0, 0], [0, 0, 0], [11, 7, 9]],
        "likes_level": [10, 9, 0, 0, 1],
        "views_level": [2, 2, 0, 0, 3],
    }
)
"""Four videos and the padding, in an order of their own; the second has tag 9 and 7 of the three that there are."""
MICROLENS_ROWS = {
    "train": [(5, [0, 0, 1], 3, 1), (4, [0, 2, 1], 4, 0), (5, [0, 0, 1], 2, 0)],
    "valid": [(5, [0, 1, 3], 4, 1)],
    "test": [(4, [2, 1, 3], 1, 1), (6, [0, 0, 0], 3, 0)],
}
"""User, history, item and label; the labels of test rows are not written."""


def microlens_rows(rows: Sequence[tuple[int, list[int], int, int]], labels: bool = True) -> pa.Table:
    """Rows with the levels of their items."""
    users, histories, items, flags = zip(*rows, strict=True)
    places = pc.index_in(pa.array(items), MICROLENS["item_id"].combine_chunks())
    columns = {"user_id": pa.array(users), "item_seq": pa.array(histories), "item_id": pa.array(items)}
    columns |= {name: MICROLENS[name].take(places) for name in ("likes_level", "views_level")}
    return pa.table(columns | ({"label": pa.array(flags)} if labels else {}))


def write_microlens(folder: Path, **tables: pa.Table) -> Path:
    """A folder in the form of MicroLens_1M_MMCTR; `tables` replace its files by name, None leaves one out."""
    rows = folder / "MicroLens_1M_x1"
    rows.mkdir(parents=True, exist_ok=True)
    files = {"item_feature": MICROLENS, **{part: microlens_rows(MICROLENS_ROWS[part], part != "test")
                                           for part in MICROLENS_ROWS}}  # fmt: skip
    for name, table in (files | tables).items():
        if table is not None:
            pq.write_table(table, (folder if name.startswith("item_") else rows) / f"{name}.parquet")
    return folder


def write_zip(path: Path, entries: Mapping[str, bytes]) -> Path:
    """A zip of files by name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


WRITERS = {
    "amazon": write_amazon,
    "atomic": write_inter,
    "microlens": write_microlens,
    "movielens": write_atomic,
    "sessions": write_sessions,
    "several": write_several,
    "tables": write_tables,
}
"""From a source to what writes a small folder of its form."""
