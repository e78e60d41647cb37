"""nginx, in both of its parts: the servers behind the proxies, and one of the proxies."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from pathlib import Path

from benchmarks.processes import Missing, debian
from benchmarks.scene import IDLE_PER_SERVER, Scene, Setting

STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

MAIN = """\
{modules}
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
events {{ worker_connections {files}; }}
"""
HTTP = """\
http {{
  keepalive_requests 100000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
"""
ORIGIN = """\
  access_log off;
  sendfile on;
{servers}
}}
"""
ORIGIN_SERVER = """\
  server {{
{listen}
    root {folder};
    location = / {{ return 200 "server {number}\\n"; }}
    location / {{ }}
  }}"""

HTTP_PROXY = """\
  log_format like_haproxy '$remote_addr:$remote_port [$time_local] web app/$upstream_addr '
    '$request_time/$upstream_connect_time/$upstream_response_time $status $bytes_sent $connection "$request"';
  access_log {folder}/access.log like_haproxy;
  upstream app {{
{servers}
    keepalive {idle};
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port}{ssl} backlog=4096;
{tls}    client_max_body_size 0;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""
TLS = """\
    ssl_certificate {pem};
    ssl_certificate_key {pem};
    ssl_protocols TLSv1.2 TLSv1.3;
"""
TCP_PROXY = """\
stream {{
  log_format like_haproxy '$remote_addr:$remote_port [$time_local] web app/$upstream_addr '
    '$session_time/$upstream_connect_time $bytes_sent $status';
  access_log {folder}/access.log like_haproxy;
  upstream app {{
{servers}
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_pass app;
  }}
}}
"""


def origin(folder: Path, servers: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """The servers: `/` answers a few bytes, other paths are files of `folder`. The command that starts them."""
    forms = [
        ORIGIN_SERVER.format(number=number, folder=folder, listen=f"    listen {host}:{port} backlog=4096;")
        for number, (host, port) in enumerate(servers, 1)
    ]
    config = MAIN.format(folder=folder, modules="", files=8192) + HTTP.format(folder=folder)
    (folder / "origin.conf").write_text(config + ORIGIN.format(servers="\n".join(forms)))
    return debian("nginx"), "-p", str(folder), "-c", str(folder / "origin.conf")


def proxy(program: str, scene: Scene, setting: Setting) -> tuple[str, ...]:
    """nginx as a proxy: writes its configuration; the command that starts it.

    Bodies are streamed in both directions, as the others do, and not spooled to disk.
    """
    folder, modules = setting.folder, ""
    if scene.mode == "tcp":
        if not STREAM_MODULE.exists():
            raise Missing("nginx has no stream module; as root: apt-get install libnginx-mod-stream")
        modules = f"load_module {STREAM_MODULE};"
    values = {
        "folder": folder,
        "port": setting.port,
        "servers": setting.lines("    server {host}:{port};"),
        "idle": IDLE_PER_SERVER * len(setting.servers),
        "ssl": " ssl" if scene.tls else "",
        "tls": TLS.format(pem=setting.pem) if scene.tls else "",
    }
    body = TCP_PROXY if scene.mode == "tcp" else HTTP + HTTP_PROXY
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    config = MAIN.format(folder=folder, modules=modules, files=files) + body.format(**values)
    (folder / "nginx.conf").write_text(config)
    return program, "-p", str(folder), "-c", str(folder / "nginx.conf")
