-- Tell in one round trip what there is for upkeep to do, and which queues are paused.
SELECT ARRAY(SELECT name::text FROM django_dbq_pausedqueue) AS paused,
       EXISTS (
           SELECT 1 FROM django_dbq_schedule
           WHERE enabled AND next_run <= statement_timestamp()
       ) AS schedules_due,
       EXISTS (
           SELECT 1 FROM django_dbq_job
           WHERE NOT staged AND run_after <= statement_timestamp()
       ) AS unstaged,
       EXISTS (SELECT 1 FROM django_dbq_job WHERE state = 'WAITING') AS waiting,
       EXISTS (
           SELECT 1 FROM django_dbq_job
           WHERE lease_until < statement_timestamp() AND state IN ('PROCESSING', 'STOPPING')
       ) AS expired
