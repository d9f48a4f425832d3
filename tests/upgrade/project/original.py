"""What a test asks of the original package, in a process of its own: `original.py VERB JSON`."""

import datetime
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

os.environ["DJANGO_SETTINGS_MODULE"] = "project_settings"

import django

django.setup()

from django.db import connection  # noqa: E402
from django.utils import timezone  # noqa: E402

from django_dbq.management.commands.worker import Worker  # noqa: E402
from django_dbq.models import Job  # noqa: E402


def create(name="three", later_hours=None, **values):
    if later_hours is not None:
        values["run_after"] = timezone.now() + datetime.timedelta(hours=later_hours)
    return str(Job.objects.create(name=name, **values).pk)


def work(queue, tasks):
    """Run so many tasks with the original's worker, without its sleeps."""
    worker = Worker(queue, 0)
    for _ in range(tasks):
        worker._process_job()


def drain(queue):
    """Work until every job of the queue is finished, by whichever package."""
    worker = Worker(queue, 0)
    Path(os.environ["BEGAN"]).touch()
    while Job.objects.filter(queue_name=queue).exclude(state__in=["COMPLETE", "FAILED"]).exists():
        worker._process_job()


def leave(queue, ask_to_stop):
    """Die in the middle of a task; before it, be asked to stop or not."""
    began = Path(os.environ["BEGAN"])
    pk = create("hangs", queue_name=queue, workspace={"began": str(began)})
    connection.close()
    child = os.fork()
    if child == 0:
        Worker(queue, 0)._process_job()
    while not began.exists():
        time.sleep(0.01)
    if ask_to_stop:
        os.kill(child, signal.SIGTERM)
        while not Job.objects.filter(pk=pk, state="STOPPING").exists():
            time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    began.unlink()
    return pk


def delete_old():
    Job.objects.update(created=timezone.now() - datetime.timedelta(days=2))
    Job.objects.delete_old()


def leave_everything():
    """Leave a job in every state that the original knows; return ids by what was left."""
    workspace = {
        "text": "ä\u2028\U0001f600",
        "number": 12345678901234567890,
        "half": 0.1,
        "deep": [None, {"a": []}],
    }
    left = {"new": create(queue_name="new", workspace=workspace, priority=7)}
    for label, tasks in {"half": 1, "almost": 2, "complete": 3}.items():
        left[label] = create(queue_name=label, workspace=workspace, priority=-2)
        work(label, tasks)
    left["failed"] = create("fails", queue_name="failed", workspace=workspace)
    work("failed", 1)
    left["forgot"] = create("forgets", queue_name="forgot", workspace=workspace)
    work("forgot", 1)
    left["later"] = create(queue_name="later", later_hours=1)
    left["was later"] = create(queue_name="x" * 20, later_hours=-1, workspace=workspace)
    left["processing"] = leave("processing", ask_to_stop=False)
    left["stopping"] = leave("stopping", ask_to_stop=True)
    return left


if __name__ == "__main__":
    logging.disable()
    verb, values = sys.argv[1:]
    print(json.dumps(globals()[verb](**json.loads(values))))
