"""Serve the built page on this machine, set apart from other pages so that it may use several threads.

python examples/web/serve.py [FOLDER] [--port 8000] [--no-isolation]
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent.parent / "out" / "web-demo"


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, with the types that browsers insist on.

    Attributes:
        isolated: send the headers after which browsers let a page share memory between threads.
        quiet: do not print requests.
    """

    isolated = True
    quiet = False
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        """Add the headers of isolation, and how long a browser may keep the file."""
        # What is named with its version never changes; of all else the browser asks whether it did.
        lasting = "?v=" in self.path
        self.send_header("Cache-Control", "public, max-age=31536000, immutable" if lasting else "no-cache")
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print a request, unless the server is quiet."""
        if not self.quiet:
            super().log_message(format, *args)


class Server(ThreadingHTTPServer):
    """A thread for each request. A browser that goes away before it has all is no error."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what went wrong, unless it is the other side that went away."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def server(folder: Path, port: int = 0, isolated: bool = True, quiet: bool = False) -> Server:
    """A server of a folder on 127.0.0.1; port 0 is any that is free."""
    handler = type("FolderHandler", (Handler,), {"isolated": isolated, "quiet": quiet})
    return Server(("127.0.0.1", port), partial(handler, directory=str(folder)))


def main() -> None:
    """Serve until it is interrupted."""
    parser = argparse.ArgumentParser(description="Serve the built page on this machine.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="what build.py wrote")
    parser.add_argument("--port", type=int, default=8000, help="0 is any that is free")
    parser.add_argument("--no-isolation", action="store_true", help="like a host that cannot send headers: one thread")
    arguments = parser.parse_args()
    if not (arguments.folder / "demo.json").is_file():
        raise SystemExit(f"Error: {arguments.folder}: there is no page; build it: make web-demo")
    try:
        serving = server(arguments.folder, arguments.port, isolated=not arguments.no_isolation)
    except OSError as error:
        raise SystemExit(f"Error: port {arguments.port}: {error.strerror}; choose another: --port 0") from None
    with serving:
        print(f"http://127.0.0.1:{serving.server_port}/  (Ctrl+C ends it)")
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
