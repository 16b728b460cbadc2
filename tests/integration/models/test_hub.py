"""Encoders come from a hub by the real loading code, here from a local server that speaks the hub's protocol."""

import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import models

COMMIT = "a" * 40
LOAD = """
import sys
from models.encoder import load_pretrained
encoder = load_pretrained(sys.argv[1])
print(len(encoder.weights), encoder.tokeniser().encode([("", "why sleep ?")], 16).ids[0])
"""


@pytest.fixture
def hub(tiny_encoder):
    """Serve the tiny encoder as `tiny/encoder`; gives the endpoint and the list of requested paths."""
    requested: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requested.append(self.path)
            if self.path.startswith("/api/models/tiny/encoder/tree/"):
                files = sorted(tiny_encoder.iterdir())
                tree = [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": "0"} for p in files]
                return self.answer(200, json.dumps(tree).encode())
            if self.path.startswith("/api/models/tiny/encoder"):
                names = [{"rfilename": path.name} for path in tiny_encoder.iterdir()]
                body = json.dumps({"id": "tiny/encoder", "modelId": "tiny/encoder", "sha": COMMIT, "siblings": names})
                return self.answer(200, body.encode())
            path = tiny_encoder / Path(self.path.split("?")[0]).name
            if not self.path.startswith("/tiny/encoder/resolve/") or not path.is_file():
                return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            body = path.read_bytes()
            etag = hashlib.sha256(body).hexdigest()
            return self.answer(200, body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

        do_HEAD = do_GET

        def answer(self, code, body, headers=None):
            self.send_response(code)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requested
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_encoder_loads_from_a_hub(hub, tmp_path, tiny_encoder):
    endpoint, requested = hub
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}
    environment |= {"HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
    root = Path(models.__path__[0]).parent
    outputs = []
    for name in ("tiny/encoder", str(tiny_encoder)):
        command = [sys.executable, "-c", LOAD, name]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, timeout=120)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert any("model.safetensors" in path for path in requested)
