"""The app of the label page: who may ask, and the addresses of its API."""

from __future__ import annotations

import logging
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI

from fullconv.label.events import Events
from fullconv.label.live.learner import Learner
from fullconv.label.pyramid import Pyramid
from fullconv.label.routes import add_event_route, add_image_routes, add_project_routes, add_training_routes
from fullconv.label.server import Server
from fullconv.label.store.folder import STATE, remember_start
from fullconv.label.store.store import Store
from fullconv.label.train_process import TrainProcess
from fullconv.label.work import Work
from fullconv.web import make_app, mount_static

__all__ = ["make_label_app", "make_server"]

MOST_BYTES = 2**21
"""Maximum bytes of a request: a stroke of 20,000 points takes less."""


def make_server(store: Store, learner: Learner, start: str | None = None) -> Server:
    """Return what serves a session: the store, the model with its threads, the tiles and the training."""
    events = Events()
    work = Work(store, learner, events)
    pyramid = Pyramid(store.data / STATE / "tiles", store.input)
    training = TrainProcess(
        store.data,
        store.data / "runs",
        lambda changed: events.publish("training", changed.to_dict()),
        lambda model: _use(store, work, model),
    )
    return Server(store, work, pyramid, training, events, start)


def _use(store: Store, work: Work, model: Path) -> None:
    """Let a trained model take the place of the live one, in later sessions, too."""
    remember_start(store.data, model)
    work.replace(model)


def make_label_app(server: Server, token: str) -> FastAPI:
    """Return the app of a session; every request except for the page's files needs the token."""
    app = make_app("fullconv label", token=token, max_bytes=MOST_BYTES, log_level=logging.DEBUG)
    if files("fullconv.label").joinpath("static").is_dir():
        mount_static(app, "fullconv.label", "static")
    add_project_routes(app, server)
    add_image_routes(app, server)
    add_training_routes(app, server)
    add_event_route(app, server)
    return app
