"""Doing the tasks of a Flower SuperNode with an app of this site, instead of with code that its server sent.

A SuperNode with `--isolation process` waits for somebody to do its tasks. Flower's own helper would unpack the server's
package and run the ClientApp in it. This one never looks at the package.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from atoll.core.errors import ConnectionLost, InputError
from atoll.learn.horizontal.networks.flower_trainer import flower_library

HERE = ("127.0.0.1", "localhost", "[::1]")


def serve_supernode(
    app: Any,
    address: str,
    *,
    over: Callable[[], bool] = lambda: False,
    tries: int = 8,
    pause: float = 0.5,
    on_message: Callable[[str], object] = lambda kind: None,
) -> None:
    """Answer a SuperNode's messages with an app until it is over.

    Args:
        app: a ClientApp of this site.
        address: host:port of the SuperNode's Runtime API, on this machine, for the connection has no TLS.
        over: asked between messages.
        tries: how often it is asked before it counts as gone.
        pause: seconds between questions for work.
        on_message: called after each message with its type.

    Raises:
        InputError: the address is not of this machine, Flower is not installed, or another than this was written for.
        ConnectionLost: the SuperNode cannot be reached.
    """
    if address.rpartition(":")[0] not in HERE:
        raise InputError(
            f"the SuperNode at {address} may not be on this machine, and updates would travel without TLS",
            step="networks",
            cure="Run the SuperNode here, and name it as 127.0.0.1:PORT.",
        )
    flower_library()
    try:
        node = _Node(address, tries)
    except ImportError as cause:
        raise InputError(
            f"Flower {version('flwr')} has other internals than 1.42, for which this was written",
            step="networks",
            detail=str(cause),
            cure='Install "flwr==1.42.0" in this environment.',
        ) from None
    try:
        while not over():
            kind = node.answer(app)
            if kind:
                on_message(kind)
            else:
                time.sleep(pause)
    except node.lost as cause:
        raise ConnectionLost(
            f"the SuperNode at {address} does not answer",
            detail=str(cause),
            cure="Start it with `flower-supernode --isolation process --host HOST --port PORT`.",
        ) from None


class _Node:
    """The SuperNode's Runtime API, as Flower's own helper uses it."""

    def __init__(self, address: str, tries: int) -> None:
        from flwr.supercore.constant import TaskType
        from flwr.supercore.runtime import RuntimeHttpClient
        from flwr.supernode.runtime import run_clientapp as helper

        self.address, self.client, self.kind = address, RuntimeHttpClient, TaskType
        self.pull, self.push, self.end = helper.pull_task_input, helper.push_message, helper.push_task_output
        self.tries = tries
        self.lost: type[Exception] = helper.httpx.HTTPError
        self.questions = self._connect()

    def _connect(self, *more: Any) -> Any:
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
        from flwr.supercore.retry import make_simple_http_retry_invoker

        retry = make_simple_http_retry_invoker()
        retry.max_tries = self.tries
        return self.client.from_server_address(
            server_address=self.address,
            insecure=True,
            root_certificates=None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), *more],
            retry_invoker=retry,
        )

    def answer(self, app: Any) -> str:
        """Take one message and answer it; return its type, or nothing if none waits."""
        from flwr.app import Error, Message
        from flwr.common.constant import ErrorCode, SubStatus
        from flwr.proto.runtime_pb2 import AcquireTaskRequest
        from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor

        task = self.questions.AcquireTask(AcquireTaskRequest(supported_task_types=[self.kind.CLIENT_APP]))
        if not (task.HasField("task") and task.token):
            return ""
        client = self._connect(RuntimeTokenHttpInterceptor(task.token))
        try:
            message, context, _, _ = self.pull(client)
            status, details = SubStatus.COMPLETED, ""
            try:
                reply = app(message, context)
            except Exception as cause:  # whatever fails here, the server must learn that there is no reply
                status, details = SubStatus.FAILED, type(cause).__name__
                reply = Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=details), reply_to=message)
            self.push(client, reply, context)
            self.end(client=client, context=context, sub_status=status, details=details)
        finally:
            client.close()
        return str(message.metadata.message_type)
