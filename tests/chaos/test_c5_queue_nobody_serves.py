"""C5: a queue is renamed, and workers listen to one that nothing comes to.

Expected: its depth shows it; the jobs wait untouched until somebody serves them. (Age and health: not built.)
"""


def test_the_depth_shows_it_and_the_jobs_wait(chaos):
    jobs = [chaos.create("other_queue") for _ in range(5)]
    chaos.worker("renamed")
    served = chaos.create("plain", queue_name="renamed")
    chaos.wait_state(served)
    depth = chaos.start(["manage.py", "queue_depth", "other", "renamed"])
    assert depth.wait() == 0
    assert "other=5" in depth.log() and "renamed=0" in depth.log()
    assert all(chaos.state(job) == "NEW" for job in jobs)
    chaos.worker("other")
    chaos.wait_all()
    chaos.assert_kept()
