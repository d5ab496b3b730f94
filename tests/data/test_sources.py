"""Sources: the documents of each kind of source, from any place, and errors for invalid ones."""

import bz2
import gzip
import io
import json
import lzma
import re
import socket
import subprocess
from itertools import islice

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.data import lines, readers
from bigs_cli.data import parquet as tables
from bigs_cli.data.documents import BadRecord
from bigs_cli.data.python_docs import prose, read_python_docs
from bigs_cli.data.readers import ReadOptions
from bigs_cli.data.sources import find_parts, read_documents, read_parts

TEXTS = ["One river.\n\nTwo stones.", "Ünïcode “quotes”, and more.", "The last."]
QUOTING = ['"Yes," she said.', '"No.']  # where tabs separate, quotes belong to the text
PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


def rows(texts, column="text"):
    return "".join(json.dumps({"id": str(i), column: text}) + "\n" for i, text in enumerate(texts)).encode()


def table(texts):
    quoted = (text.replace('"', '""') for text in texts)
    return "".join(["id,text\n", *(f'{i},"{t}"\n' for i, t in enumerate(quoted))]).encode()


def read(*sources, column=None):
    return list(read_documents([str(source) for source in sources], column))


def tolerant(source, how=None):
    """Return the documents of a source, and the messages about its bad records, which are skipped."""
    records = [record for _, _, record in read_parts(find_parts([str(source)], how))]
    return [r for r in records if isinstance(r, str)], [r.message for r in records if isinstance(r, BadRecord)]


def refused(*sources, column=None):
    with pytest.raises(RequestError) as error:
        read(*sources, column=column)
    return str(error.value)


def test_a_folder_with_every_file_format(tmp_path):
    (tmp_path / "a.txt").write_text(TEXTS[0])
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + rows(TEXTS) + b"\n")
    (tmp_path / "c.csv").write_bytes(table(TEXTS))
    (tmp_path / "d.TSV").write_text(f"\nid\ttext\n1\t{QUOTING[0]}\n2\t{QUOTING[1]}\n")
    parquet.write_table(pa.table({"title": ["x", "y", "z", "w"], "text": [*TEXTS, None]}), tmp_path / "e.parquet")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "f.txt.gz").write_bytes(gzip.compress(b"Deeper."))
    (tmp_path / "README.md").write_text("no text source")
    (tmp_path / ".hidden.txt").write_text("hidden")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "g.txt").write_text("hidden")
    assert read(tmp_path) == [TEXTS[0], *TEXTS * 2, *QUOTING, *TEXTS, "Deeper."]
    assert read(tmp_path / "e.parquet", tmp_path / "a.txt") == [*TEXTS, TEXTS[0]]


@pytest.mark.parametrize("packing", PACK)
def test_compressed_files(tmp_path, packing):
    (tmp_path / f"a.jsonl{packing}").write_bytes(PACK[packing](rows(TEXTS)) + PACK[packing](rows(TEXTS)))
    (tmp_path / f"b.csv{packing}").write_bytes(PACK[packing](table(TEXTS)))
    (tmp_path / f"c.txt{packing}").write_bytes(PACK[packing](TEXTS[0].encode()))
    whole = io.BytesIO()
    parquet.write_table(pa.table({"text": TEXTS}), whole)
    (tmp_path / f"d.parquet{packing}").write_bytes(PACK[packing](whole.getvalue()))
    assert read(tmp_path) == [*TEXTS * 3, TEXTS[0], *TEXTS]
    (tmp_path / f"d.parquet{packing}").write_bytes(PACK[packing](whole.getvalue())[:-9])
    assert "corrupt" in refused(tmp_path / f"d.parquet{packing}")
    (tmp_path / f"d.parquet{packing}").unlink()
    cut = tmp_path / f"cut.jsonl{packing}"
    cut.write_bytes(PACK[packing](rows(f"text {i}" for i in range(200)))[:-9])
    assert "corrupt or truncated archive" in refused(cut)
    found, bad = tolerant(tmp_path)
    assert len(bad) == 1
    broken = found[len(TEXTS) * 3 + 1 :]
    assert broken == [f"text {i}" for i in range(len(broken))], "what came before the damage is read"
    (tmp_path / f"not.jsonl{packing}").write_bytes(rows(TEXTS))
    assert f"not.jsonl{packing} is a corrupt or truncated archive" in refused(tmp_path / f"not.jsonl{packing}")


