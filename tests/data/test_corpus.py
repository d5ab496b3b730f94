"""Sources: what each kind yields, and a sentence for everything that can be wrong with one."""

import gzip
import json
import socket
from itertools import islice

import pyarrow as pa
import pytest
from pyarrow import parquet

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.data.corpus import read_documents
from bigs_cli.data.python_docs import prose, read_python_docs

TEXTS = ["One river.\n\nTwo stones.", "Ünïcode “quotes”.", "The last."]


def rows(texts, column="text"):
    return "".join(json.dumps({"id": str(i), column: text}) + "\n" for i, text in enumerate(texts)).encode()


def read(*sources, column=None):
    return list(read_documents([str(source) for source in sources], column))


def refused(*sources, column=None):
    with pytest.raises(RequestError) as error:
        read(*sources, column=column)
    return str(error.value)


def test_every_kind_of_file_and_a_folder_of_them(tmp_path):
    (tmp_path / "a.txt").write_text(TEXTS[0])
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + rows(TEXTS) + b"\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(rows(TEXTS)))
    table = pa.table({"title": ["x", "y", "z", "w"], "text": [*TEXTS, None]})
    parquet.write_table(table, tmp_path / "d.parquet")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "e.txt.gz").write_bytes(gzip.compress(b"Deeper."))
    (tmp_path / "README.md").write_text("no text source")
    (tmp_path / ".hidden.txt").write_text("hidden")
    assert read(tmp_path) == [TEXTS[0], *TEXTS, *TEXTS, *TEXTS, "Deeper."]
    assert read(tmp_path / "d.parquet", tmp_path / "a.txt") == [*TEXTS, TEXTS[0]]


def test_text_column_is_named_or_found(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"n": 1, "body": "Only strings here."}\n')
    assert read(file) == ["Only strings here."]
    file.write_text('{"title": "T", "body": "B"}\n')
    assert read(file, column="body") == ["B"]
    message = refused(file)
    assert "a.jsonl:1" in message
    assert "title, body" in message
    assert "--text-column" in message
    assert "Did you mean 'body'?" in refused(file, column="bodi")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", b" \n\n", "holds no text"),
        ("latin.txt", b"one\ntwo\ncaf\xe9\n", "latin.txt:3 is not UTF-8"),
        ("latin.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', "latin.jsonl:2 is not UTF-8"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": \n', "broken.jsonl:2 is not JSON"),
        ("list.jsonl", b"[1]\n", "list.jsonl:1 is not a JSON object"),
        ("number.jsonl", b'{"text": 7}\n', "number.jsonl:1: the column 'text' holds a int"),
        ("cut.jsonl.gz", gzip.compress(rows(TEXTS * 100))[:-9], "damaged or truncated archive"),
        ("not.jsonl.gz", b"plain", "damaged or truncated archive"),
        ("not.parquet", b"PAR1 not", "not a sound Parquet file"),
        ("what.docx", b"x", "of no known kind"),
    ],
)
def test_bad_files_are_refused_with_file_and_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    message = refused(tmp_path / name)
    assert said in message
    assert name in message


def test_missing_sources_are_refused_at_once(tmp_path):
    (tmp_path / "wiki.jsonl").write_bytes(rows(TEXTS))
    with pytest.raises(RequestError, match=r"no file or folder .*wiki\.json\..*Did you mean .*wiki\.jsonl"):
        read_documents([str(tmp_path / "wiki.json")])
    (tmp_path / "none").mkdir()
    with pytest.raises(RequestError, match="holds no"):
        read_documents([str(tmp_path / "none")])


def test_unreachable_hub_is_one_sentence(monkeypatch):
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(BigsError, match=r"owner/name:config is no file .* cannot be reached"):
            read("owner/name:config")


def test_hub_data_sets_are_streamed(monkeypatch):
    import datasets

    from bigs_cli.data import hub

    def load(repo, config, split, streaming):
        assert (repo, config, split, streaming) == ("owner/name", "20231101.en", "train", True)
        return datasets.IterableDataset.from_generator(lambda: ({"id": 1, "body": text} for text in TEXTS))

    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read("owner/name:20231101.en") == TEXTS


def test_python_docs_are_prose_read_without_importing(tmp_path):
    (tmp_path / "pydoc_data").mkdir()
    (tmp_path / "pydoc_data" / "topics.py").write_text(
        "topics = {'b': 'Heading\\n*******\\n\\nThe second topic is text\\nof two lines.', "
        "'a': 'The first topic says\\nthis.\\n\\n   >>> code()\\n   1'}\n"
    )
    (tmp_path / "module.py").write_text(
        'raise SystemExit("imported")\ndef f():\n    """Return something that is of use.\n\n    >>> f()\n    """\n'
    )
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "skipped.py").write_text('"""This one is not to be read at all."""\n')
    (tmp_path / "bad.py").write_text("def")
    assert list(read_python_docs(tmp_path)) == [
        "The first topic says this.",
        "The second topic is text of two lines.",
        "Return something that is of use.",
    ]


def test_this_pythons_docs_are_many_english_documents():
    documents = list(read_documents(["python-docs"]))
    assert len(documents) > 300
    assert sum(map(len, documents)) > 1_000_000
    assert list(islice(read_documents(["python-docs"]), 20)) == documents[:20]


def test_prose_leaves_out_code_tables_and_signatures():
    assert prose("  A sentence that\n  goes on here.\n\n    x = f(1) + g[2] * 7\n\n| a | b |") == (
        "A sentence that goes on here."
    )
