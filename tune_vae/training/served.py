"""Files of a `tune-vae serve` on another machine, as a file system of fsspec: `tunevae://host:port/…`.

What is put there is seen whole or not at all. The token of the server comes from the environment.
"""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from fsspec import AbstractFileSystem

__all__ = ["TOKEN", "ServedFiles", "request"]

TOKEN = "TUNE_VAE_TOKEN"
"""The variable of the environment that holds the token of a server."""
TIMEOUT_SECONDS = 60.0


def request(
    server: str, path: str, method: str = "GET", data: bytes | None = None, **query: str
) -> bytes:
    """Ask a server.

    Raises:
        FileNotFoundError: It has no such file.
        IsADirectoryError: It is a folder.
        PermissionError: The token is not the server's.
        OSError: It does not answer, or cannot.
    """
    parameters = f"?{urllib.parse.urlencode(query)}" if query else ""
    url = f"http://{server}/tune-vae/{urllib.parse.quote(path)}{parameters}"
    asked = urllib.request.Request(url, data, method=method)
    if token := os.environ.get(TOKEN, "").strip():
        # Not passed on to where a redirection leads.
        asked.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        known = {404: FileNotFoundError, 409: IsADirectoryError, 401: PermissionError}
        kind = known.get(error.code, OSError)
        error.close()
        raise kind(f"{server} says {error.code} {error.reason}") from None


class ServedFiles(AbstractFileSystem):
    """Paths are `host:port/folder/file`."""

    protocol = "tunevae"
    cachable = False

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        path = self._strip_protocol(path)
        server, _, inside = path.partition("/")
        listed = json.loads(request(server, f"files/{inside}", list="1"))
        if not detail:
            return [f"{path}/{one['name']}" for one in listed]
        return [one | {"name": f"{path}/{one['name']}"} for one in listed]

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        return self._ask(path)[start:end]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self._ask(path, "PUT", value)

    def rm_file(self, path: str) -> None:
        self._ask(path, "DELETE")

    def rm(
        self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None
    ) -> None:
        for one in [path] if isinstance(path, str) else path:
            whole = {"recursive": "1"} if recursive else {}
            self._ask(one, "DELETE", None, **whole)

    def modified(self, path: str) -> Any:
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self.info(path)["modified"], UTC)

    def _ask(
        self, path: str, method: str = "GET", data: bytes | None = None, **query: str
    ) -> bytes:
        server, _, inside = self._strip_protocol(path).partition("/")
        return request(server, f"files/{inside}", method, data, **query)
