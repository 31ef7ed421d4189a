"""The answer to a search as one HTML file that needs nothing else: pictures inside, no script, every text escaped."""

import base64
import html
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from tvts.corpus.status import one_line
from tvts.files import atomic
from tvts.search.rank import Hit

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; font-weight: 600 } p { color: #666 }
ol { list-style: none; padding: 0 } li { display: flex; gap: 1rem; align-items: center; padding: .6rem 0; border-top: 1px solid #e6e6e6 }
b { min-width: 1.5rem; text-align: right; color: #666; font-weight: 400 } img { display: block; height: 96px }
a { color: #0072B2; font-weight: 600; text-decoration: none; overflow-wrap: anywhere } small { color: #666 }
"""


def write_page(text: str, hits: Sequence[Hit], searched: str, output: Path) -> None:
    """Write `hits` for `text`; `searched` says in a line what was looked through. A name links to its video at the time."""
    items = "\n".join(_item(number, hit) for number, hit in enumerate(hits, start=1))
    title = html.escape(one_line(text))
    with atomic(output) as temporary:
        temporary.write_text(
            f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>{STYLE}</style></head>
<body><h1>{title}</h1><p>{html.escape(searched)}. First, middle and last frame of each span; a name opens the video there.</p>
<ol>
{items}
</ol></body></html>
""",
            encoding="utf-8",
        )


def _item(number: int, hit: Hit) -> str:
    address = f"file://{quote(os.fsencode(hit.video.resolve()))}#t={hit.start:.1f},{hit.end:.1f}"
    picture = base64.b64encode(hit.picture).decode()
    return (
        f'<li><b>{number}</b><img alt="frames of the span" src="data:image/jpeg;base64,{picture}">'
        f'<div><a href="{html.escape(address)}">{html.escape(one_line(str(hit.video)))}</a><br>'
        f"{hit.times} <small>cosine {hit.score:.3f}</small></div></li>"
    )
