"""The page of a search: names and words from outside stay text, links lead to the video, nothing is loaded."""

import re
from html.parser import HTMLParser
from pathlib import Path

from tvts.search.page import write_page
from tvts.search.rank import Hit


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_names_and_words_stay_text(tmp_path: Path) -> None:
    hit = Hit(Path('/v/"><script>alert(1)</script>\n#%.mp4'), 4, 12, 0.25, b"\xff\xd8")
    write_page("<img src=x onerror=alert(1)> & more", [hit], "1 span", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert {tag for tag, _ in tags.found} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "p", "ol", "li", "b", "img", "div", "a", "br", "small",
    }  # fmt: skip
    assert "<img src=x onerror=alert(1)> & more" in tags.text
    (link,) = [attributes["href"] for tag, attributes in tags.found if tag == "a"]
    assert link == "file:///v/%22%3E%3Cscript%3Ealert%281%29%3C/script%3E%0A%23%25.mp4#t=4.0,12.0"
    (image,) = [attributes["src"] for tag, attributes in tags.found if tag == "img"]
    assert str(image).startswith("data:image/jpeg;base64,")
    assert not re.search(r"https?://", page)
    assert "0:04-0:12" in tags.text
