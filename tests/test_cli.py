"""The command line: exit codes, one line for a mistake, JSON, help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from tonesieve import presets, run
from tonesieve.cli import app
from tonesieve.config.presets import FILTER_NAMES

SHORT = [
    "data.duration_s=0.5",
    "training.epochs=1",
    "training.batches_per_epoch=null",
    "training.batch_size=8",
    "training.record_s=0.25",
    "evaluation.settle_s=0.1",
    "evaluation.shifted_records=2",
    "model.hidden_size=4",
    "visualisation.dpi=40",
]

Run = tuple[int, str, str]


@pytest.fixture
def tonesieve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command line in this process: exit code, standard output, standard error."""

    def call(*words: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["tonesieve", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    run("sieve", tuple(SHORT), out=folder)
    return folder


VERBS = [
    "run",
    "presets",
    "generate",
    "describe",
    "diagnose",
    "limit",
    "compare",
    "probe",
    "evaluate",
    "export",
    "extract",
    "find",
    "stream",
    "pretrain",
]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(tonesieve, verb: str) -> None:
    code, out, _ = tonesieve(verb, "--help")
    assert code == 0
    assert f"tonesieve {verb}" in out
    assert "--json" in out or verb == "stream"  # its standard output is for the estimates


def test_no_arguments_list_the_verbs(tonesieve) -> None:
    code, out, _ = tonesieve()
    assert code == 0
    assert all(verb in out for verb in VERBS)


def test_presets(tonesieve) -> None:
    code, out, _ = tonesieve("presets")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == presets()
    assert "hidden_size: 128" in tonesieve("presets", "deep50")[1]
    assert json.loads(tonesieve("presets", "deep50", "--json")[1])["model"]["window"] == 50


def test_run_prints_text_or_json(tonesieve, tmp_path: Path) -> None:
    code, out, err = tonesieve("run", "sieve", *SHORT, "--out", tmp_path / "r", "--json")
    assert code == 0
    assert err == ""  # no progress bar where it is not a terminal
    result = json.loads(out)
    assert result["run"] == str(tmp_path / "r")
    assert result["training"]["epochs"] == 1
    code, out, _ = tonesieve("evaluate", tmp_path / "r")
    assert code == 0
    assert "test MSE" in out
    assert "random start" in out


@pytest.mark.usefixtures("no_pictures")
def test_run_goes_to_runs_by_default(tonesieve, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = tonesieve("run", *SHORT)
    (folder,) = (tmp_path / "runs").iterdir()
    assert code == 0
    assert folder.name.startswith("sieve-")
    assert f"runs/{folder.name}" in out


@pytest.mark.usefixtures("no_pictures")
def test_warnings_go_to_standard_error(tonesieve, tmp_path: Path) -> None:
    words = ["run", "sieve", *SHORT, "data.phase_scale=1.0", "--out", tmp_path / "r", "--json"]
    code, out, err = tonesieve(*words)
    assert code == 0
    assert err.startswith("warning: data.phase_scale 1: unlearnable")
    json.loads(out)


def test_describe_and_generate(tonesieve, trained: Path, tmp_path: Path) -> None:
    code, out, _ = tonesieve("describe", "deep50")
    assert code == 0
    assert "201,345" in out
    code, out, _ = tonesieve("describe", trained)
    assert code == 0
    assert "activations" in out
    code, out, _ = tonesieve("generate", "--out", tmp_path / "a.npz", "data.duration_s=2")
    assert code == 0
    assert "2,000 samples at 1000 Hz" in out


def test_extract(tonesieve, trained: Path, tmp_path: Path) -> None:
    t = np.arange(1000) / 1000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(6 * np.pi * t), 1000)
    code, out, _ = tonesieve("extract", tmp_path / "a.wav", "--hz", 3, "--with", trained)
    assert code == 0
    assert "1,000 samples written to" in out
    assert soundfile.info(tmp_path / "a.tone.wav").frames == 1000
    words = ["extract", tmp_path / "a.wav", "--with", trained, "--force", "--json", "--causal"]
    result = json.loads(tonesieve(*words)[1])
    assert [tone["hz"] for tone in result["tones"]] == [1, 3, 5, 7]


def test_export(tonesieve, trained: Path, tmp_path: Path) -> None:
    code, out, _ = tonesieve("export", trained, "--onnx", tmp_path / "a.onnx")
    assert code == 0
    assert "state_lstm_1_c       batch x 1 x 4" in out
    assert "from the run's own estimates" in out
    result = json.loads(
        tonesieve("export", trained, "--onnx", tmp_path / "a.onnx", "--force", "--json")[1]
    )
    assert result["bytes"] == (tmp_path / "a.onnx").stat().st_size
    assert result["difference"] < 1e-5


def test_extract_by_a_filter(tonesieve, tmp_path: Path) -> None:
    t = np.arange(2000) / 1000
    tone = 0.3 * np.sin(2 * np.pi * 50 * t + 1)
    soundfile.write(tmp_path / "a.wav", tone + 0.2 * np.sin(2 * np.pi * 7 * t), 1000, "DOUBLE")
    lock_in = ["--with", "lock-in:time_s=0.1,order=4"]
    for options in ([], ["--causal"], lock_in, ["--with", "wiener"]):
        assert tonesieve("extract", tmp_path / "a.wav", "--hz", 50, "--force", *options)[0] == 0
        estimate = soundfile.read(tmp_path / "a.tone.wav")[0]
        # -30 dB of the tone's power, five time constants of the lock-in away from the ends.
        assert np.mean((estimate - tone)[1000:1500] ** 2) < 1e-3 * np.mean(tone**2)


def test_limit_and_diagnose(tonesieve) -> None:
    code, out, err = tonesieve("limit", "--window", 5, "--stderr", 0.01)
    assert (code, err) == (0, "")
    assert "limit from 5 samples: MSE 0.2" in out
    result = json.loads(tonesieve("limit", "window10", "--stderr", 0.01, "--json")[1])
    assert {"mse", "stderr", "per_component"} <= result.keys()
    assert len(result["per_component"]) == 4
    closed = tonesieve("limit", "data.regime=free", "data.snr_db=0")[1]
    assert "best linear estimate" in closed
    assert "in closed form" in closed
    assert "result: at best MSE 0.19" in tonesieve("diagnose", "window10")[1]
    assert json.loads(tonesieve("diagnose", "window10", "--json")[1])["verdict"] == "at best"


def test_compare_and_probe(tonesieve, trained: Path, tmp_path: Path) -> None:
    words = ["compare", trained, "--records", 2, "--seconds", 0.3, "--out", tmp_path / "c"]
    code, out, err = tonesieve(*words)
    assert (code, err) == (0, "")
    for word in ("fixed start", "random start", "free", "sieve", "kalman", "best possible"):
        assert word in out
    table = pd.read_csv(tmp_path / "c" / "compare.csv")
    assert len(table) == 3 * (len(FILTER_NAMES) + 2)  # the run, and the best possible
    assert {"scene", "name", "mse", "ratio", "mse_7Hz", "us_per_sample"} <= set(table.columns)
    assert (tmp_path / "c" / "figures" / "compare.png").stat().st_size > 10_000
    assert len(json.loads(tonesieve(*words, "--json")[1])["scenes"]) == 3
    code, out, _ = tonesieve("probe", trained)
    assert code == 0
    assert "result: " in out
    result = json.loads(tonesieve("probe", trained, "--json")[1])
    assert result["verdict"] in ("filter", "clock", "both", "neither")
    assert result["swapped_selector"] is not None


# Bad input of every kind, by a part of the message that it must give.
FILES = {
    "sweep.yaml": "name: a\ngrid: {model.hiden_size: [1]}\n",
    "good.yaml": "name: a\n",
    "good.csv": "time_s,x\n" + "".join(f"{n / 1000},{n % 7}\n" for n in range(2000)),
    "empty.csv": "",
    "text.csv": "time_s,x\n0,1\n0.001,a\n",
    "uneven.csv": "time_s,x\n0,1\n1,1\n2,1\n3,1\n4.5,1\n5,1\n6,1\n",
    "nan.csv": "time_s,x\n" + "".join(f"{n / 1000},\n" for n in range(2000)),
    "back.csv": "time_s,x\n0,1\n1,1\n2,1\n1.5,1\n3,1\n4,1\n",
    "far.csv": "time_s,x\n0,1\n1,1\n2,1\n3,1\n99999999,1\n",
    "short.csv": "time_s,x\n0,1\n0.001,2\n0.002,3\n",
    "typo.yaml": "data:\n  rate: 3\n",
    "broken.yaml": "data: [1\n",
    "list.yaml": "- 1\n",
    "folder/x": "",
    "folder.csv/x": "",
}
MISTAKES = {
    "no such file, nor a shipped sweep; there are architecture": "sweep {tmp}/none.yaml",
    "nothing varies; give grid": "sweep {tmp}/good.yaml --out {tmp}/new",
    "hiden_size: no such key": "sweep {tmp}/sweep.yaml --out {tmp}/new",
    "'slurm' is not one of": "sweep guide --engine slurm --out {tmp}/new",
    "--workers 0: must be 1 or more": "sweep guide --workers 0 --out {tmp}/new",
    "is for lstm, gru, rnn, cnn-lstm, lru, not for tcn": (
        "run model.kind=tcn model.attention=heads --out {tmp}/new"
    ),
    "input should be 'lstm', 'gru'": "run model.kind=lsmt --out {tmp}/new",
    "data.rate: no such key; did you mean rate_hz?": "run {tmp}/typo.yaml --out {tmp}/new",
    "line 2: not YAML": "run {tmp}/broken.yaml --out {tmp}/new",
    "must be a mapping": "run {tmp}/list.yaml --out {tmp}/new",
    "input should be greater than 0": "run training.learning_rate=0 --out {tmp}/new",
    "at or above half the rate": "run data.rate_hz=10 --out {tmp}/new",
    "is longer than the record": "run model.window=10001 --out {tmp}/new",
    "no such preset; did you mean deep50?": "run deep5 --out {tmp}/new",
    "a second preset or file": "run sieve guide --out {tmp}/new",
    "exists; choose another --out": "run --out {run}",
    "not a run directory": "run --resume {tmp}/folder",
    "--resume takes its settings": "run sieve --resume {run}",
    "cut short, or not a checkpoint": "extract {tmp}/good.csv --with {tmp}/cut",
    "not a run directory (it holds no config.yaml)": "evaluate {tmp}/folder",
    "ending '.txt'; choose .npz or .csv": "generate --out {tmp}/a.txt",
    "cannot be written: no such folder as": "generate --out {tmp}/no/a.npz",
    "good.csv: exists; choose another --out, or --force": "generate --out {tmp}/good.csv",
    "empty.csv: empty": "extract {tmp}/empty.csv --with {run}",
    "row 2: 'a' is not a number": "extract {tmp}/text.csv --with {run}",
    "uneven time stamps at row 5": "extract {tmp}/uneven.csv --with {run}",
    "uneven time stamps at row 4": "extract {tmp}/back.csv --with {run}",
    "(the longest before row 5)": "extract {tmp}/far.csv --with {run}",
    "x holds no number at all": "extract {tmp}/nan.csv --with {run}",
    "--time when: no such column; there are time_s, x": "extract {tmp}/good.csv --time when --hz 3",
    "--full: .wav holds sound alone": "extract {tmp}/good.csv --hz 3 --full --out {tmp}/a.wav",
    "--rate: give the samples per second": "stream --hz 3",
    "--from carrier-pigeon: must be - (standard input)": "stream --hz 3 --from carrier-pigeon",
    "--from tcp://nowhere: must be tcp://HOST:PORT": "stream --hz 3 --from tcp://nowhere",
    "tcp://localhost:1: cannot be reached": "stream --hz 3 --rate 9 --from tcp://localhost:1",
    "zero-phase: needs the future and cannot stream": "stream --hz 3 --rate 9 --with zero-phase",
    "was trained at 1000 Hz; bring the stream": "stream --rate 100 --with {run}",
    "good.csv: not a saved state": "stream --hz 3 --rate 9 --state {tmp}/good.csv",
    "--channels 0: must be 1 or more": "stream --hz 3 --rate 9 --channels 0",
    "no column 'y'; there are x": "extract {tmp}/good.csv --with {run} --column y",
    "--hz 4: ": "extract {tmp}/good.csv --with {run} --hz 4",
    "shorter than the 1 s that": "extract {tmp}/short.csv --with {run}",
    "is a folder; name a file": "extract {tmp}/good.csv --with {run} --out {tmp}/folder.csv",
    "ending ''; writable are .csv": "extract {tmp}/good.csv --with {run} --out {tmp}/folder",
    "no such file": "extract {tmp}/missing.csv --with {run}",
    "--rate -3: must be above 0 Hz": "extract {tmp}/good.csv --with {run} --rate -3",
    "--band 5 3: must be LOW HIGH": "extract {tmp}/good.csv --with {run} --band 5 3",
    "half the recording's rate": "extract {tmp}/good.csv --with {run} --band 400 700",
    "not a run's metrics": "evaluate {tmp}/cut",
    "no cuda here": "run training.device=cuda --out {tmp}/new",
    "--hz: name the tone": "extract {tmp}/good.csv",
    "Missing option '--onnx'": "export {run}",
    "good.csv: exists; choose another --onnx": "export {run} --onnx {tmp}/good.csv",
    "folder: is a folder; name a file": "export {run} --onnx {tmp}/folder",
    "no such folder as": "export {run} --onnx {tmp}/no/a.onnx",
    "absent: not a run directory": "export {tmp}/absent --onnx {tmp}/a.onnx",
    "neither a run directory, nor pretrained": "extract {tmp}/good.csv --hz 3 --with {tmp}/no",
    "lock-in: no parameter 'tau'": "extract {tmp}/good.csv --hz 3 --with lock-in:tau=1",
    "--hz 500: must be above 0 and below 500 Hz": "extract {tmp}/good.csv --hz 500",
    "--within 0: must be a number of Hz above 0": (
        "extract {tmp}/good.csv --hz 3 --with kalman --within 0"
    ),
    "--within -1: must be a number of Hz above 0": "extract {tmp}/good.csv --hz 3 --within -1",
    "--within -0.5: must be a number of Hz above 0": "stream --hz 3 --rate 9 --within -0.5",
    "--within 0.8: must be 0.75 Hz or less, a quarter of 3 Hz": (
        "extract {tmp}/good.csv --hz 9 --hz 3 --within 0.8"
    ),
    "Invalid value for '--within'": "extract {tmp}/good.csv --hz 3 --within near",
    "wiener needs the future": "extract {tmp}/good.csv --hz 3 --with wiener --causal",
    "--window 0: must be 1 to": "limit --window 0",
    "--stderr -1: must be above 0": "limit --stderr -1",
    "data.phase_scale: input should be greater": "limit --phase-scale -1",
    "data.clip_level: no exact limit": "limit data.clip_level=1",
    "data.pink_snr_db: no limit is known": "limit data.regime=free data.pink_snr_db=0",
    "come back together only after": "limit data.frequencies_hz=[1.234,2.345]",
    "--records 1: must be 2 or more": "compare {run} --records 1 --out {tmp}/new",
    "--seconds 0: 0 samples": "compare {run} --seconds 0 --out {tmp}/new",
    "folder: not a run directory": "compare {run} {tmp}/folder --out {tmp}/new",
    "Missing argument 'RUN ...'": "compare",
    "no: not a run directory": "probe {tmp}/no",
    "No such command 'fly'": "fly",
    "No such option: --speed": "run --speed",
    "Invalid value for '--hz'": "extract {tmp}/good.csv --with {run} --hz three",
}


def write_files(tmp: Path, run: Path) -> None:
    for name, text in FILES.items():
        (tmp / name).parent.mkdir(exist_ok=True)
        (tmp / name).write_text(text)
    (tmp / "cut").mkdir()
    (tmp / "cut" / "config.yaml").write_text((run / "config.yaml").read_text())
    raw = (run / "weights.safetensors").read_bytes()
    (tmp / "cut" / "weights.safetensors").write_bytes(raw[:-9])
    (tmp / "cut" / "metrics.json").write_text('{"x": 1}')


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_gets_one_line_and_code_2_and_writes_nothing(
    tonesieve, message: str, trained: Path, tmp_path: Path
) -> None:
    write_files(tmp_path, trained)
    words = MISTAKES[message].format(tmp=tmp_path, run=trained).split()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    code, out, err = tonesieve(*words)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.startswith("tonesieve: ")
    assert err.count("\n") == 1
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_read_only_folder(tonesieve, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        folder = Path("/proc/tonesieve")  # where even root cannot write
    else:
        folder = tmp_path
        tmp_path.chmod(0o500)
    for words in (["run", *SHORT, "--out", folder / "r"], ["generate", "--out", folder / "a.npz"]):
        code, _, err = tonesieve(*words)
        assert code == 2
        assert "cannot be" in err
        assert err.count("\n") == 1


def test_a_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tonesieve", "presets", "deep5"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean deep50?" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_other_failures_get_code_1(tonesieve, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(app.tonesieve, "describe", broken, raising=False)
    code, _, err = tonesieve("describe")
    assert code == 1
    assert err.startswith("tonesieve: RuntimeError: the sky fell")


@pytest.mark.usefixtures("no_pictures")
def test_divergence_gives_code_1(tonesieve, tmp_path: Path) -> None:
    diverging = ["training.optimizer=sgd", "training.learning_rate=1e12", "training.clip_norm=null"]
    code, _, err = tonesieve("run", *SHORT, *diverging, "--out", tmp_path / "r")
    assert code == 1
    assert "training diverged in epoch 1" in err
