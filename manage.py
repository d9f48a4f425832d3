#!/usr/bin/env python
"""Run a management command with the settings of the tests, or those of DJANGO_SETTINGS_MODULE."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testsettings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
