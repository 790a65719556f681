"""Files: written in one piece or not at all; datasets without pickle."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tonesieve.commands.generate import generate
from tonesieve.config.config import DataSettings
from tonesieve.errors import UserError
from tonesieve.signals.record_files import load, save
from tonesieve.signals.synthesis import draw_exercise
from tonesieve.util.files import replacing, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail_half_way() -> None:
        with replacing(path) as file:
            file.write(b"ne")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_existing_file_stays_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UserError, match="exists; choose another --out, or --force"):
        write_text(path, "new", force=False)
    assert path.read_text() == "old"
    write_text(path, "new", force=True)
    assert path.read_text() == "new"


def test_a_folder_or_a_missing_folder_is_no_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is no ordinary file"):
        write_text(tmp_path / "pipe", "x")
    with pytest.raises(UserError, match="is a folder"):
        write_text(tmp_path, "x")
    with pytest.raises(UserError, match="cannot be written: no such folder"):
        write_text(tmp_path / "no" / "a.txt", "x")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        write_text(tmp_path / "a.txt", "x")
    assert os.listdir(tmp_path) == []


def test_files_have_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "x")
    plain = tmp_path / "b.txt"
    plain.write_text("x")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_npz_is_lossless(tmp_path: Path) -> None:
    data = DataSettings(duration_s=0.5, snr_db=3.0, regime="free", gap_fraction=0.1)
    records = draw_exercise(data, seed=7)
    save(records, tmp_path / "r.npz")
    back = load(tmp_path / "r.npz")
    np.testing.assert_array_equal(back.mixture, records.mixture)
    np.testing.assert_array_equal(back.targets, records.targets)
    assert back.data == data


def test_pickled_datasets_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, mixture=np.array([{}], dtype=object), settings=np.array("{}"))
    with pytest.raises(UserError, match="not a whole dataset"):
        load(path)


@pytest.mark.parametrize("cut", [0, 10, 300, -1])
def test_cut_datasets_are_refused(tmp_path: Path, cut: int) -> None:
    save(draw_exercise(DataSettings(duration_s=0.1), seed=1), tmp_path / "r.npz")
    path = tmp_path / "cut.npz"
    path.write_bytes((tmp_path / "r.npz").read_bytes()[:cut])
    with pytest.raises(UserError, match="not a whole dataset"):
        load(path)


def test_csv_has_a_column_each_and_its_settings(tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    result = generate(
        "sieve",
        ("data.duration_s=0.2", "evaluation.settle_s=0", "training.batch_size=8"),
        out=out,
        split="train",
    )
    table = pd.read_csv(out, comment="#")
    assert list(table.columns) == [
        "time_s", "mixture", "target_1Hz", "target_3Hz", "target_5Hz", "target_7Hz",
    ]  # fmt: skip
    assert len(table) == result["samples"] == 200
    assert result["seed"] == 1
    assert "# phase_scale: 0.01" in out.read_text()


def test_generate_follows_the_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        generate("window10", out=tmp_path / f"{split}.npz", split=split)
    train, test = (load(tmp_path / f"{s}.npz") for s in ("train", "test"))
    np.testing.assert_array_equal(train.mixture, draw_exercise(train.data, seed=1).mixture)
    np.testing.assert_array_equal(test.mixture, draw_exercise(test.data, seed=2).mixture)


def test_unknown_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ending '.pkl'; choose .npz or .csv"):
        generate(out=tmp_path / "r.pkl")


def test_the_writer_hands_over_a_real_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.bin") as file:
        np.save(file, np.arange(3))
    np.testing.assert_array_equal(np.load(io.BytesIO((tmp_path / "a.bin").read_bytes())), [0, 1, 2])
