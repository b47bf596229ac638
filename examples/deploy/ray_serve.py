"""dovetail-server under Ray Serve: a replica is a server of its own, and Ray's proxy spreads the requests.

    pip install "ray[serve]" httpx
    serve run ray_serve:app model=/models/model.gguf replicas=2 cpus=8 flags="--parallel 4"

The program is dovetail-server in PATH, or what DOVETAIL_SERVER names. A replica whose server ends is replaced. Needs Linux
with util-linux, whose setpriv ends a server when its replica is gone.
"""
import os
import shlex
import socket
import subprocess
import time

import httpx
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

LOADING_SECONDS = 600
GRACE_SECONDS = 30
# Headers of one connection, which a proxy does not pass on.
OWN = {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


@serve.deployment(health_check_period_s=1, health_check_timeout_s=5, graceful_shutdown_timeout_s=GRACE_SECONDS + 5)
class Dovetail:
    def __init__(self, model: str, flags: str):
        url = f"http://127.0.0.1:{free_port()}"
        program = os.environ.get("DOVETAIL_SERVER", "dovetail-server")
        command = [program, model, "--host", "127.0.0.1", "--port", url.rpartition(":")[2], *shlex.split(flags)]
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command])
        # The server itself says when it is full; streams are silent while a prompt is read.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self.client = httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(None, connect=2), limits=limits)
        wait_until_ready(self.process, url)

    async def __call__(self, request: Request) -> Response:
        sent = self.client.build_request(
            request.method, httpx.URL(path=request.url.path, query=request.url.query.encode()),
            headers=[(name, value) for name, value in request.headers.items() if name not in OWN],
            content=await request.body())
        try:
            answer = await self.client.send(sent, stream=True)
        except httpx.TransportError:
            error = {"message": "the server of this replica has ended; ask again", "type": "unavailable_error", "code": 503}
            return JSONResponse({"error": error}, 503, {"retry-after": "1"})
        headers = {name: value for name, value in answer.headers.items() if name not in OWN}
        return StreamingResponse(pieces(answer), answer.status_code, headers)

    async def check_health(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"dovetail-server has ended with code {self.process.returncode}")
        (await self.client.get("/health", timeout=4)).raise_for_status()

    def __del__(self):
        process = getattr(self, "process", None)
        if process and process.poll() is None:
            process.terminate()
            process.wait(GRACE_SECONDS)


async def pieces(answer):
    """What the server sends, as it comes. Closing it, as Ray does when a client goes away, ends the request there."""
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_ready(process, url):
    end = time.monotonic() + LOADING_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"dovetail-server has ended with code {process.returncode} before it was ready")
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"dovetail-server is not ready after {LOADING_SECONDS} s")


def app(args: dict[str, str]) -> serve.Application:
    """What `serve run` builds from the words behind its name."""
    options = {"num_replicas": int(args.get("replicas", 1)), "ray_actor_options": {"num_cpus": float(args.get("cpus", 1))},
               "max_ongoing_requests": int(args.get("requests", 100))}
    return Dovetail.options(**options).bind(args["model"], args.get("flags", ""))
