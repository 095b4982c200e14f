"""The kinds of long work, a file each: what the service does about a job, and what the job's child process does."""

from .base import Lines, Task, Work

__all__ = ["CHILDREN", "Lines", "Task", "Work"]

CHILDREN = {
    "calibrate": "service.work.calibrate",
    "duplicates": "service.work.duplicates",
    "reencode": "service.work.reencode",
    "train": "service.work.train",
}
"""Where the child process of a kind finds its `run(spec)`, a generator of lines."""