@pytest.mark.parametrize("codec", ["gzip", "zstd", "snappy"])
def test_compressed_parquet_columns(tmp_path, codec):
    table = pa.table({"text": pa.array(TEXTS, pa.large_string())})
    parquet.write_table(table, tmp_path / "a.parquet", compression=codec)
    assert read(tmp_path / "a.parquet") == TEXTS


def test_documents_of_a_text_file(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfOne.\nTwo.\n\n\nThree.\n")
    assert [t.strip() for t in tolerant(file, ReadOptions(text_documents="block"))[0]] == ["One.\nTwo.", "Three."]
    assert [t.strip() for t in tolerant(file, ReadOptions(text_documents="line"))[0]] == ["One.", "Two.", "Three."]
    assert tolerant(file)[0] == ["One.\nTwo.\n\n\nThree.\n"]
    monkeypatch.setattr(readers, "LONGEST_TEXT", 8)
    assert tolerant(file)[0] == ["One.\nTwo.\n", "\n\nThree.\n"], "a long file is never whole in memory"


def test_wiki_extractor(tmp_path):
    first = '<doc id="1" url="u" title="A &amp; B">\nA &amp; B\n\nText of A &lt; B.\n</doc>\n'
    second = '<doc id="2" url="u" title="C">\nC\n\nText of C.\n\n</doc>\n'
    (tmp_path / "AA").mkdir()
    (tmp_path / "AA" / "wiki_00").write_text(first + second)
    (tmp_path / "AA" / "wiki_01.bz2").write_bytes(bz2.compress(second.encode()))
    (tmp_path / "AB").mkdir()
    (tmp_path / "AB" / "wiki_00").write_bytes(rows(["As JSON."]))
    (tmp_path / "all.txt").write_text(first)
    a, c = "A & B\n\nText of A < B.\n", "C\n\nText of C.\n\n"
    assert read(tmp_path) == [a, c, c, "As JSON.", a]


def test_wiki_documents_without_an_end_are_split(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LONGEST_TEXT", 8)
    (tmp_path / "wiki_00").write_text('<doc id="1">\nOne two.\nThree.\nFour.\n')
    assert read(tmp_path / "wiki_00") == ["One two.\n", "Three.\nFour.\n"]


def test_a_parquet_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_SMALL", 1 << 12)
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(b"PAR1" + bytes(1 << 20)))
    assert f"decompressed, it is more than {tables._MOST_PACKED} times as large" in refused(tmp_path / "a.parquet.gz")


def test_the_suggested_conversion_command_works(tmp_path):
    (tmp_path / "a file.txt").write_bytes(b"caf\xe9\n")
    command = re.search(r"iconv .*?fixed\.txt", refused(tmp_path / "a file.txt"))[0]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert read(tmp_path / "fixed.txt") == ["café\n"]
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"caf\xe9\n"))
    assert "Unpack the file and convert it" in refused(tmp_path / "b.txt.gz")


