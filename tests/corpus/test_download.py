"""Downloads by yt-dlp from a web server of our own: what is fetched, what is refused, and what each error is called."""

import http.server
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.corpus.conftest import Site, reply

from tvts.config import Fetch
from tvts.corpus import download as module
from tvts.corpus.download import check_url, download
from tvts.corpus.status import Failure
from tvts.corpus.worker import Worker

OPEN = {"allow_private_hosts": True}


def fetch(url: str, folder: Path, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    request = {
        "url": url,
        "source": "http",
        "folder": str(folder),
        "settings": Fetch.model_validate(settings).model_dump(mode="json"),
    }
    found = download(request)
    assert found["audio"] is None
    assert found["video"]
    assert Path(found["video"]).parent == folder
    return Path(found["video"])


def refused(url: str, folder: Path, **settings: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        fetch(url, folder, **settings)
    assert caught.value.message
    assert caught.value.message.isprintable()
    return caught.value


@pytest.fixture
def media(clip: Path) -> bytes:
    return clip.read_bytes()


@pytest.mark.parametrize(
    "content_type", ["video/mp4", "video/webm", "application/octet-stream", "binary/octet-stream", "text/plain"]
)
def test_a_file_arrives_as_it_is(site: Site, tmp_path: Path, media: bytes, content_type: str) -> None:
    site.replies["/a.mp4"] = reply(media, content_type=content_type)
    assert fetch(site.url("/a.mp4"), tmp_path / "d", **OPEN).read_bytes() == media
    assert len(list((tmp_path / "d").iterdir())) == 1


@pytest.mark.parametrize(
    "path", ["/watch?v=1&x=%2Fetc%2Fpasswd", "/a", "/a.php", "/..%2f..%2fevil.mp4", "/%24(touch%20x).mp4", "/a%0ab.mp4"]
)
def test_the_address_does_not_choose_the_files_name(site: Site, tmp_path: Path, media: bytes, path: str) -> None:
    site.replies[path] = reply(media, **{"Content-Disposition": "attachment; filename=../../evil.sh"})
    found = fetch(site.url(path), tmp_path / "d", **OPEN)
    assert found.read_bytes() == media
    assert [entry.name for entry in tmp_path.iterdir()] == ["d"]


def test_file_addresses_need_leave(tmp_path: Path, clip: Path) -> None:
    failure = refused(clip.as_uri(), tmp_path / "d")
    assert (failure.status, failure.message) == ("skipped_rule", "file:// addresses need fetch.allow_file_urls: true")
    assert fetch(clip.as_uri(), tmp_path / "d", allow_file_urls=True).read_bytes() == clip.read_bytes()


def test_a_file_address_of_nothing(tmp_path: Path) -> None:
    assert refused(f"file://{tmp_path}/absent.mp4", tmp_path / "d", allow_file_urls=True).status == "removed"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, "private"),
        (403, "blocked"),
        (404, "removed"),
        (410, "removed"),
        (429, "blocked"),
        (451, "geo"),
        (500, "transient"),
        (503, "transient"),
    ],
)
def test_http_errors_by_kind(site: Site, tmp_path: Path, status: int, expected: str) -> None:
    site.replies["/a.mp4"] = reply(b"<html>sorry</html>", status, "text/html")
    failure = refused(site.url("/a.mp4"), tmp_path / "d", **OPEN)
    assert failure.status == expected
    assert failure.message.startswith(f"HTTP {status}")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<!DOCTYPE html><html><body>Not available</body></html>", "text/html"),
        (b"<html><video src='http://127.0.0.1:1/x.mp4'></video></html>", "text/html"),
        (b"<html><head><meta property='og:video' content='http://127.0.0.1:1/x.mp4'></head></html>", "text/html"),
        (
            b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
            "application/vnd.apple.mpegurl",
        ),
        (b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:1/x.ts\n", "text/plain"),
        (b"<?xml version='1.0'?><rss version='2.0'><channel><title>x</title></channel></rss>", "application/rss+xml"),
        (b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>", "application/dash+xml"),
    ],
    ids=["error page", "page with a video", "page with metadata", "HLS", "HLS as text", "feed", "DASH"],
)
def test_pages_and_playlists_are_not_followed(site: Site, tmp_path: Path, body: bytes, content_type: str) -> None:
    site.replies["/a.mp4"] = reply(body, content_type=content_type)
    failure = refused(site.url("/a.mp4"), tmp_path / "d", **OPEN)
    assert (failure.status, failure.message) == ("corrupt", "a web page or playlist, not a video")
    assert set(site.seen) == {"/a.mp4"}
    assert not list((tmp_path / "d").iterdir())


def test_a_redirect_is_followed(site: Site, tmp_path: Path, media: bytes) -> None:
    site.replies["/old.mp4"] = reply(b"", 302, Location="/new.mp4")
    site.replies["/new.mp4"] = reply(media)
    assert fetch(site.url("/old.mp4"), tmp_path / "d", **OPEN).read_bytes() == media


def test_redirects_end(site: Site, tmp_path: Path) -> None:
    site.replies["/a.mp4"] = reply(b"", 302, Location="/a.mp4")
    assert refused(site.url("/a.mp4"), tmp_path / "d", **OPEN).status in ("removed", "skipped_rule", "transient")
    assert len(site.seen) < 40


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x"])
def test_redirects_to_other_schemes_are_refused(site: Site, tmp_path: Path, target: str) -> None:
    site.replies["/a.mp4"] = reply(b"", 302, Location=target)
    failure = refused(site.url("/a.mp4"), tmp_path / "d", allow_private_hosts=True, allow_file_urls=True)
    assert failure.status == "skipped_rule", failure
    assert not list((tmp_path / "d").iterdir())


