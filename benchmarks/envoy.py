"""Envoy as a proxy: its configuration, which is JSON."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.scene import Scene, Setting

TYPES = "type.googleapis.com/envoy.extensions"
HTTP_LINE = (
    "%DOWNSTREAM_REMOTE_ADDRESS% [%START_TIME%] web app/%UPSTREAM_HOST% %REQUEST_DURATION%/%RESPONSE_DURATION%/"
    '%DURATION% %RESPONSE_CODE% %BYTES_SENT% %RESPONSE_FLAGS% {%REQ(X-REQUEST-ID)%} "%REQ(:METHOD)% %REQ(:PATH)% '
    '%PROTOCOL%"\n'
)
TCP_LINE = (
    "%DOWNSTREAM_REMOTE_ADDRESS% [%START_TIME%] web app/%UPSTREAM_HOST% %DURATION% %BYTES_SENT% %RESPONSE_FLAGS%\n"
)
BALANCE = {"roundrobin": "ROUND_ROBIN", "leastconn": "LEAST_REQUEST"}


def proxy(program: str, scene: Scene, setting: Setting) -> tuple[str, ...]:
    """Writes the configuration; the command that starts it.

    One worker beside the main thread. The log is flushed four times a second instead of every ten
    seconds, so that a run can be seen to be logged; its size makes it flush more often anyway.
    """
    (setting.folder / "envoy.json").write_text(json.dumps(_config(scene, setting), indent=1))
    options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warn")
    return program, "-c", str(setting.folder / "envoy.json"), *options, "--file-flush-interval-msec", "250"


def _config(scene: Scene, setting: Setting) -> dict[str, Any]:
    chain: dict[str, Any] = {"filters": [_http(setting) if scene.mode == "http" else _tcp(setting)]}
    if scene.tls:
        files = {"certificate_chain": {"filename": str(setting.pem)}, "private_key": {"filename": str(setting.pem)}}
        tls = _typed("transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context={"tls_certificates": [files]})
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    listener = {"name": "web", "address": _address("127.0.0.1", setting.port), "filter_chains": [chain]}
    check = {
        "timeout": "2s",
        "interval": "2s",
        "unhealthy_threshold": 3,
        "healthy_threshold": 2,
        "tcp_health_check": {},
    }
    cluster = {
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": BALANCE[scene.balance],
        "health_checks": [check],
        "load_assignment": {
            "cluster_name": "app",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(*server)}} for server in setting.servers]}
            ],
        },
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _http(setting: Setting) -> dict[str, Any]:
    router = {"name": "envoy.filters.http.router", "typed_config": _typed("filters.http.router.v3.Router")}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app"}}
    manager = _typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="web",
        use_remote_address=True,
        access_log=[_log(setting, HTTP_LINE)],
        http_filters=[router],
        route_config={"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [route]}]},
    )
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _tcp(setting: Setting) -> dict[str, Any]:
    log = [_log(setting, TCP_LINE)]
    proxy = _typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="web", cluster="app", access_log=log)
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}


def _log(setting: Setting, line: str) -> dict[str, Any]:
    typed = _typed(
        "access_loggers.file.v3.FileAccessLog",
        path=str(setting.folder / "access.log"),
        log_format={"text_format_source": {"inline_string": line}},
    )
    return {"name": "envoy.access_loggers.file", "typed_config": typed}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _typed(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"{TYPES}.{kind}", **fields}