def test_the_text_column_is_named_or_detected(tmp_path):
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
    (tmp_path / "a.csv").write_text("n,body\n1,Words.\n")
    assert read(tmp_path / "a.csv") == ["Words."]
    (tmp_path / "b.csv").write_text("title,body\nT,Words.\n")
    assert "there is no column 'text'" in refused(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("name", "content", "message", "kept"),
    [
        ("latin.txt", b"one\ntwo\ncaf\xe9\nfour", "latin.txt:3 is not UTF-8", ["one\ntwo\nfour"]),
        ("latin.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n{"text": "b"}', "latin.jsonl:2 is not UTF-8", ["a", "b"]),
        ("broken.jsonl", b'{"text": "a"}\n{"text": \n', "broken.jsonl:2 is not JSON", ["a"]),
        ("deep.jsonl", b"[" * 200_000, "deep.jsonl:1 is not JSON", []),
        ("list.jsonl", b'[1]\n{"text": "a"}', "list.jsonl:1 is not a JSON object", ["a"]),
        (
            "number.jsonl",
            b'{"text": 7}\n{"text": null}',
            "number.jsonl:1: the column 'text' contains a value of type int",
            [],
        ),
        ("ragged.csv", b"id,text\n1,a\n2\n3,b\n", "ragged.csv:3 has 1 cells", ["a", "b"]),
        ("latin.csv", b"id,text\n1,\xe9\n3,b\n", "latin.csv:2 is not UTF-8", ["b"]),
        ("cell.csv", b'id,text\n1,a\n2,"two \xe9\nlines, one"\n3,b\n', "cell.csv:3 is not UTF-8", ["a", "b"]),
        ("end.csv", b'id,text\n1,a\n2,"two\nlines \xe9"\n3,b\n', "end.csv:4 is not UTF-8", ["a", "b"]),
        ("odd.jsonl", b'{"text": "a"}\n{"other": "x"}\n{"text": "b"}', "odd.jsonl:2 has no column 'text'", ["a", "b"]),
        ("array.jsonl", b'[{"text":\n"a"}]\n{"text": "b"}', "jq -c '.[]'", ["b"]),
        ("not.parquet", b"PAR1 not", "the file is corrupt", []),
        ("empty.parquet", b"", "the file is corrupt", []),
    ],
)
def test_bad_records_are_reported_and_can_be_skipped(tmp_path, name, content, message, kept):
    (tmp_path / name).write_bytes(content)
    assert message in refused(tmp_path / name)
    (tmp_path / "more.txt").write_text("More.")
    found, bad = tolerant(tmp_path)
    assert found == sorted([*kept, "More."], key=lambda text: (text == "More.") == (name < "more.txt"))
    assert len(bad) == 1 + (name == "array.jsonl")
    assert message in bad[0]


def test_corruption_in_the_middle_of_a_parquet_file(tmp_path):
    whole = io.BytesIO()
    parquet.write_table(pa.table({"text": [f"text {i} " * 20 for i in range(2000)]}), whole, row_group_size=100)
    data = bytearray(whole.getvalue())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    (tmp_path / "a.parquet").write_bytes(data)
    assert re.search(r"a\.parquet, row \d+: the file is corrupt", refused(tmp_path / "a.parquet"))
    found, bad = tolerant(tmp_path / "a.parquet")
    assert len(found) + len(bad) == 2000
    assert len(bad) <= 200, "the other row groups are read"


def test_lines_over_the_limit_are_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 64)
    (tmp_path / "a.jsonl").write_bytes(rows(["short"]) + b"x" * 1000 + b"\n" + rows(["last"]))
    found, bad = tolerant(tmp_path / "a.jsonl")
    assert found == ["short", "last"]
    assert "a.jsonl:2 is longer" in bad[0]


@pytest.mark.parametrize("name", ["empty.txt", "empty.csv", "empty.jsonl"])
def test_sources_without_text_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b" \n\n")
    assert f"{name} contains no text" in refused(tmp_path / name)
    (tmp_path / "more.txt").write_text("More.")
    assert f"{name} contains no text" in refused(tmp_path / "more.txt", tmp_path / name)


def test_missing_sources_are_refused_at_once(tmp_path):
    (tmp_path / "wiki.jsonl").write_bytes(rows(TEXTS))
    with pytest.raises(RequestError, match=r"no file or folder .*wiki\.json\..*Did you mean .*wiki\.jsonl"):
        read_documents([str(tmp_path / "wiki.json")])
    (tmp_path / "none").mkdir()
    with pytest.raises(RequestError, match="contains no"):
        read_documents([str(tmp_path / "none")])
    (tmp_path / "what.docx").write_bytes(b"x")
    with pytest.raises(RequestError, match="has an unknown format"):
        read_documents([str(tmp_path / "what.docx")])


ODD = ("run::2024", "a:b", "50%20", "no#1", "[x]", "what?", "star*", "~tilde", "file:x", "a::b::c", " spaces ", "ünï")


