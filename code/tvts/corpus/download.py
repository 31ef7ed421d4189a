"""What a `download` worker does: fetch one address by yt-dlp into a folder, within the rules for untrusted lists.

Only the extractor for the corpus's source may run (the site's own, or the generic one for direct links to files); addresses, every redirect
and every name resolved are checked against private networks; nothing of the user's yt-dlp configuration, plugins, cookies or netrc is used.
"""

import functools
import ipaddress
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yt_dlp
from yt_dlp.globals import plugin_dirs
from yt_dlp.networking.exceptions import HTTPError, RequestError, TransportError
from yt_dlp.utils import ContentTooShortError, GeoRestrictedError, UnsupportedError, UserNotLive, YoutubeDLError

from tvts.config import Fetch
from tvts.corpus.status import FULL_DISK, Failure, Status
from tvts.corpus.youtube import JS_RUNTIMES

EXTRACTORS = {"youtube": ["youtube"], "http": ["generic"]}
MAX_REDIRECTS = 5
SOCKET_TIMEOUT = 20
RETRIES = 3
"""yt-dlp's own, for one request or part of a file; its Python interface has none unless told."""

HTTP_STATUS: dict[int, Status] = {
    401: "private",
    403: "blocked",
    404: "removed",
    410: "removed",
    429: "blocked",
    451: "geo",
}
PHRASES: tuple[tuple[str, Status], ...] = (
    ("no connection adapters", "skipped_rule"),
    ("unknown url type", "skipped_rule"),
    ("unsupported url scheme", "skipped_rule"),
    ("not a bot", "blocked"),
    ("try again later", "blocked"),
    ("rate-limit", "blocked"),
    ("private", "private"),
    ("members-only", "private"),
    ("join this channel", "private"),
    ("confirm your age", "age"),
    ("age-restricted", "age"),
    ("inappropriate for some users", "age"),
    ("available in your country", "geo"),
    ("live event", "live"),
    ("premieres in", "live"),
    ("unavailable", "removed"),
    ("removed", "removed"),
    ("terminated", "removed"),
    ("does not exist", "removed"),
    ("[download] got error", "transient"),
)
"""What sites (and yt-dlp's downloader) say, where the error's type does not tell; the first that occurs counts."""

plugin_dirs.value = []


class _Private(OSError):
    """A host on a private network."""


TYPES: tuple[tuple[type[BaseException], Status, str | None], ...] = (
    (_Private, "skipped_rule", None),
    (GeoRestrictedError, "geo", None),
    (UserNotLive, "live", None),
    (UnsupportedError, "corrupt", "a web page or playlist, not a video"),
    (FileNotFoundError, "removed", "no such file"),
)
"""What errors mean by their type, and what is said of them instead of their own text."""


def download(request: dict[str, Any]) -> dict[str, str | None]:
    """Fetch `url` into `folder`; returns the paths of `video` and, if it is a file of its own, `audio`.

    `request`: url, source (`youtube` | `http`), folder (empty), settings (Fetch). Raises Failure with what went wrong.
    """
    settings = Fetch.model_validate(request["settings"])
    check_url(request["url"], settings)
    if not settings.allow_private_hosts:
        socket.getaddrinfo = functools.partial(_public_addresses, _getaddrinfo, _proxy_hosts())
    try:
        with yt_dlp.YoutubeDL(_options(request, settings)) as ydl:
            info = _extract(ydl, request["url"], settings)
            _check_info(info, settings)
            for offered in info.get("formats") or [info]:
                offered["ext"] = "mp4"  # never taken from the address; what the file is, probing finds out
            result = ydl.process_ie_result(info, download=True)
    except YoutubeDLError as error:
        full = next((cause for cause in _chain(error) if isinstance(cause, OSError) and cause.errno in FULL_DISK), None)
        raise full or classify(error) from error
    finally:
        socket.getaddrinfo = _getaddrinfo
    return _files(result, settings)


_getaddrinfo = socket.getaddrinfo


