"""deploy/nginx.conf in real nginx, before two replicas that say who they are.

Run in namespaces of its own (`unshare --map-root-user --mount --net`), where the names of the replicas can mean
loopback addresses and the ports are free. Takes JSON on standard input, a list of steps `[METHOD, PATH, BYTES]`, of
which the method `stop` ends the replica called PATH; prints as JSON what came of each: status, headers, body.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).resolve().parent.parent / "deploy" / "nginx.conf"
ADDRESSES = {"first": "127.0.0.2", "second": "127.0.0.3"}
HOSTS = "127.0.0.1 localhost\n127.0.0.2 hammingbird-first\n127.0.0.2 hammingbird-any\n127.0.0.3 hammingbird-any\n"


class Replica(ThreadingHTTPServer):
    """Answers everything with its name and what it was asked; `stop` ends it as a kill does."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__((ADDRESSES[name], 8000), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        size = len(self.rfile.read(int(self.headers.get("content-length", 0))))
        said = {"replica": self.server.name, "path": self.path, "host": self.headers["host"], "bytes": size}  # type: ignore[attr-defined]
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # as the base class calls them

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def ask(method: str, path: str, size: int) -> dict[str, Any]:
    connection = HTTPConnection("127.0.0.1", 8080, timeout=20)
    try:
        connection.request(method, path, bytes(size), {"host": "codes.example:8080"})
        reply: HTTPResponse = connection.getresponse()
        headers = {name.lower(): value for name, value in reply.getheaders()}
        return {"status": reply.status, "headers": headers, "body": reply.read().decode()}
    finally:
        connection.close()


def main() -> None:
    steps, config = json.load(sys.stdin), CONFIG.read_text()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/tmp"], check=True)
    Path("/tmp/nginx.conf").write_text(config)
    Path("/tmp/hosts").write_text(HOSTS)
    subprocess.run(["mount", "--bind", "/tmp/hosts", "/etc/hosts"], check=True)
    replicas = {name: Replica(name) for name in ADDRESSES}
    # The only user that there is within; where it is deployed, nginx is not started as root.
    nginx = subprocess.Popen(["nginx", "-c", "/tmp/nginx.conf", "-g", "daemon off; user root;"])
    try:
        while nginx.poll() is None:
            try:
                ask("GET", "/livez", 0)
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        said = []
        for method, path, size in steps:
            if method == "stop":
                replicas.pop(path).stop()
            else:
                said.append(ask(method, path, size))
        sys.stdout.write(json.dumps(said))
    finally:
        nginx.terminate()
        nginx.wait(10)


if __name__ == "__main__":
    main()
