"""Faults of the settings, as the commands that run jobs take them."""

from __future__ import annotations

from django.core.management.base import BaseCommand, CommandError

from django_dbq import conf
from django_dbq.checks import check_settings
from django_dbq.exceptions import SettingsError


def show_faults(command: BaseCommand) -> None:
    """Show what `manage.py check` would say of the settings. Raises CommandError where they cannot be used.

    One task that does not import must not keep the others from running: its jobs are
    parked, and `manage.py check` is where such faults stop a deploy.
    """
    try:
        conf.workflows()
        conf.options()
    except SettingsError as error:
        raise CommandError(f"The worker does not start; settings are at fault:\n{error}") from error
    for message in check_settings(None):
        command.stderr.write(f"{message.id} {message.msg}")
