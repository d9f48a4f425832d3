"""P2: a workspace or result that nobody can keep; an error of 10 MB, or one that cannot be said.

Expected: the task fails with a clear error, of bounded length; the worker lives and serves the next job.
"""

CLEAR = {
    "object": "not JSON serializable",
    "NUL": "NUL",
    "NaN": "Out of range float",
    "surrogate": "surrogate",
    "50 MB": "bytes as JSON",
    "bytes": "not JSON serializable",
    "set": "not JSON serializable",
    "result": "not JSON serializable",
    "10 MB of error": "ValueError: xxx",
    "NUL in the error": "ValueError: a?b ?",
    "deep recursion": "RecursionError",
    "unprintable error": "Unprintable",
}


def test_each_fails_with_a_clear_error_and_the_worker_lives(chaos):
    worker = chaos.worker()
    jobs = {how: chaos.create("leave", workspace={"how": how}) for how in CLEAR}
    for how, job in jobs.items():
        chaos.wait_state(job, "FAILED")
        assert CLEAR[how] in chaos.value(job, "error"), how
        assert chaos.value(job, "workspace") in ({"how": how}, f'{{"how": "{how}"}}')
        [(error,)] = chaos.rows("SELECT error FROM django_dbq_taskrun WHERE job_id = %s", [job.id])
        assert len(error) < 25_000 and len(chaos.value(job, "error")) <= 1_000
    later = chaos.create("plain")
    chaos.wait_state(later)
    assert {note["pid"] for note in chaos.ledger.begun()} == {worker.pid}


def test_in_a_batch_with_others_only_the_bad_one_fails(chaos):
    good = [chaos.create("plain") for _ in range(20)]
    bad = [chaos.create("leave", workspace={"how": "surrogate"}) for _ in range(3)]
    good += [chaos.create("plain") for _ in range(20)]
    chaos.worker("--threads", "4", ready=False)
    for job in good:
        chaos.wait_state(job)
    for job in bad:
        chaos.wait_state(job, "FAILED")
