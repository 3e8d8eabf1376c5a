"""Starts the service: takes the port, loads the model, and answers until it is told to stop."""

from __future__ import annotations

import gc
import ipaddress
import logging
import signal
import socket
import sys
from functools import partial

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from toxicity.core.console import set_up_console
from toxicity.core.errors import RequestError
from toxicity.serve.keys import Keys
from toxicity.serve.limits import BODY_SECONDS, REQUEST_SECONDS
from toxicity.serve.protocol import HttpProtocol
from toxicity.serve.settings import Settings

# As many connections may wait to be accepted.
BACKLOG = 2048

logger = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Answer until the process is told to stop.

    SIGTERM and Ctrl-C refuse new connections and finish what is in flight.

    Raises:
        RequestError: for keys that cannot be read, a port that cannot be had, and a model that cannot be loaded.
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: with 0 after SIGTERM.
    """
    # Whoever stops a service wants no error of it, neither while it loads nor when all is answered.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    keys = Keys(settings.api_keys)
    listener = take_port(settings.host, settings.port)
    set_up_log()
    address = "http://{}:{}".format(*_shown(listener))
    if not keys.required and not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        logger.warning(
            f"{address} is open to everybody who can reach this machine: give --api_keys FILE, or leave out --host."
        )
    told = f"Scoring comments at {address} (Ctrl-C stops)"
    if settings.workers > 1:
        from toxicity.serve.workers import serve_with_workers

        config = server_config(partial(_app_of_worker, settings), factory=True, workers=settings.workers)
        serve_with_workers(config, listener, told)
        return
    app = load_app(settings)
    _listen(listener, settings)
    logger.info(told)
    uvicorn.Server(server_config(app)).run(sockets=[listener])


def set_up_log() -> None:
    """Send lines of the package and errors of the server to standard error; none of them tells of a single request."""
    set_up_console(is_main_process=True, progress_bars=sys.stderr.isatty())
    server = logging.getLogger("uvicorn")
    server.handlers, server.propagate = logging.getLogger("toxicity").handlers, False
    # It warns of every connection that speaks no HTTP.
    server.setLevel(logging.ERROR)


def load_app(settings: Settings) -> FastAPI:
    """Load the model, and score with it once, so that the first request waits for nothing.

    Raises:
        RequestError: for a model that cannot be loaded, or has no thresholds of the kind that is asked for.
    """
    # Imported only now, so that a port that is taken is reported before torch is loaded, which takes seconds.
    from toxicity.hardware.process import prepare_process
    from toxicity.predict.scorer import Scorer
    from toxicity.serve.app import create_app
    from toxicity.serve.batcher import STREAMS, Batcher
    from toxicity.serve.metrics import Metrics
    from toxicity.serve.page_app import page_of
    from toxicity.serve.service import Service

    prepare_process(scoring=True)
    scorer = Scorer(
        settings.model,
        settings.model_revision,
        mixed_precision=settings.mixed_precision,
        toxic_label=settings.toxic_label,
        runtime=settings.runtime,
        prior=settings.prior,
        streams=STREAMS,
    )
    target = settings.threshold_for
    if target is not None and target not in scorer.thresholds:
        raise RequestError(
            f"--threshold_for {target}: the model's config.json has thresholds for "
            f"{', '.join(scorer.thresholds) or 'none'}. Leave it out to label at {scorer.threshold:g}."
        )
    for words in (1, scorer.max_seq_length):
        scorer(["word " * words])
    numbers = Metrics()
    service = Service(settings, scorer, Batcher(scorer, on_batch=numbers.add_batch))
    app = create_app(service, numbers, page_of(service))
    # What is loaded stays: the collector, which would look through it again and again, stopped everything for half a
    # second at every thousandth request.
    gc.collect()
    gc.freeze()
    # A thread that comes back from scoring waits for the one that answers, by default up to 5 ms.
    sys.setswitchinterval(0.0005)
    return app


def _app_of_worker(settings: Settings) -> FastAPI:
    from toxicity.serve.workers import end_with_parent

    end_with_parent()
    set_up_log()
    try:
        return load_app(settings)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(STARTUP_FAILURE)


def server_config(app: object, **options: object) -> uvicorn.Config:
    """How uvicorn runs an application, or a function that makes it."""
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # it would hold keys
        server_header=False,
        backlog=BACKLOG,
        # Longer than any request takes that is in flight.
        timeout_graceful_shutdown=BODY_SECONDS + REQUEST_SECONDS + 5,
        **options,
    )


def take_port(host: str, port: int) -> socket.socket:
    """A socket at this address, which does not listen yet, so that nobody is let in before the model is loaded.

    Raises:
        RequestError: if it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        # A port whose last connections were closed a moment ago can be had at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise _port_refused(host, port, error) from None
    return listener


def _listen(listener: socket.socket, settings: Settings) -> None:
    try:
        listener.listen(BACKLOG)
    except OSError as error:  # another process has taken the port in the meantime
        raise _port_refused(settings.host, settings.port, error) from None


def _port_refused(host: str, port: int, error: OSError) -> RequestError:
    return RequestError(f"cannot listen at {host}, port {port} ({error.strerror}): choose others by --host and --port.")


def _shown(listener: socket.socket) -> tuple[str, int]:
    host, port, *_ = listener.getsockname()
    return (f"[{host}]" if ":" in host else host), port
