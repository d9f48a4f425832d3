"""A table that tasks write to."""

from django.db import models


class Row(models.Model):
    text = models.TextField()

    def __str__(self):
        return self.text
