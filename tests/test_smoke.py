import pytest
from django_dbq import Job
from django_dbq.testing import run_jobs
from tests.conftest import wait_until


@pytest.mark.django_db
def test_a_job_runs_to_complete_in_a_test():
    job = Job.objects.create(name="five")
    assert run_jobs() == 1
    job.refresh_from_db()
    assert job.state == Job.STATES.COMPLETE and job.workspace == {"count": 5}


@pytest.mark.django_db(transaction=True)
def test_a_worker_process_runs_a_job(manage):
    worker = manage("worker")
    job = Job.objects.create(name="five")
    wait_until(lambda: Job.objects.filter(pk=job.pk, state="COMPLETE").exists(), "the job is complete")
    worker.popen.terminate()
    assert worker.wait() == 0, worker.log()
