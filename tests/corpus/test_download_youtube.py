"""YouTube without a network: its formats are served from a loopback server, its answers are played back."""

from pathlib import Path
from typing import Any

import pytest
from tests.corpus.conftest import Site, reply
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import DownloadError, ExtractorError, GeoRestrictedError, UnsupportedError, UserNotLive

from tvts.config import Fetch
from tvts.corpus import download as module
from tvts.corpus.download import classify, download
from tvts.corpus.status import Failure


@pytest.fixture
def media(clip: Path) -> bytes:
    return clip.read_bytes()


def test_youtube_never_leaves_its_extractor(tmp_path: Path, clip: Path) -> None:
    request = {
        "url": clip.as_uri(),
        "source": "youtube",
        "folder": str(tmp_path),
        "settings": Fetch(allow_file_urls=True).model_dump(),
    }
    with pytest.raises(Failure) as caught:
        download(request)
    assert caught.value.status == "internal"
    assert not list(tmp_path.iterdir())


def formats(site: Site, *heights: int, audio: bool = True) -> list[dict[str, Any]]:
    base = {"protocol": "http", "http_headers": {}}
    pictures = [
        {
            **base,
            "format_id": f"v{height}",
            "url": site.url(f"/v{height}"),
            "ext": "mp4",
            "vcodec": "avc1.4d",
            "acodec": "none",
            "height": height,
            "width": height * 2,
        }
        for height in heights
    ]
    sound = {**base, "format_id": "a", "url": site.url("/a"), "ext": "m4a", "vcodec": "none", "acodec": "mp4a.40.2"}
    return [*pictures, sound] if audio else pictures


def play(monkeypatch: pytest.MonkeyPatch, info: dict[str, Any]) -> None:
    defaults = {
        "id": "dQw4w9WgXcQ",
        "title": "=x<script>/../\x1b[31m",
        "extractor": "youtube",
        "extractor_key": "Youtube",
        "duration": 4,
    }
    monkeypatch.setattr(module, "_extract", lambda *_: defaults | info)


def youtube(folder: Path, **settings: Any) -> dict[str, str | None]:
    folder.mkdir(exist_ok=True)
    chosen = Fetch(allow_private_hosts=True, **settings)
    url = "https://www.youtube.com/watch?v=dQw4w9WgXcQ"
    return download({"url": url, "source": "youtube", "folder": str(folder), "settings": chosen.model_dump()})


@pytest.mark.parametrize(("short_side", "chosen"), [(256, "v360"), (96, "v144"), (480, "v480"), (720, "v480")])
def test_pictures_and_sound_are_fetched_at_the_smallest_sufficient_size(
    site: Site, tmp_path: Path, media: bytes, monkeypatch: pytest.MonkeyPatch, short_side: int, chosen: str
) -> None:
    for path in ("/a", "/v144", "/v360", "/v480"):
        site.replies[path] = reply(path.encode() + media)
    play(monkeypatch, {"formats": formats(site, 144, 360, 480)})
    found = youtube(tmp_path / "d", short_side=short_side)
    assert found["video"] and found["audio"]
    assert Path(found["video"]).read_bytes() == f"/{chosen}".encode() + media
    assert Path(found["audio"]).read_bytes() == b"/a" + media
    assert len(list((tmp_path / "d").iterdir())) == 2


def test_a_progressive_format_alone_is_enough(
    site: Site, tmp_path: Path, media: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.replies["/v360"] = reply(media)
    (both,) = formats(site, 360, audio=False)
    play(monkeypatch, {"formats": [both | {"acodec": "mp4a.40.2"}]})
    found = youtube(tmp_path / "d")
    assert found["video"] and Path(found["video"]).read_bytes() == media
    assert found["audio"] is None


@pytest.mark.parametrize(
    ("info", "status"),
    [
        ({"live_status": "is_live"}, "live"),
        ({"live_status": "is_upcoming"}, "live"),
        ({"duration": 99_999}, "too_long"),
    ],
)
def test_what_the_metadata_rules_out_is_not_downloaded(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, info: dict[str, Any], status: str
) -> None:
    play(monkeypatch, {"formats": formats(site, 360), **info})
    with pytest.raises(Failure) as caught:
        youtube(tmp_path / "d")
    assert (caught.value.status, site.seen) == (status, [])


def wrapped(error: Exception) -> DownloadError:
    return DownloadError(f"ERROR: [youtube] dQw4w9WgXcQ: {error}", (type(error), error, None))


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("Video unavailable", "removed"),
        ("This video has been removed by the uploader", "removed"),
        (
            "This video is no longer available because the YouTube account associated with this video has been terminated.",
            "removed",
        ),
        ("Private video. Sign in if you've been granted access to this video", "private"),
        ("Join this channel to get access to members-only content like this video", "private"),
        ("Sign in to confirm your age. This video may be inappropriate for some users.", "age"),
        ("The uploader has not made this video available in your country", "geo"),
        ("Sign in to confirm you’re not a bot. Use --cookies", "blocked"),
        (
            "This content isn't available, try again later. Your account has been rate-limited by YouTube for up to an hour.",
            "blocked",
        ),
        ("Premieres in 3 hours", "live"),
        ("This live event will begin in 2 days.", "live"),
        ("Something nobody has seen before", "internal"),
    ],
)
def test_what_youtube_says_is_understood(message: str, status: str) -> None:
    assert classify(wrapped(ExtractorError(message, expected=True))).status == status


class _Response:
    status = 403
    reason = "Forbidden"

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (GeoRestrictedError("Video unavailable", countries=["DE"]), "geo"),
        (UserNotLive(), "live"),
        (UnsupportedError("http://a.example"), "corrupt"),
        (ExtractorError("Unable to download webpage", cause=HTTPError(_Response())), "blocked"),
        (ExtractorError("Unable to download webpage", cause=TransportError("Connection reset by peer")), "transient"),
        (ExtractorError("Unable to download webpage", cause=TimeoutError("timed out")), "transient"),
        (Failure("too_long", "x"), "too_long"),
    ],
)
def test_types_count_before_texts(error: Exception, status: str) -> None:
    assert classify(wrapped(error)).status == status
