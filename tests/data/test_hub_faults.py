"""Data sets on a hub that fails, cannot be reached, or does not have the requested data."""

from __future__ import annotations

from typing import Any

from tests.data.hub_reading import LINES, MANY, NOWHERE, read, whole
from tests.hub_server import Fault, Hub
from tests.tiny import HANG


def test_network_faults_do_not_change_the_text(hub: Hub, start: Any) -> None:
    tree, lines = "/api/datasets/someone/configs/tree", "GET /datasets/someone/lines/resolve"
    hub.faults += [
        Fault("train-0.parquet", after=1000),
        Fault("train-0.parquet", after=200_000),
        Fault("train-1.parquet", times=4, status=503),
        Fault("train-1.parquet", after=200_000, stall=2 * HANG),
        Fault(lines, stall=2 * HANG),
        Fault(lines, after=10),
        Fault(lines, status=500),
        Fault(tree, stall=2 * HANG),
        Fault(tree, status=502),
        Fault("GET /api/datasets/someone/configs", times=2, status=504),
        Fault("/someone/configs/resolve/0123456789abcdef0123456789abcdef01234567/README.md", status=503),
        Fault("/someone/rows/resolve/0123456789abcdef0123456789abcdef01234567/README.md", times=8, status=503),
        Fault("train.csv", after=5),
    ]
    requests = [{"repo": "many"}, {"repo": "lines"}, {"repo": "configs", "config": "20231101.en"}, {"repo": "rows"}]
    assert read(start, *requests, ANSWER_WITHIN="2") == [
        whole([*MANY[::2], *MANY[1::2]]),
        whole(LINES),
        whole(["one", "two"]),
        whole(["first", "second, quoted", "third"]),
    ]
    assert [fault for fault in hub.faults if fault.times] == []


def test_a_persistent_hub_failure_is_reported_after_a_while(hub: Hub, start: Any) -> None:
    hub.faults += [
        Fault("train-1.parquet", times=99, status=503),
        Fault("lines/resolve", times=99, after=10),
        Fault("rows/resolve", times=99, after=10),
        Fault("array/tree", times=99, status=502),
        Fault("plain/resolve", times=99, after=10, stall=2 * HANG),
        Fault("numbers/resolve", times=99, status=503),
    ]
    many, lines, rows, array, plain, numbers = read(
        start,
        *({"repo": name} for name in ("many", "lines", "rows", "array", "plain", "numbers")),
        ANSWER_WITHIN="2",
    )
    on = "Check the network and try again."
    lost = f"BigsError: The connection to {hub.endpoint} was lost while reading someone"
    assert (many[0], many[1]) == (MANY[:20:2], 2000)
    assert many[3] == f"{lost}/many:default:train (HTTP 503). {on}"
    broken = "BigsError: The connection was lost while reading hf://datasets/someone"
    assert lines[3].startswith(f"{broken}/lines/data/train.jsonl.gz (peer closed connection")
    assert plain[3].startswith(f"{broken}/plain/train.txt (")
    assert rows[3].startswith(f"{lost}/rows:default:train (")
    assert all("\n" not in result[3] for result in (lines, rows, plain))
    for name, result, why in (("array", array, "HTTP 502"), ("numbers", numbers, "HTTP 503")):
        assert result[3] == (
            f"BigsError: someone/{name} could not be downloaded from {hub.endpoint} and is not in the cache "
            f"({why}). Check the network and try again, or use local files."
        )


def test_missing_repositories_revisions_and_splits_are_reported(hub: Hub, start: Any) -> None:
    got = read(
        start,
        {"repo": "none"},
        {"repo": "no--thing"},
        {"repo": "lines", "revision": "v2"},
        {"repo": "configs"},
        {"repo": "configs", "config": "20231101.ne"},
        {"repo": "configs", "config": "20231101.en", "split": "valid"},
        {"repo": "configs", "config": "20231101.en", "text_column": "txt"},
        {"repo": "rows", "text_column": "txt"},
        {"repo": "program"},
        {"repo": "pictures"},
        {"repo": "wrong-card"},
        {"repo": "gated"},
        {"repo": "broken-card"},
        {"repo": "odd-card"},
        {"repo": "broken-array"},
    )
    *got, broken_card, odd_card, broken_array = got
    known = "20231101.en, 20231101.de"
    assert [(documents, error) for documents, _, _, error in got] == [
        ([], f"RequestError: {message}")
        for message in (
            "someone/none is not a local file or folder, and the hub has no data set of that name that you can access. "
            "Check the name; if it is private, log in with: hf auth login",
            "'someone/no--thing' is neither an existing file or folder nor a hub id such as owner/name. "
            "Check the name.",
            "The data set someone/lines on the hub has no revision 'v2'. Name a branch, tag or commit of it.",
            "The data set someone/configs on the hub has several configurations. "
            f"It has {known}; name one: someone/configs:20231101.en",
            "The data set someone/configs on the hub has no configuration '20231101.ne'. Did you mean '20231101.en'? "
            f"It has {known}; name one: someone/configs:20231101.en",
            "The data set someone/configs:20231101.en on the hub has no split 'valid'. Did you mean 'validation'? "
            "It has train, validation; name one: someone/configs:20231101.en:train",
            "hf://datasets/someone/configs/en/0.parquet: there is no column 'txt'. "
            "Its columns are body, id; name the column of the text with --text-column NAME",
            "someone/rows:default:train: there is no column 'txt'. Did you mean 'text'? "
            "Its columns are text, id; name the column of the text with --text-column NAME",
            "The data set someone/program on the hub has a loading script (program.py), and code from the hub is "
            "never run. Name a copy of it in Parquet or JSONL.",
            "The data set someone/pictures on the hub contains no data files in a known format. "
            "Name its files, as in hf://datasets/someone/pictures/…",
            "The data set someone/wrong-card on the hub contains no data files in a known format. "
            "Name its files, as in hf://datasets/someone/wrong-card/…",
            "The data set someone/gated on the hub is gated. Request access on its page, then log in with: "
            "hf auth login",
        )
    ]
    for name, (_, _, _, error) in (("broken-card", broken_card), ("odd-card", odd_card)):
        assert error.startswith(f"RequestError: The data set someone/{name} on the hub cannot be used (")
        assert error.endswith(f"). Name its files, as in hf://datasets/someone/{name}/…")
    error = broken_array[3]
    assert error.startswith("RequestError: The data set someone/broken-array:default:train on the hub cannot be read (")
    assert "program.py" not in hub.downloads()


def test_a_missing_network_is_reported_at_once(start: Any) -> None:
    ((_, _, _, away),) = read(start, {"repo": "lines"}, HF_ENDPOINT=NOWHERE, AT_ONCE="1")
    ((_, _, _, offline),) = read(start, {"repo": "lines"}, HF_HUB_OFFLINE="1", AT_ONCE="1")
    assert away == (
        f"BigsError: someone/lines is not a local file or folder, and the hub ({NOWHERE}) cannot be reached. "
        "Check the network and try again, or name local text."
    )
    assert offline == (
        "BigsError: someone/lines is not a local file or folder, and HF_HUB_OFFLINE is set. "
        "Unset it to stream a data set from the hub."
    )
