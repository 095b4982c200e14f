"""Running jobs: some at a time, each with a child process of its own, progress as it comes.

The child is spawned, never forked, and ends with the service.
"""

from __future__ import annotations

import json
import logging
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from index.errors import HammingIndexError
from models.errors import ModelsError

from .errors import Overloaded, ServiceError, describe, describe_error
from .jobs import ENDED, JobStore
from .work import Task, Work
from .work.base import JobEnded

log = logging.getLogger(__name__)

_STOP_S = 10


class Runner:
    """Runs jobs in the order in which they came, at most `at_once` at a time."""

    def __init__(
        self, store: JobStore, *, most_waiting: int, at_once: int = 1, admit: Callable[[], None] = lambda: None
    ) -> None:
        """admit: called before a job is taken; what it raises refuses the job."""
        self.store = store
        self._admit = admit
        self._most_waiting = most_waiting
        self._queue: queue.Queue[tuple[str, Work] | None] = queue.Queue()
        self._lock = threading.Lock()
        self._submitting = threading.Lock()
        self._running: dict[str, subprocess.Popen[str] | None] = {}
        self._stopping = False
        self._threads = [threading.Thread(target=self._work, name=f"jobs-{n}", daemon=True) for n in range(at_once)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the running children and the threads; jobs that had not ended are interrupted."""
        self._stopping = True
        for _ in self._threads:
            self._queue.put(None)
        with self._lock:
            for id, child in self._running.items():
                self.store.update(id, state="interrupted")
                if child is not None:
                    child.terminate()
        for thread in self._threads:
            thread.join(_STOP_S)
        for job in self.store.list():
            if job["state"] not in ENDED:
                self.store.update(job["id"], state="interrupted")
        self.store.close()

    @property
    def stopping(self) -> bool:
        """Whether the service is about to end; streams of events end then too."""
        return self._stopping

    def stop(self) -> None:
        """Begin to end: no further job is started."""
        self._stopping = True

    def submit(self, work: Work) -> dict[str, Any]:
        """Queue a job; returns its row. Raises `Overloaded`."""
        self._admit()
        with self._submitting:
            waiting = self.store.queued()
            with self._lock:
                free = len(self._threads) - len(self._running)
            if waiting >= self._most_waiting + free:
                raise Overloaded(
                    f"{waiting} jobs are waiting, the limit is {self._most_waiting} (max_jobs_waiting); "
                    "try again when one has ended"
                )
            id = self.store.add(work.kind, work.subject)
        self._queue.put((id, work))
        return self.store.get(id)

    def cancel(self, id: str) -> dict[str, Any]:
        """Stop a job that has not ended. Raises `UnknownJob`."""
        self.store.get(id)
        self.store.update(id, state="cancelled")
        with self._lock:
            if (child := self._running.get(id)) is not None:
                child.terminate()
        return self.store.get(id)

    def _ended(self, id: str) -> bool:
        return self._stopping or self.store.get(id)["state"] in ENDED

    def _work(self) -> None:
        while (job := self._queue.get()) is not None and not self._stopping:
            id, work = job
            try:
                if self._begin(id):
                    self._run(id, work)
            except Exception:  # the outermost handler of this thread: one job's trouble must not end the others'
                log.exception("job %s", id)
                self._fail(id, _FAILED, None)
            finally:
                with self._lock:
                    self._running.pop(id, None)

    def _begin(self, id: str) -> bool:
        """Let a job run, unless it has ended; from then on it does not wait."""
        with self._submitting, self._lock:
            if self._ended(id):
                return False
            self.store.update(id, state="running")
            self._running[id] = None
            return True

    def _run(self, id: str, work: Work) -> None:
        task = Task(id, lambda progress: self.store.update(id, progress=progress), lambda: self._ended(id))
        try:
            try:
                last = self._child(id, work, task)
                self.store.update(id, state="succeeded", result=work.finish(last, task))
            except BaseException:
                work.discard()  # before the job is seen to have failed, so that it can be tried again at once
                raise
            finally:
                work.release()
        except JobEnded:
            log.info("job %s: ended before it was done", id)
        except _ChildFailed as error:
            self._fail(id, error.problem, None)
        except (HammingIndexError, ModelsError, ServiceError) as error:
            self._fail(id, describe_error(error) or _FAILED, getattr(error, "result", None))

    def _child(self, id: str, work: Work, task: Task) -> Mapping[str, Any]:
        """What the child's result is. Raises `_ChildFailed`, `JobEnded`, and what `work` raises."""
        last: dict[str, Any] = {}
        with self._started(id) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                child.stdin.write(json.dumps({"kind": work.kind, "spec": work.spec()}) + "\n")
                child.stdin.flush()
            except BrokenPipeError:
                log.info("job %s: its child was ended before it began", id)
            for line in child.stdout:
                last = json.loads(line)
                if "progress" in last:
                    task.progress(last["progress"])
                elif "result" not in last and "error" not in last:
                    work.take(last, task)
            code = child.wait()
        task.go_on()
        if "result" in last:
            return dict(last["result"])
        detail = f"its process ended with exit code {code}; see the log of the service"
        raise _ChildFailed(last.get("error") or describe(500, "job-failed", "The job failed", detail))

    @contextmanager
    def _started(self, id: str) -> Iterator[subprocess.Popen[str]]:
        """A child process, which is gone when the block ends."""
        child = subprocess.Popen(
            [sys.executable, "-m", "service.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            with self._lock:
                self._running[id] = child
                if self._ended(id):  # cancelled while the child started
                    child.terminate()
            yield child
        except BaseException:
            child.kill()
            raise
        finally:
            child.wait()
            with self._lock:
                self._running[id] = None
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdout.close()
            with suppress(BrokenPipeError):
                child.stdin.close()

    def _fail(self, id: str, problem: Mapping[str, Any], result: Mapping[str, Any] | None) -> None:
        try:
            self.store.update(id, state="failed", error=problem, result=result)
        except HammingIndexError as error:  # a full disk: the row is settled at the next start
            log.error("job %s: %s", id, error)


class _ChildFailed(Exception):
    """The child said what went wrong, or ended without a word."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(problem["detail"])
        self.problem = problem


_FAILED = describe(500, "job-failed", "The job failed", "the service could not run it; its log says why")
