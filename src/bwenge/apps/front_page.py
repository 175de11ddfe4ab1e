"""What a browser shows at the address that the start prints; it loads nothing from elsewhere."""

from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from bwenge.kit.http.security import anyone

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Bwenge OS</title>
<style>
  body { font: 1.1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 12vh auto; padding: 0 1rem; color: #1f2933 }
  code { background: #eaf2f8; padding: .1em .3em }
</style>
<h1>Bwenge OS is running</h1>
<p>Ask the tutor of the demo from a terminal:</p>
<p><code>bwenge ask "What is the formula for simple interest?"</code></p>
<ul>
  <li><a href="/docs">Every operation of the API</a> (the page loads its viewer from the internet;
      <a href="/openapi.json">the document itself</a> needs none)</li>
  <li><a href="/health/ready">Whether all it depends on is well</a></li>
</ul>
</html>
"""

router = APIRouter()


@router.get("/", include_in_schema=False, dependencies=[anyone()], response_class=HTMLResponse)
async def front_page() -> HTMLResponse:
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})
