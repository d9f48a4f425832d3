"""Faults of the settings, as the commands that run jobs take them."""

from __future__ import annotations

from django.core.checks import CheckMessage
from django.core.management.base import BaseCommand, CommandError

from django_dbq import conf
from django_dbq.checks import own_messages
from django_dbq.exceptions import SettingsError


def show_faults(command: BaseCommand) -> list[CheckMessage]:
    """Show what `manage.py check` would say of the settings, and return it.

    Raises CommandError where they cannot be used.

    One task that does not import must not keep the others from running: its jobs are
    parked, and `manage.py check` is where such faults stop a deploy.
    """
    try:
        conf.workflows()
        conf.options()
    except SettingsError as error:
        raise CommandError(f"The worker does not start; settings are at fault:\n{error}") from error
    messages = own_messages()
    for message in messages:
        command.stderr.write(f"{message.id} {message.msg}")
    return messages
