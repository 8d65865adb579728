"""Downloads from a server on this machine: broken connections, wrong files, two processes, no network."""

import hashlib
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from posekit import download
from posekit.data import fetch as data_sets
from posekit.download import fetch

CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """A server that answers as `answers` says, one after the other, the last one for ever: "drop", "wrong", "right"."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between two tries
    answers, asked = ["right"], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            how = answers.pop(0) if len(answers) > 1 else answers[0]
            body = b"another file" if how == "wrong" else CONTENT if isinstance(how, str) else how
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if how == "drop" else body)
            self.close_connection = True

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    http.answers, http.asked, http.url = answers, asked, f"http://127.0.0.1:{http.server_port}/weights.pth"
    yield http
    http.shutdown()
    http.server_close()


def test_a_broken_connection_is_tried_again(server, tmp_path):
    server.answers[:] = ["drop", "drop", "right"]
    path = fetch(server.url, tmp_path, progress=False)
    assert path.read_bytes() == CONTENT and len(server.asked) == 3
    assert fetch(server.url, tmp_path).samefile(path) and len(server.asked) == 3  # it is there
    assert (tmp_path / "weights.pth.sha256").read_text().strip() == SHA


def test_another_file_is_refused_and_has_no_name(server, tmp_path):
    server.answers[:] = ["wrong"]
    with pytest.raises(ValueError, match=r"weights.pth is not the file that was published: its sha256 .* and not with"):
        fetch(server.url, tmp_path, sha256=SHA[:8], progress=False)
    assert list(tmp_path.iterdir()) == []
    server.answers[:] = ["drop", "wrong", "right"]
    assert fetch(server.url, tmp_path, sha256=SHA[:8], progress=False).read_bytes() == CONTENT


def test_the_first_download_fixes_an_unknown_checksum(server, tmp_path):
    path = fetch(server.url, tmp_path, progress=False)
    path.unlink()
    server.answers[:] = ["wrong"]
    with pytest.raises(ValueError, match="is not the file that was published"):
        fetch(server.url, tmp_path, progress=False)
    assert not path.exists()


def test_a_file_put_there_by_hand_is_checked_once(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"something")
    with pytest.raises(ValueError, match=r"a.pth is not the file that was published"):
        fetch("http://127.0.0.1:9/a.pth", tmp_path, sha256=SHA)
    (tmp_path / "a.pth").write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:9/a.pth", tmp_path, sha256=SHA).read_bytes() == CONTENT


def test_without_a_network_a_sentence_says_where_to_put_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(ConnectionError) as error:
        fetch("http://127.0.0.1:9/a.pth", tmp_path, progress=False)
    assert "http://127.0.0.1:9/a.pth cannot be downloaded" in str(error.value)
    assert f"put it at {tmp_path / 'a.pth'}" in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_end_with_one_good_file(server, tmp_path):
    words = "import sys; from posekit.download import fetch; print(fetch(*sys.argv[1:3], progress=False))"
    command = [sys.executable, "-c", words, server.url, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {process.communicate(timeout=120)[0].strip() for process in both}
    assert paths == {str(tmp_path / "weights.pth")} and (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights.pth", "weights.pth.sha256"]


@pytest.mark.parametrize("url", ["hf:alone", "hf:", "hf:a//b"])
def test_a_repository_of_the_hub_has_two_names(url):
    with pytest.raises(ValueError, match="names no repository of the Hugging Face hub"):
        fetch(url)


def test_the_hub_without_a_network_is_a_sentence(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def nothing(*_):
        raise LocalEntryNotFoundError("no connection and nothing in the cache")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", nothing)
    with pytest.raises(ConnectionError, match=r"model.safetensors of https://huggingface.co/a/b cannot be downloaded"):
        fetch("hf:a/b")


def test_the_cache_can_lie_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path / "here"))
    assert download.cache_folder() == tmp_path / "here"


def test_an_archive_becomes_a_data_set(server, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        archive.writestr("val2017/a.jpg", b"pixels")
    made = data_sets.DataSet(server.url.replace(".pth", ".zip"), "coco", "val2017", "1 kB")
    monkeypatch.setitem(data_sets.DATA_SETS, "small", made)
    server.answers[:] = [(tmp_path / "val.zip").read_bytes()[:50]]
    with pytest.raises(ValueError, match="cannot be unpacked .* delete it and fetch it again"):
        data_sets.fetch_data("small", tmp_path / "damaged", progress=False)
    assert not (tmp_path / "damaged/coco/val2017").exists()
    server.answers[:] = [(tmp_path / "val.zip").read_bytes()]
    place = data_sets.fetch_data("small", tmp_path, progress=False)
    assert (place / "val2017/a.jpg").read_bytes() == b"pixels"
    assert sorted(one.name for one in place.iterdir()) == ["val2017", "weights.zip.sha256"]
    asked = len(server.asked)
    assert data_sets.fetch_data("small", tmp_path) == place and len(server.asked) == asked


def test_what_no_program_can_fetch_says_what_belongs_where(tmp_path):
    with pytest.raises(ConnectionError, match=r"macaquepose is not .* put into .*macaquepose: annotations.csv"):
        data_sets.fetch_data("macaquepose", tmp_path)
    with pytest.raises(ValueError, match="no data set is called 'imagenet'; there are coco-annotations"):
        data_sets.fetch_data("imagenet", tmp_path)