def check_url(url: str, settings: Fetch) -> None:
    """Raise Failure(`skipped_rule`) unless the scheme is allowed and the host is not plainly a private one."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file":
        if not settings.allow_file_urls:
            raise Failure("skipped_rule", "file:// addresses need fetch.allow_file_urls: true")
        return
    if parts.scheme not in ("http", "https"):
        raise Failure("skipped_rule", f"{parts.scheme}:// is not accepted; http and https are")
    if not parts.hostname:
        raise Failure("skipped_rule", "the address has no host")
    if not settings.allow_private_hosts and _is_private(parts.hostname):
        raise Failure(
            "skipped_rule", f"{parts.hostname} is on a private network; such hosts need fetch.allow_private_hosts: true"
        )


def _is_private(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
    return not (getattr(address, "ipv4_mapped", None) or address).is_global


def _public_addresses(resolve: Any, trusted: frozenset[str], host: Any, *args: Any, **kwargs: Any) -> Any:
    """`socket.getaddrinfo` that refuses private addresses: what is checked is what is connected to, whoever asks for it."""
    found = resolve(host, *args, **kwargs)
    if host not in trusted and any(map(_is_private, [host, *(address[4][0] for address in found)])):
        raise _Private(f"{host} is on a private network; such hosts need fetch.allow_private_hosts: true")
    return found


def _proxy_hosts() -> frozenset[str]:
    """Hosts of the proxies the environment names: trusted, and then the ones who decide where redirects may lead."""
    return frozenset(
        host for url in urllib.request.getproxies().values() if (host := urllib.parse.urlsplit(url).hostname)
    )


def _options(request: dict[str, Any], settings: Fetch) -> dict[str, Any]:
    youtube = request["source"] == "youtube"
    return {
        "quiet": True, "no_warnings": True, "noprogress": True, "logger": _Silent(), "color": "no_color",
        "allowed_extractors": EXTRACTORS[request["source"]], "noplaylist": True, "cachedir": False, "usenetrc": False,
        "enable_file_urls": settings.allow_file_urls, "outtmpl": f"{request['folder']}/%(format_id)s.media", "updatetime": False,
        "format": "(bv[vcodec!=none],ba)/b" if youtube else "b/bv",
        "format_sort": [f"res:{_rung(settings.short_side)}", "vcodec:h264", "+size"],
        "max_filesize": settings.max_bytes, "progress_hooks": [functools.partial(_check_size, limit=settings.max_bytes)],
        "retries": RETRIES, "fragment_retries": RETRIES, "extractor_retries": RETRIES, "file_access_retries": 1,
        "socket_timeout": SOCKET_TIMEOUT, "retry_sleep_functions": {kind: lambda n: 2.0**n for kind in ("http", "fragment", "extractor")},
        "js_runtimes": {name: {} for name in JS_RUNTIMES}, "fixup": "never", "writesubtitles": False, "ignoreerrors": False,
        "sleep_interval_requests": 1 if youtube else 0,
    }  # fmt: skip


def _rung(short_side: int) -> int:
    """The smallest of the usual video heights that is not below `short_side`."""
    return next((height for height in (144, 240, 360, 480, 720) if height >= short_side), 1080)


class _Silent:
    def debug(self, message: str) -> None:
        """yt-dlp's messages are not shown: errors reach the index by their exception."""

    info = warning = error = debug


def _check_size(progress: dict[str, Any], limit: int) -> None:
    if max(progress.get("downloaded_bytes") or 0, progress.get("total_bytes") or 0) > limit:
        raise Failure("skipped_rule", f"larger than {limit} bytes")


def _extract(ydl: Any, url: str, settings: Fetch) -> dict[str, Any]:
    """What is at `url`, redirects followed one by one and checked."""
    for _ in range(MAX_REDIRECTS):
        info = ydl.extract_info(url, download=False, process=False)
        if info.get("_type", "video") not in ("url", "url_transparent"):
            return info
        url = info["url"]
        check_url(url, settings)
    raise Failure("skipped_rule", f"more than {MAX_REDIRECTS} redirects")


def _check_info(info: dict[str, Any], settings: Fetch) -> None:
    if info.get("extractor") == "generic" and not info.get("direct"):
        raise Failure("corrupt", "a web page or playlist, not a video")
    if info.get("live_status") in ("is_live", "is_upcoming", "post_live"):
        raise Failure("live", "live or upcoming")
    if (info.get("duration") or 0) > settings.max_video_seconds:
        raise Failure("too_long", f"{info['duration']:.0f} s; at most {settings.max_video_seconds:g} s are accepted")


def _files(result: dict[str, Any], settings: Fetch) -> dict[str, str | None]:
    files = [item for item in result.get("requested_downloads", []) if Path(item.get("filepath", "")).is_file()]
    if not files:
        raise Failure("skipped_rule", f"larger than {settings.max_bytes} bytes")
    sound = [item["filepath"] for item in files if item.get("vcodec") == "none"]
    picture = [item["filepath"] for item in files if item.get("vcodec") != "none"]
    return {"video": (picture or sound)[0], "audio": sound[0] if picture and sound else None}


def classify(error: BaseException) -> Failure:
    """The kind of a yt-dlp error: by the types in its chain of causes first, by what the site says second."""
    text = str(error).removeprefix("ERROR: ")
    causes = list(_chain(error))
    for cause in causes:
        if isinstance(cause, Failure):
            return cause
        if isinstance(cause, HTTPError):
            return Failure(_http_status(cause.status), f"HTTP {cause.status} {cause.reason}")
        for kind, status, message in TYPES:
            if isinstance(cause, kind):
                return Failure(status, message or str(cause))
    for phrase, status in PHRASES:
        if phrase in text.lower():
            return Failure(status, text)
    if any(isinstance(cause, TransportError | ContentTooShortError | OSError) for cause in causes):
        return Failure("transient", text)
    return Failure("skipped_rule" if any(isinstance(cause, RequestError) for cause in causes) else "internal", text)


def _http_status(code: int) -> Status:
    if code >= 500:
        return "transient"
    return HTTP_STATUS.get(code, "skipped_rule" if code < 400 else "removed")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        details = getattr(current, "exc_info", None)
        waiting += [
            details[1] if details else None,
            getattr(current, "cause", None),
            current.__cause__,
            current.__context__,
        ]