@pytest.mark.parametrize("name", ODD)
def test_local_paths_with_special_characters_are_read(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.jsonl").write_bytes(rows(TEXTS))
    (tmp_path / f"{name}.txt").write_text("Plain.")
    assert read(f"{name}.txt") == ["Plain."]
    assert read(name) == read(tmp_path / name) == read(f"{name}/{name}.jsonl") == TEXTS


def test_links_are_followed_and_broken_ones_named(tmp_path, monkeypatch):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.txt").write_text("Far.")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "linked").symlink_to(tmp_path / "far")
    (corpus / "gone.txt").symlink_to(tmp_path / "nowhere")
    messages = []
    parts = find_parts([str(corpus)], say=messages.append)
    assert [record for _, _, record in read_parts(parts)] == ["Far."]
    assert parts[0].identity == f"{corpus}/linked/a.txt (4 bytes)"
    assert messages == [f"{corpus} has 1 entry that cannot be read: {corpus}/gone.txt (a broken link)."]
    (corpus / "linked").unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="contains no"):
        find_parts(["corpus"], say=messages.append)
    assert messages[1] == "corpus has 1 entry that cannot be read: corpus/gone.txt (a broken link)."
    with pytest.raises(RequestError, match=r"gone\.txt is a broken link"):
        find_parts([str(corpus / "gone.txt")])


def test_urls_are_read_with_fsspec():
    memory = fsspec.filesystem("memory")
    with memory.open("/corpus/AA/wiki_00.gz", "wb") as file:
        file.write(gzip.compress(rows(TEXTS)))
    with memory.open("/corpus/b.txt", "wb") as file:
        file.write(b"Plain.")
    with memory.open("/corpus/c.parquet", "wb") as file:
        parquet.write_table(pa.table({"text": TEXTS}), file)
    assert read("memory://corpus") == [*TEXTS, "Plain.", *TEXTS]
    assert read("memory://corpus/b.txt") == ["Plain."]
    with memory.open("/corpus/d.jsonl", "wb") as file:
        file.write(b"{")
    assert "memory://corpus/d.jsonl:1 is not JSON" in refused("memory://corpus")
    memory.rm("/corpus", recursive=True)


def test_unsupported_urls_are_refused():
    message = refused("gs://bucket/text.jsonl")
    assert "pip install 'bigs[gcs]'" in message
    assert "not a URL that can be used" in refused("nosuch://bucket/text.jsonl")


def test_reading_continues_from_any_cursor(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(rows([*TEXTS, " ", "Fourth."]) + b"{bad\n" + rows(["Last."]))
    (tmp_path / "b.txt").write_text("Text.")
    (tmp_path / "c.csv").write_bytes(table(TEXTS))
    parts = find_parts([str(tmp_path / "a.jsonl"), str(tmp_path)], None)
    whole = list(read_parts(parts))
    assert len(whole) == 6 + 6 + 1 + 3
    for number, (_, place, _) in enumerate(whole, start=1):
        assert list(read_parts(parts, place)) == whole[number:]


def test_an_unreachable_hub_is_reported(monkeypatch):
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(BigsError, match="cannot be reached"):
            read("owner/name:config")


def test_names_of_hub_data_sets(monkeypatch):
    from bigs_cli.data import hub

    requests = []

    def find(*name):
        requests.append(name)
        return hub.HubSplit("a/b:default:train", "train", "0123abc", [], None)

    monkeypatch.setattr(hub, "find_hub_split", find)
    monkeypatch.setattr(hub, "read_hub_split", lambda found, column, skip: iter(["Text."]))
    for name in ("a/b", "a/b:c.d", "a/b:c:train", "a/b::test", "a/b@v1.0", "a/b@refs/pr/3:c:train"):
        assert read(name) == ["Text."]
    assert requests == [
        ("a/b", None, None, None),
        ("a/b", "c.d", None, None),
        ("a/b", "c", "train", None),
        ("a/b", None, "test", None),
        ("a/b", None, None, "v1.0"),
        ("a/b", "c", "train", "refs/pr/3"),
    ]
    assert find_parts(["a/b"])[0].identity == "a/b:default:train at 0123abc"


def test_python_docs_are_read_without_importing(tmp_path):
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


def test_python_docs_have_many_english_documents():
    documents = list(read_documents(["python-docs"]))
    assert len(documents) > 300
    assert sum(map(len, documents)) > 1_000_000
    assert list(islice(read_documents(["python-docs"]), 20)) == documents[:20]


def test_prose_leaves_out_code_tables_and_signatures():
    assert prose("  A sentence that\n  goes on here.\n\n    x = f(1) + g[2] * 7\n\n| a | b |") == (
        "A sentence that goes on here."
    )
