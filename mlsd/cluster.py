"""A Dask cluster: real processes on this machine, or one that was started elsewhere, by its address.

    with open_cluster(2, memory="400MB") as client:
        futures = client.map(work, parts)

With the environment variable MLSD_DASK=tcp://host:8786 the same lines run on the workers of that scheduler
(`dask scheduler`, and `dask worker tcp://host:8786 --nthreads 1` once a worker); workers and notebook then need
the same versions, and files in a folder that all of them see.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dask

if TYPE_CHECKING:  # it takes a second to import, and each function below that needs it imports it
    from dask.distributed import Client, Worker, WorkerPlugin

ADDRESS = "MLSD_DASK"
PATIENCE_S = 5.0  # for a scheduler to answer
_CONFIG = {
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.worker.memory.spill": False,  # a partition that does not fit is to be seen, not swapped
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.pause": False,  # a worker alone with its task would wait for ever
    "distributed.deploy.lost-worker-timeout": "5s",  # after which one that did not come back is replaced
}


class ClusterError(ConnectionError):
    """There is no cluster to work on. The message says where one was looked for, and what to do."""


@contextlib.contextmanager
def open_cluster(workers: int = 2, memory: str = "500MB", deaths: int = 3, patience_s: float = PATIENCE_S) -> Iterator[Client]:
    """A client of `workers` processes with one thread each, or of the scheduler that MLSD_DASK names.

    memory: the limit of each local process, as "400MB"; one that holds more is killed and started anew.
    deaths: how many workers may die with a task that they have or wait for; one more, and it raises dask.distributed.KilledWorker.
    (A remote worker has the limit it was started with, and its scheduler its own count of deaths.)
    The local processes end with the `with`, also upon an error, and with this process, however that ends.
    Raises ValueError for less than one worker; ClusterError if the scheduler does not answer, or has no worker, in `patience_s` seconds.
    """
    from dask.distributed import Client, LocalCluster

    if workers < 1:
        raise ValueError(f"workers: expected at least 1, found {workers}")
    address = os.environ.get(ADDRESS)
    with dask.config.set(_CONFIG | {"distributed.scheduler.allowed-failures": deaths}), _quiet():
        if address:
            with _connected(address, patience_s) as client:
                yield client
            return
        with (
            tempfile.TemporaryDirectory(prefix="mlsd-dask-", ignore_cleanup_errors=True) as folder,
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=memory,
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address=None,
                local_directory=folder,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):
            client.register_plugin(_silent())
            client.wait_for_workers(workers)
            cluster.adapt(minimum=workers, maximum=workers)  # replaces one that dies while it starts, which its nanny does not
            yield client


def _silent() -> WorkerPlugin:
    """What libraries print in a worker of this machine would land in the cell that started it."""
    from dask.distributed import WorkerPlugin

    class Silent(WorkerPlugin):
        name = "mlsd-silent"

        def setup(self, worker: Worker) -> None:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)

    return Silent()


@contextlib.contextmanager
def _connected(address: str, patience_s: float) -> Iterator[Client]:
    from dask.distributed import Client

    advice = f"start one (`dask scheduler`, `dask worker {address}`), or unset {ADDRESS} for processes on this machine"
    try:
        client = Client(address, timeout=patience_s)
    except (OSError, ValueError) as error:  # a time-out is an OSError too
        raise ClusterError(f"{ADDRESS}={address}: no scheduler answered in {patience_s:g} s; {advice}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=patience_s)
        except TimeoutError as error:
            raise ClusterError(f"{ADDRESS}={address}: the scheduler has no worker after {patience_s:g} s; {advice}") from error
        yield client


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Deaths of workers are what is studied here: the caller says what happened, and not the log."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado.application", "asyncio", "lightgbm")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
