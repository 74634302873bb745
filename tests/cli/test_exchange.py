import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from modalrec.artifacts import read_manifest
from modalrec.artifacts.codes import read_codes
from tests.cli.conftest import Cli


def test_codes_and_embeddings_go_in_and_out(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    ids = pq.read_table(dataset / "items.parquet")["item_id"].to_pylist()
    index = {item: [f"<a_{row // 2}>", "<b_0>"] for row, item in enumerate(ids)}
    (tmp_path / "x.index.json").write_text(json.dumps(index))
    words = ("--dataset", dataset, "--codes", tmp_path / "codes", "--sizes", "16,8")
    code, out, err = cli("import", "codes", tmp_path / "x.index.json", *words)
    assert code == 0, err
    assert "collisions=3" in out
    assert read_codes(tmp_path / "codes")[2] == (16, 8, 2)
    code, _, err = cli("export", "codes", tmp_path / "out.json", "--codes", tmp_path / "codes", "--no-positions")
    assert code == 0, err
    assert json.loads((tmp_path / "out.json").read_text()) == index

    np.save(tmp_path / "x.npy", np.ones((len(ids), 3), np.float16))
    (tmp_path / "x.ids").write_text("\n".join(ids))
    words = ("--dataset", dataset, "--embeddings", tmp_path / "text", "--ids", tmp_path / "x.ids", "--quiet")
    assert cli("import", "embeddings", tmp_path / "x.npy", *words) == (0, "", "")
    assert read_manifest(tmp_path / "text", "embeddings").stage == "import"
    code, _, err = cli(
        "export", "embeddings", tmp_path / "out.npy", "--embeddings", tmp_path / "text", "--dtype", "float16"
    )
    assert code == 0, err
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "x.npy").read_bytes()


def test_mistakes_are_told_with_an_exit_code(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    words = ("--dataset", dataset, "--embeddings", tmp_path / "text", "--quiet")
    code, _, err = cli("import", "embeddings", tmp_path / "x.npy", *words, "--missing", "nothing")
    assert code == 2
    assert "import embeddings.missing: Input should be 'error' or 'zero'" in err
    code, _, err = cli("import", "embeddings", tmp_path / "x.npy", *words, "--keys", "row")
    assert code == 3
    assert "4 of 6 items lack a row" in err
    assert "Traceback" not in err
