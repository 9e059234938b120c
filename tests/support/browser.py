"""A headless Chromium, told over a pipe what to look at: sizes, colours and text of a page as people meet it.

    with browser() as chromium:
        page = chromium.open("http://127.0.0.1:8080/", width=360, height=740)
        assert page.evaluate("document.title") == "attic-pc - router"

Its language is the DevTools protocol: JSON texts, each with a zero byte behind it, on file descriptors 3 and 4.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = "chromium-headless-shell"
# Nothing but the page: no updates, no profile of a person, nothing kept. The sandbox does not work for root.
OPTIONS = (
    "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--lang=en",
)  # fmt: skip
SECONDS = 60.0


class Browser:
    """One tab of a running Chromium."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        self.requests: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network"):
            self._call(f"{domain}.enable")

    def open(self, url: str, *, width: int, height: int, dark: bool = False, scripts: bool = False) -> None:
        """Load a page on a screen of this size and wait until all of it is there; `requests` is what it asked for."""
        self.requests.clear()
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Emulation.setScriptExecutionDisabled", value=not scripts)
        answer = self._call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page, whose own scripts may be off."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, file: Path) -> None:
        """The whole page as a PNG, however long it is."""
        answer = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(answer["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        number = self._count
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == number)
        assert "error" not in answer, (method, answer)
        return dict(answer["result"])

    def _until(self, wanted: Any) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while True:
            text, end, rest = self._buffer.partition(b"\0")
            if not end:
                ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
                data = os.read(self._answers, 1 << 16) if ready else b""
                assert data, "the browser says nothing more"
                self._buffer += data
                continue
            self._buffer = rest
            message = json.loads(text)
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if wanted(message):
                return dict(message)


@contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium that is ended where the block ends."""
    to_it, commands = os.pipe()
    answers, from_it = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        # Out of the way first: either may be 3 or 4 already.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to_it, from_it)]
        process = subprocess.Popen(
            [PROGRAM, *OPTIONS, f"--user-data-dir={home}", "about:blank"], pass_fds=(3, 4),
            preexec_fn=lambda: [os.dup2(end, place) for place, end in enumerate(ends, 3)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": home},
        )  # fmt: skip
        for end in (to_it, from_it, *ends):
            os.close(end)
        try:
            yield Browser(commands, answers)
        finally:
            # Debian's program is a script around the real one, which ends with its pipe.
            os.close(commands)
            os.close(answers)
            try:
                process.wait(SECONDS)
            finally:
                process.kill()
