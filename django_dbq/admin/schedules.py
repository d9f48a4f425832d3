"""Schedules: a list, and a form that shows the next runs before anything is saved."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, ClassVar
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import models, router
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from django_dbq import allowlist, calls, conf
from django_dbq.admin import lists, shown
from django_dbq.admin.base import Page
from django_dbq.compat import django_q_settings
from django_dbq.compat.django_q_schedules import schedule_defaults
from django_dbq.engine.arguments import decode
from django_dbq.engine.schedule import Kind, check_cron
from django_dbq.exceptions import CallError, DBQError, ScheduleError, SettingsError
from django_dbq.models import Job, Schedule, ScheduleRun
from django_dbq.redaction import MASK, is_masked, redact, redact_text, restore
from django_dbq.store import get_store

UPCOMING = 5
RUNS = 10
MINUTES_MAX = 5_256_000
_MOVED_BY_WORKERS = {"next_run", "repeats"}
_OF_A_CALL = {"queue_name", "date_keyword"}  # What says, beside its arguments, what is called and where.
_TYPED_ANEW = f"{MASK} stands for a value that is not shown. For another job or function, type it anew."


class JSONText(forms.JSONField):
    """JSON of a given type, written out over several lines."""

    widget = forms.Textarea(
        attrs={"rows": 4, "cols": 60, "class": "vLargeTextField dbq-json", "spellcheck": "false"}
    )

    def __init__(self, kind: type, word: str, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)
        self.kind, self.word = kind, word

    def prepare_value(self, value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)

    def clean(self, value: Any) -> Any:
        found = super().clean(value)
        if found is None or found == "":
            return self.kind()
        if not isinstance(found, self.kind):
            raise forms.ValidationError(f"This is to be {self.word}.")
        return found


class Paths(forms.TextInput):
    """A text that the names of JOBS are suggested for."""

    template_name = "admin/django_dbq/paths.html"

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context = super().get_context(name, value, {**(attrs or {}), "list": "dbq-paths"})
        return {**context, "paths": sorted(conf.workflows())}


class ScheduleForm(forms.ModelForm):  # type: ignore[type-arg]
    """A schedule as people write it: the arguments of a call as JSON, the rule checked."""

    args = JSONText(
        list, "a list, such as [1, 2]", label="Arguments", help_text="Of a function: a JSON list."
    )
    kwargs = JSONText(
        dict,
        'an object, such as {"to": "all"}',
        label="Keyword arguments",
        help_text="Of a function: a JSON object.",
    )
    hook = forms.CharField(
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text="Of a function: the path of another, open like it, that is called when a run has ended.",
    )
    workspace = JSONText(
        dict, 'an object, such as {"to": "all"}', help_text="Of a job of JOBS: a JSON object."
    )
    time_zone = forms.ChoiceField(required=False)

    class Meta:
        model = Schedule
        fields = (
            *("name", "path", "workspace", "queue_name", "kind", "minutes", "cron", "time_zone"),
            *("next_run", "repeats", "date_keyword", "catch_up", "no_overlap", "enabled"),
        )
        widgets: ClassVar = {"path": Paths(attrs={"class": "vTextField"})}
        labels: ClassVar = {"path": "Job or function", "no_overlap": "No overlap"}
        help_texts: ClassVar = {
            "path": 'A name of JOBS, or the dotted path of a function that DBQ["API_FUNCTIONS"] opens.',
            "queue_name": "Empty: that of the job.",
            "minutes": "Between two runs, where the kind is minutes.",
            "cron": "Where the kind is cron: minute, hour, day, month, day of week. Such as 0 6 * * 1-5.",
            "next_run": "The first run, from which the others are counted; a cron line begins here.",
            "repeats": "How often it still runs. Below 0: without end; one of the kind once is then deleted.",
            "date_keyword": "The argument, or key of the workspace, that is given the time a run is for.",
            "catch_up": "After a stop, every run that was missed is made up for; otherwise only the last.",
            "no_overlap": "A run is passed over while the job before it has not ended.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.original = _call(self.instance)
        self.old_workspace = self.instance.workspace or {}
        self.old_path = self.instance.path
        for name, value in (
            ("args", self.original["args"]),
            ("kwargs", self.original["kwargs"]),
            ("workspace", self.old_workspace),
        ):
            self.initial[name] = redact(value)
        self.initial["hook"] = self.original["options"].get("hook", "")
        if "path" in self.fields and django_q_settings.is_set():
            self._begin_as_q_cluster_says()
        if (
            "path" in self.fields
            and self.instance.call is not None
            and _refusal_of(self.old_path) is not None
        ):
            for name in _OF_A_CALL:
                self.fields[name].widget.attrs["readonly"] = True
        if "time_zone" in self.fields:
            names = sorted({*available_timezones(), self.instance.time_zone} - {""})
            default = f"{settings.TIME_ZONE} (the project's)"
            zones: Any = self.fields["time_zone"]
            zones.choices = [("", default), *((name, name) for name in names)]
        for name in _MOVED_BY_WORKERS.intersection(self.fields):
            self.fields[name].show_hidden_initial = True
        if "next_run" in self.fields:
            self.fields["next_run"].required = False
            here = timezone.get_current_timezone_name() if settings.USE_TZ else settings.TIME_ZONE
            self.fields["next_run"].help_text += f" In {here}."

    def _begin_as_q_cluster_says(self) -> None:
        with suppress(SettingsError):  # Which `check` tells of.
            _, fields = schedule_defaults()
            help_text = f"Empty: that of the job; of a function {fields.pop('queue_name')!r}."
            self.fields["queue_name"].help_text = help_text
            if self.instance._state.adding:
                self.initial.update(fields)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if not self.instance._state.adding:  # A worker may have fired it since the form was shown.
            for name in _MOVED_BY_WORKERS.intersection(given).difference(self.changed_data):
                given[name] = getattr(self.instance, name)
        kind = given.get("kind")
        if kind == Kind.CRON:
            try:
                check_cron(given.get("cron") or "")
            except ScheduleError as error:
                self.add_error("cron", str(error))
        minutes = given.get("minutes")
        if kind == Kind.MINUTES and "minutes" not in self.errors and not 1 <= (minutes or 0) <= MINUTES_MAX:
            self.add_error("minutes", f"From 1 to {MINUTES_MAX:,}, which is ten years.")
        if not self.errors and "path" in self.fields:
            self._restore(given)
        if not self.errors and "path" in self.fields:
            self._take_call(given)
        return given

    def _restore(self, given: dict[str, Any]) -> None:
        """Put back what was shown masked, as long as it goes to what it was meant for."""
        old = {name: self.original[name] for name in ("args", "kwargs")} | {"workspace": self.old_workspace}
        if given["path"] == self.old_path:
            given.update({name: restore(given[name], value) for name, value in old.items()})
            return
        for name in [name for name in old if is_masked(given[name])]:
            self.add_error(name, _TYPED_ANEW)

    def _post_clean(self) -> None:
        if not self.errors:  # The row's own checks would say the same again, of no field.
            super()._post_clean()  # type: ignore[misc]

    def _take_call(self, given: dict[str, Any]) -> None:
        """Put what is to be called into the row. A function has to be open, or to stay as it was."""
        path, hook, old = given["path"], given["hook"], self.original
        if path in conf.workflows():
            if given["args"] or given["kwargs"]:
                self.add_error("args", "A job of JOBS has no arguments: it has a workspace.")
            if hook:
                self.add_error("hook", "The hooks of a job of JOBS stand in its entry there.")
            self.instance.call = None
            return
        args, kwargs = given["args"], given["kwargs"]
        same = path == self.old_path and self.instance.call is not None
        same_hook = same and hook == old["options"].get("hook", "")
        same_call = same_hook and (args, kwargs) == (old["args"], old["kwargs"])
        moved = _OF_A_CALL.intersection(self.changed_data)
        if same_call and not moved:
            return
        # Whoever may edit schedules is not thereby one who may run whatever the server has.
        if (why := _refusal_of(path)) is not None:
            known = ", ".join(sorted(conf.workflows())[:10]) or "none"
            told = dict.fromkeys(moved, why) if same_call else {"path": f"{why} Jobs of JOBS: {known}."}
            self.add_error(None, told)
            return
        if same_call:
            return
        if hook and not same_hook and (why := _refusal_of(hook)) is not None:
            self.add_error("hook", why)
            return
        try:
            calls.path_of(path)
            args, kwargs = decode(args), {key: decode(value) for key, value in kwargs.items()}
            options, more = old["options"], {key: old.get(key) for key in ("via", "typed")}
            if not same:
                options, more = {}, {}
                if django_q_settings.is_set():
                    options, fields = schedule_defaults(given["queue_name"] or None)
                    given["queue_name"], more = fields["queue_name"], {"typed": True}
            options = {key: value for key, value in options.items() if key != "hook"}
            if hook:
                options["hook"] = calls.path_of(hook)
            self.instance.call = calls.columns_of(path, args, kwargs, options, **more)["call"]
            self._check_arguments(path, given["date_keyword"])
        except (DBQError, ValueError, TypeError) as error:
            self.add_error("path" if isinstance(error, CallError) else "args", str(error))

    def _check_arguments(self, path: str, date_keyword: str) -> None:
        call = self.instance.call
        try:
            Schedule(path=path, call=call, date_keyword=date_keyword).check_arguments()
        except CallError as error:
            self.add_error("args", str(error))


class ScheduleAdmin(Page):
    """Schedules."""

    form = ScheduleForm
    list_display = (
        *("shown_name", "path", "shown_rule", "shown_next", "shown_repeats", "enabled"),
        *("shown_last_run", "queue_name"),
    )
    list_filter = ("enabled", "kind")
    search_fields = ("name__startswith", "path__startswith")
    search_help_text = "How a name, or a path, begins."
    ordering = ("-enabled", "next_run", "id")
    sortable_by = ()
    actions = ("enable", "disable", "create_job")
    change_form_template = "admin/django_dbq/schedule_form.html"
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("name", "path", "args", "kwargs", "hook", "workspace", "queue_name")}),
        ("When", {"fields": ("kind", "minutes", "cron", "time_zone", "next_run", "repeats", "enabled")}),
        ("How", {"fields": ("catch_up", "no_overlap", "date_keyword")}),
    )

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Schedule]:
        runs = ScheduleRun.objects.filter(schedule=models.OuterRef("pk"), job__isnull=False).order_by("-slot")
        found: Any = super().get_queryset(request)
        return found.annotate(  # type: ignore[no-any-return]
            last_job=models.Subquery(runs.values("job")[:1]),
            last_state=models.Subquery(runs.values("job__state")[:1]),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        if obj is None or obj.declared is None:
            return ()
        # JOBS says the rest, and would say it again.
        names = tuple(name for _, options in self.fieldsets for name in options["fields"])
        return tuple(name for name in names if name not in ("enabled", "args", "kwargs", "hook"))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None or (obj.declared is None and self.has_change_permission(request, obj)):
            return self.fieldsets
        hidden = ("args", "kwargs", "hook", "workspace")
        return [
            (title, {"fields": tuple(name for name in options["fields"] if name not in hidden)})
            for title, options in self.fieldsets
        ]

    @admin.display(description="name")
    def shown_name(self, schedule: Schedule) -> str:
        return schedule.name or schedule.declared or schedule.path

    @admin.display(description="when")
    def shown_rule(self, schedule: Schedule) -> str:
        minutes = "minute" if schedule.minutes == 1 else f"{schedule.minutes} minutes"
        words = {Kind.CRON: schedule.cron, Kind.MINUTES: f"every {minutes}"}
        what = words.get(schedule.kind, schedule.get_kind_display())  # type: ignore[call-overload]
        return f"{what} ({schedule.time_zone})" if schedule.time_zone else str(what)

    @admin.display(description="next run", ordering="next_run")
    def shown_next(self, schedule: Schedule) -> str:
        return shown.moment(schedule.next_run) if schedule.enabled else "-"

    @admin.display(description="left")
    def shown_repeats(self, schedule: Schedule) -> str:
        if schedule.kind == Kind.ONCE:
            return "1" if schedule.next_run and schedule.repeats else "0"
        return "no end" if schedule.repeats < 0 else str(schedule.repeats)

    @admin.display(description="last run")
    def shown_last_run(self, schedule: Any) -> str:
        if schedule.error:
            why = redact_text(shown.cut(schedule.error, 300))
            failures = f"could not run ({schedule.failures})"
            return format_html('<span title="{}">{}</span>', why, shown.badge(failures, "bad"))
        if schedule.last_job is None or schedule.last_state is None:
            return "-"
        url = reverse("admin:django_dbq_job_change", args=[schedule.last_job])
        return format_html('<a href="{}">{}</a>', url, shown.badge(schedule.last_state))

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: models.QuerySet[Schedule]) -> None:
        self._set(request, queryset, True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: models.QuerySet[Schedule]) -> None:
        self._set(request, queryset, False)

    def _set(self, request: HttpRequest, queryset: models.QuerySet[Schedule], enabled: bool) -> None:
        changed = []
        for schedule in queryset.filter(enabled=not enabled):
            schedule.enabled = enabled
            try:
                schedule.save()
            except DBQError as error:
                messages.error(request, f"{schedule}: {error}")
            else:
                changed.append(schedule)
        word = "Enabled" if enabled else "Disabled"
        lists.note(request, changed, f"{word}.")
        messages.success(request, f"{word}: {len(changed)}.")

    @admin.action(description="Create a job now", permissions=["change"])
    def create_job(self, request: HttpRequest, queryset: models.QuerySet[Schedule]) -> None:
        # Beside the slots: of these nothing changes.
        created, now = [], timezone.now()
        for schedule in queryset:
            try:
                if schedule.call is not None and (refusal := _refusal_of(schedule.path)) is not None:
                    raise CallError(refusal)
                with get_store(router.db_for_write(Job)).write():
                    schedule.job(now).save()
            except Exception as error:  # A creation hook may raise anything.
                told = error if isinstance(error, DBQError) else f"{type(error).__name__}: {error}"
                messages.error(request, f"{schedule}: {redact_text(str(told))}")
            else:
                created.append(schedule)
        lists.note(request, created, "A job was created.")
        messages.success(request, f"Jobs created: {len(created)}.")

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        # Django would list every slot that was ever fired.
        schedules = list(objs)
        fired = ScheduleRun.objects.filter(schedule__in=schedules).count()
        denied = set() if self.has_delete_permission(request) else {"schedule"}
        numbers = {"schedules": len(schedules), "slots that were fired": fired}
        return [str(schedule) for schedule in schedules], numbers, denied, []

    # The form.

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        schedule = None if object_id is None else self.get_object(request, unquote(object_id))
        if request.method == "POST":
            if schedule is not None and not _is_as_signed(schedule):
                # To save it would sign what somebody else has written.
                messages.error(
                    request,
                    "This row was changed by something that cannot sign it: its signature does not hold, so"
                    " it does not run, and is not saved. Delete it and make a new one.",
                )
                return HttpResponseRedirect(request.path)
            if "_preview" in request.POST:
                return self._preview(request, schedule, form_url)
        context: dict[str, Any] = {"preview_max": UPCOMING}
        if schedule is not None:
            context |= {"preview": _preview(schedule, saved=True), **_runs(schedule)}
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def _preview(self, request: HttpRequest, schedule: Any, form_url: str) -> HttpResponse:
        """Show the form as it was sent, with the next runs; nothing is saved."""
        allowed = (
            self.has_change_permission(request, schedule) if schedule else self.has_add_permission(request)
        )
        if not allowed:
            raise PermissionDenied
        form = self.get_form(request, schedule, change=schedule is not None)(request.POST, instance=schedule)
        valid = form.is_valid()
        read_only = self.get_readonly_fields(request, schedule)
        page = helpers.AdminForm(
            form, list(self.get_fieldsets(request, schedule)), {}, read_only, model_admin=self
        )
        words = "Change" if schedule else "Add"
        context = {
            **self.admin_site.each_context(request),
            "title": f"{words} {self.opts.verbose_name}",
            "adminform": page,
            "object_id": schedule.pk if schedule else None,
            "original": schedule,
            "is_popup": False,
            "to_field": None,
            "media": self.media + page.media,
            "inline_admin_formsets": [],
            "errors": helpers.AdminErrorList(form, []),
            "preserved_filters": self.get_preserved_filters(request),
            "preview_max": UPCOMING,
            "preview": _preview(form.instance, saved=False) if valid else None,
            "previewed": valid,
        }
        return self.render_change_form(
            request,
            context,
            add=schedule is None,
            change=schedule is not None,
            obj=schedule,
            form_url=form_url,
        )


def _preview(schedule: Schedule, *, saved: bool) -> dict[str, Any]:
    """Return the next runs, by the clock of the schedule's own zone."""
    try:
        if not saved:  # What saving would make of it.
            if schedule._state.adding:
                schedule._begin()
            else:
                schedule._go_on(schedule._changed())
        slots = schedule.upcoming(UPCOMING)
    except DBQError as error:
        return {"zone": schedule.zone_name, "error": str(error), "slots": []}
    return {
        "zone": schedule.zone_name,
        "slots": [slot.strftime("%a %Y-%m-%d %H:%M:%S %Z") for slot in slots],
    }


def _runs(schedule: Schedule) -> dict[str, Any]:
    runs = schedule.runs.order_by("-slot").select_related("job")[:RUNS]
    return {
        "runs": [
            (shown.moment(run.slot), run.job and run.job.pk, shown.badge(run.job.state) if run.job else None)
            for run in runs
        ],
        "failures": schedule.failures,
        "schedule_error": redact_text(shown.cut(schedule.error)) if schedule.error else "",
    }


def _call(schedule: Schedule) -> dict[str, Any]:
    """Return the arguments and options of a call as its row has them, also those of types that JSON lacks."""
    found: dict[str, Any] = {"args": [], "kwargs": {}, "options": {}}
    if schedule.call:
        with suppress(ValueError, TypeError):
            found |= json.loads(schedule.call)
    return found


def _refusal_of(path: str) -> str | None:
    """Return why those who edit schedules may not have a function called; None where they may."""
    try:
        return allowlist.refusal_of(path, "the schedules of this form")
    except CallError as error:
        return str(error)


def _is_as_signed(schedule: Schedule) -> bool:
    return schedule.call is None or calls.values_hold(schedule._signed(), schedule.signature)
