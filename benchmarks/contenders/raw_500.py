"""raw in batches as large as those of a worker: the limit of the database for django_dbq as it is."""

from __future__ import annotations

from typing import ClassVar

from benchmarks.contenders import raw


class Bench(raw.Bench):
    batch: ClassVar = 500
    settings = raw.Bench.settings.replace("batches of 100", "batches of 500")
