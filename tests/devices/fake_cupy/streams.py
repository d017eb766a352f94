"""Streams, the events between them, and the graphs that they capture."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from devices.fake_cupy.errors import CUDARuntimeError

if TYPE_CHECKING:
    from devices.fake_cupy.fake import FakeCupy

LAUNCH_MILLISECONDS = 2.0


class Event:
    def __init__(self, fake: FakeCupy, block: bool = False, disable_timing: bool = False) -> None:
        self.fake, self.disable_timing = fake, disable_timing
        self.stream: Stream | None = None
        self.version = self.reached = 0
        self.milliseconds = 0.0

    def record(self, stream: Any = None) -> None:
        target = stream or self.fake.current_stream()
        self.version += 1
        self.stream = target
        version = self.version

        def mark() -> None:
            self.reached, self.milliseconds = version, target.milliseconds

        target.enqueue(mark)

    def wait_for(self, version: int, stream: Stream | None) -> None:
        while self.reached < version:
            if stream is None or not stream.step():
                raise AssertionError("an event is waited for that no stream will record")

    def synchronize(self) -> None:
        self.fake.check("event")
        self.fake.forbid_in_capture()
        self.wait_for(self.version, self.stream)


class Stream:
    pointers = itertools.count(0x1000, 0x10)

    def __init__(self, fake: FakeCupy, non_blocking: bool = False, *, null: bool = False) -> None:
        fake.check("Stream")
        self.fake, self.non_blocking = fake, non_blocking
        self.ptr = 0 if null else next(self.pointers)
        self.device_id = fake.device()
        self.queue: deque[Callable[[], None]] = deque()
        self.nodes: list[Callable[[], None]] | None = None
        self.spoilt = False
        self.milliseconds = 0.0
        fake.streams.append(self)

    def enqueue(self, work: Callable[[], None]) -> None:
        self.queue.append(work)

    def spend(self) -> None:
        self.milliseconds += LAUNCH_MILLISECONDS

    def step(self) -> bool:
        if not self.queue:
            return False
        self.queue[0]()  # stays queued while it waits for another stream
        self.queue.popleft()
        return True

    def drain(self) -> None:
        while self.step():
            pass

    def __enter__(self) -> Stream:
        if self.fake.device() != self.device_id:
            raise RuntimeError("The device that the stream is created on does not match with the current device")
        self.fake.state.streams.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.fake.state.streams.pop()

    def synchronize(self) -> None:
        self.fake.forbid_in_capture()
        self.drain()

    def wait_event(self, event: Event) -> None:
        version, stream = event.version, event.stream
        self.enqueue(lambda: event.wait_for(version, stream))

    def begin_capture(self) -> None:
        if not self.non_blocking:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.nodes, self.spoilt = [], False

    def end_capture(self) -> Graph:
        nodes, self.nodes = self.nodes, None
        self.fake.check("end_capture")
        if self.spoilt or nodes is None:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated: operation failed due to a previous error")
        return Graph(self.fake, nodes)


class Graph:
    def __init__(self, fake: FakeCupy, nodes: list[Callable[[], None]]) -> None:
        self.fake, self.nodes = fake, nodes

    def launch(self, stream: Any = None) -> None:
        self.fake.check("graph")
        target = stream or self.fake.current_stream()
        for node in self.nodes:
            target.enqueue(node)
            target.enqueue(target.spend)