PRIVATE = [
    "127.0.0.1",
    "localhost",
    "10.1.2.3",
    "192.168.0.1",
    "172.16.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "[::1]",
    "[fd00::1]",
    "[::ffff:10.0.0.1]",
    "100.64.0.1",
    "printer.local",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_private_hosts_need_leave(tmp_path: Path, host: str) -> None:
    failure = refused(f"http://{host}:9/a.mp4", tmp_path / "d")
    assert failure.status == "skipped_rule"
    assert "is on a private network" in failure.message


@pytest.mark.parametrize(
    "url", ["ftp://a.example/x", "javascript://a", "rtmp://a.example/x", "http:///x", "data://text/plain,x"]
)
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(Failure, match="skipped_rule"):
        check_url(url, Fetch(allow_private_hosts=True, allow_file_urls=True))


@pytest.fixture
def public_loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """127.0.0.1 counts as a public host called site.example; 127.0.0.2 stays private, as rebound.example."""
    real = module._is_private
    names = {"site.example": "127.0.0.1", "rebound.example": "127.0.0.2"}
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        module, "_getaddrinfo", lambda host, *args, **kwargs: resolve(names.get(host, host), *args, **kwargs)
    )
    monkeypatch.setattr(module, "_is_private", lambda host: host != "127.0.0.1" and real(host))
    yield
    assert socket.getaddrinfo is module._getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_a_public_host_is_fetched_from(site: Site, tmp_path: Path, media: bytes, public_loopback: None) -> None:
    site.replies["/a.mp4"] = reply(media)
    assert fetch(site.url("/a.mp4", "site.example"), tmp_path / "d").read_bytes() == media


def test_a_public_name_of_a_private_address_is_refused(site: Site, tmp_path: Path, public_loopback: None) -> None:
    failure = refused(site.url("/a.mp4", "rebound.example"), tmp_path / "d")
    assert (failure.status, site.seen) == ("skipped_rule", [])
    assert failure.message.startswith("rebound.example is on a private network")


@pytest.mark.parametrize("host", ["127.0.0.2", "rebound.example", "localhost"])
def test_a_redirect_to_a_private_host_is_refused_before_it_is_asked(
    site: Site, tmp_path: Path, host: str, public_loopback: None
) -> None:
    site.replies["/a.mp4"] = reply(b"", 302, Location=site.url("/secret", host))
    failure = refused(site.url("/a.mp4", "site.example"), tmp_path / "d")
    assert failure.status == "skipped_rule"
    assert "/secret" not in site.seen


def test_an_announced_size_beyond_the_limit_is_not_downloaded(site: Site, tmp_path: Path, media: bytes) -> None:
    site.replies["/a.mp4"] = reply(media)
    failure = refused(site.url("/a.mp4"), tmp_path / "d", max_bytes=1000, **OPEN)
    assert (failure.status, failure.message) == ("skipped_rule", "larger than 1000 bytes")


def test_an_endless_answer_is_stopped_at_the_limit(site: Site, tmp_path: Path) -> None:
    sent = 0

    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp4")
        handler.end_headers()
        try:
            for _ in range(2000):
                handler.wfile.write(bytes(1 << 16))
                sent += 1 << 16
        except OSError:
            pass

    site.replies["/a.mp4"] = endless
    assert refused(site.url("/a.mp4"), tmp_path / "d", max_bytes=1_000_000, **OPEN).status == "skipped_rule"
    assert sent < 100_000_000


def test_a_connection_that_breaks_off_may_work_later(
    site: Site, tmp_path: Path, media: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRIES", 0)
    site.replies["/a.mp4"] = reply(media, length=len(media) + 1000)
    assert refused(site.url("/a.mp4"), tmp_path / "d", **OPEN).status == "transient"


def test_nobody_listening_may_be_there_later(tmp_path: Path, site: Site) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert (
            refused(f"http://127.0.0.1:{unused.getsockname()[1]}/a.mp4", tmp_path / "d", **OPEN).status == "transient"
        )


def test_a_name_that_does_not_resolve_may_do_so_later(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(module, "_getaddrinfo", unknown)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert refused("http://host.example/a.mp4", tmp_path / "d").status == "transient"


def test_a_server_that_drips_is_cut_off_by_the_clock(site: Site, tmp_path: Path) -> None:
    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp4")
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        try:
            for _ in range(600):
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    site.replies["/a.mp4"] = drip
    request = {
        "url": site.url("/a.mp4"),
        "source": "http",
        "folder": str(tmp_path),
        "settings": Fetch(allow_private_hosts=True).model_dump(),
    }
    with Worker("download") as worker, pytest.raises(Failure, match="timeout: download: no result within 2 s"):
        worker.call(request, 2.0)


def test_no_configuration_plugin_cookie_or_netrc_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, site: Site, media: bytes
) -> None:
    config = tmp_path / "home" / ".config" / "yt-dlp"
    plugin = config / "plugins" / "evil" / "yt_dlp_plugins" / "extractor"
    plugin.mkdir(parents=True)
    (config / "config").write_text(f"--exec 'touch {tmp_path}/owned'\n")
    (plugin / "evil.py").write_text(f"open('{tmp_path}/owned', 'w')\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / ".config"))
    site.replies["/a.mp4"] = reply(media)
    request = {
        "url": site.url("/a.mp4"),
        "source": "http",
        "folder": str(tmp_path),
        "settings": Fetch(allow_private_hosts=True).model_dump(),
    }
    with Worker("download") as worker:
        assert worker.call(request, 30)["video"]
    assert not (tmp_path / "owned").exists()
