"""What `tune-vae serve` answers over HTTP: MLflow's pages, files, and where everything is.

    /tune-vae/stores        the stores of a study, for `--server`
    /tune-vae/files/…       files: GET, PUT, DELETE; of a folder GET with `list=1`
    everything else         MLflow

With a token, a request needs it: as a bearer, or as the password of any user, for which a browser
asks.
"""

import base64
import contextlib
import hmac
import json
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tune_vae.whole_files import write_whole

__all__ = ["Gate", "run"]


@dataclass(frozen=True)
class Gate:
    """What is served.

    Arguments:
        host, port: Where.
        files: Folder of the files.
        stores: By key of `storage`; `{server}` and `{host}` stand for how the other came here.
        pages, artifacts: MLflow's database and folder.
        token: Empty for none.
        local: Whether only this machine is served, and so only under a name that means it: a
            page in a browser could lead others of its own here.
    """

    host: str
    port: int
    files: str
    stores: Mapping[str, str]
    pages: str
    artifacts: str
    token: str
    local: bool

    def text(self) -> str:
        return json.dumps(asdict(self))


def application(gate: Gate, mlflow: Any) -> Any:
    """The ASGI application of a gate before that of MLflow."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Mount, Route

    root = Path(gate.files).resolve()

    async def stores(request: Request) -> Response:
        return JSONResponse(dict(gate.stores))

    def files(request: Request, data: bytes) -> Response:
        place = (root / request.path_params["path"].strip("/")).resolve()
        if not place.is_relative_to(root):
            return Response(status_code=404)
        try:
            if request.method == "PUT":
                write_whole(place, data)
            elif request.method == "DELETE":
                _delete(place, whole="recursive" in request.query_params)
            elif "list" in request.query_params:
                return JSONResponse([_told(one) for one in sorted(place.iterdir())])
            else:
                return Response(place.read_bytes(), media_type="application/octet-stream")
        except (FileNotFoundError, NotADirectoryError):
            return Response(status_code=404)
        except IsADirectoryError:
            return Response(status_code=409)
        except OSError as error:
            return Response(str(error.strerror), status_code=507)
        return Response(status_code=204)

    async def serve_files(request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        return await run_in_threadpool(files, request, await request.body())

    methods = ["GET", "PUT", "DELETE"]
    inner = Starlette(
        routes=[
            Route("/tune-vae/stores", stores),
            Route("/tune-vae/files/{path:path}", serve_files, methods=methods),
            Mount("/", mlflow),
        ]
    )

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if gate.local and scope["type"] == "http" and _name(headers) not in _HERE:
            await Response("another name", status_code=403)(scope, receive, send)
        elif scope["type"] == "http" and not _may_enter(headers, gate.token):
            refused = Response(
                "the token of this server is wanted",
                status_code=401,
                headers={"WWW-Authenticate": 'Basic realm="tune-vae: the token is the password"'},
            )
            await refused(scope, receive, send)
        elif scope["type"] in ("http", "lifespan"):
            await inner(scope, receive, send)

    return guarded


_HERE = ("127.0.0.1", "localhost", "[::1]")


def _name(headers: Mapping[bytes, bytes]) -> str:
    return headers.get(b"host", b"").decode("latin-1").rpartition(":")[0]


def _may_enter(headers: Mapping[bytes, bytes], token: str) -> bool:
    if not token:
        return True
    kind, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if kind.lower() == "basic":
        with contextlib.suppress(ValueError):
            given = base64.b64decode(given).decode().partition(":")[2]
    # In a time that tells nothing of how much of it is right.
    return hmac.compare_digest(given.encode(), token.encode())


def _delete(place: Path, *, whole: bool) -> None:
    if whole and place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()


def _told(file: Path) -> dict[str, Any]:
    found = file.stat()
    kind = "directory" if file.is_dir() else "file"
    return {"name": file.name, "type": kind, "size": found.st_size, "modified": found.st_mtime}


def run() -> None:
    """Serve what the first line of the standard input says, until that is closed.

    So it ends with whoever started it, however that ends; and its secrets stand in no list of
    processes.
    """
    import uvicorn

    from tune_vae.service.tracking import web_application

    gate = Gate(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_input, daemon=True).start()
    mlflow = web_application(gate.pages, gate.artifacts, any_name=not gate.local)
    served = application(gate, mlflow)
    uvicorn.run(served, host=gate.host, port=gate.port, log_level="warning", access_log=False)


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    run()
