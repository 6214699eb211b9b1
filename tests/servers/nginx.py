"""nginx: plain files by HTTP, with ranges and without, and every answer a test wants to see."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.servers import Endpoint, Server
from tests.servers.programs import answers, free_port, running

PLACES = ("whole", "busy", "gone", "failing", "packed", "moved", "page", "denied")
"""First names of paths under which the same files are served otherwise."""
PAGE = "<!doctype html><html><body>Please log in.</body></html>"
_CONFIGURATION = """\
daemon off;
user {user};
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
  uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
  tcp_nodelay on;
  limit_req_zone $server_name zone=few:1m rate=20r/s;
  server {{
    listen 127.0.0.1:{port};
    root {folder};
    location /files/ {{ autoindex on; max_ranges 64; }}
    location /whole/ {{ alias {folder}/files/; max_ranges 0; }}
    location /busy/ {{ alias {folder}/files/; limit_req zone=few burst=5 nodelay;
                       limit_req_status 429; }}
    location /gone/ {{ return 444; }}
    location /failing/ {{ return 503; }}
    location /packed/ {{ alias {folder}/files/; gzip on; gzip_types *; gzip_min_length 1; }}
    location /moved/ {{ rewrite ^/moved/(.*)$ /files/$1 redirect; }}
    location /page/ {{ default_type text/html; return 200 "{page}"; }}
    location /denied/ {{ return 403; }}
  }}
}}
"""


@contextmanager
def start(folder: Path) -> Iterator[Endpoint]:
    """Serve a folder `files`; its owner puts files there, nobody does through HTTP."""
    port = free_port()
    for name in ("files", "tmp"):
        (folder / name).mkdir()
    configuration = folder / "nginx.conf"
    # Started by root, it would else read as somebody who may not enter pytest's folders.
    values = {"user": getpass.getuser(), "folder": folder, "port": port, "page": PAGE}
    configuration.write_text(_CONFIGURATION.format(**values))
    command = ("nginx", "-p", str(folder), "-c", str(configuration), "-e", str(folder / "log"))
    with running(command, folder / "nginx.log", partial(answers, port)):
        yield Endpoint(
            url=f"http://127.0.0.1:{port}/files",
            behind=f"file://{folder}/files",
            behind_options={"auto_mkdir": True},
            port=port,
        )


def place(found: Endpoint, name: str) -> str:
    """Return the URL under which the same files are served otherwise."""
    assert name in PLACES, name
    return f"{found.url.removesuffix('/files')}/{name}"


SERVER = Server(
    start=start,
    programs=("nginx",),
    writable=False,
    guarded=False,
    bucketed=False,
    quick=True,
)
