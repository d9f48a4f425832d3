"""manage.py qmonitor: `manage.py monitor` under the name that django-q gave it."""

from django_dbq.management.commands.monitor import Command as Command
