"""The page at /: the first three steps of a new user."""

from html import escape

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from plugvault.opcp.open import WARNING
from plugvault.opcp.services import Services

router = APIRouter(include_in_schema=False)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 17px/1.6 system-ui, sans-serif; max-width: 44rem; margin: 8vh auto; padding: 0 1rem;
  color: #1d2733; background: #fbfcfd }}
h1 {{ font-size: 1.7rem; font-weight: 650; margin: 0 }}
p {{ color: #4a5968 }}
ol {{ padding-left: 1.3rem }} li {{ margin: .9rem 0 }}
code {{ background: #eaf0f4; padding: .1rem .35rem; border-radius: .25rem; font-size: .88em;
  overflow-wrap: anywhere }}
a {{ color: #0b62a8 }}
strong.open {{ display: block; background: #b3261e; color: #fff; padding: .7rem 1rem;
  border-radius: .4rem; margin-bottom: 2rem }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #e6edf3; background: #11171d }} p {{ color: #9fb0bf }}
  code {{ background: #202a33 }} a {{ color: #78b7ee }}
}}
</style></head><body>
{banner}<h1>plugvault ecosystem</h1>
<p>A Plug &amp; Charge ecosystem that speaks OPCP 1.0.0.</p>
<ol>{steps}</ol>
</body></html>
"""

_CLOSED = """
<li>Take <code>client_id</code> and <code>client_secret</code> of a role: they were printed when
this was started.</li>
<li>Open <a href="docs">the interactive API page</a>, press <b>Authorize</b>, enter them.</li>
<li>Try <code>GET /v1/root/rootCerts</code>. Your own client asks
<code>POST {url}/oauth/token</code> with the audience <code>{url}</code>.</li>
"""
_OPEN = """
<li>Open <a href="docs">the interactive API page</a>: no token is needed.</li>
<li>Try <code>GET /v1/root/rootCerts</code>, then any call of any role.</li>
<li>A client that wants a token gets one at <code>POST {url}/oauth/token</code>, with the
credentials printed when this was started.</li>
"""


def page(services: Services, title: str) -> str:
    """The page as HTML. `title`: plain text."""
    opened = services.settings.open
    steps = (_OPEN if opened else _CLOSED).format(url=escape(services.tokens.audience))
    banner = f'<strong class="open">{WARNING}</strong>' if opened else ""
    return _PAGE.format(title=escape(title), banner=banner, steps=steps)


@router.get("/")
def welcome(request: Request) -> HTMLResponse:
    """The page for a browser."""
    return HTMLResponse(page(request.app.state.services, request.app.title))
