"""One test a Celery setting of docs/guarantees.md, on the application that workers and the API really use."""

import subprocess
import sys

import pytest

from app.queue import KEY_PREFIX, SCHEDULES, TASKS, QueueName, TaskName
from app.settings import PROJECT_ROOT, get_settings
from workers.celery import app, load_tasks


@pytest.fixture(scope="module")
def conf():
    return app.conf


@pytest.fixture(scope="module")
def tasks():
    load_tasks()
    return app.tasks


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("accept_content", ["json"]),
        ("task_serializer", "json"),
        ("worker_send_task_events", True),
        ("task_send_sent_event", True),
        ("task_ignore_result", True),
        ("result_backend", None),
        ("task_acks_late", True),
        ("worker_prefetch_multiplier", 1),
        ("worker_disable_prefetch", True),
        ("task_reject_on_worker_lost", False),
        ("task_retry_on_worker_lost", False),
        ("task_publish_retry", False),
        ("broker_connection_timeout", 0.5),
        ("enable_utc", True),
        ("timezone", "UTC"),
        ("task_create_missing_queues", False),
        ("worker_consumer", "workers.consumer:Consumer"),
    ],
)
def test_setting(conf, setting, value):
    assert getattr(conf, setting) == value


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("visibility_timeout", 120),
        ("unacked_restore_interval", 10),
        ("unacked_restore_throttle", 1),
        ("socket_timeout", 5),
        ("socket_connect_timeout", 0.5),
        ("socket_keepalive", True),
        ("health_check_interval", 10),
        ("global_keyprefix", KEY_PREFIX),
        ("priority_steps", list(range(8))),
        ("queue_order_strategy", "priority"),
    ],
)
def test_broker_transport_option(conf, option, value):
    assert conf.broker_transport_options[option] == value


def test_children_are_replaced_before_they_grow_old_or_large(conf):
    assert conf.worker_max_tasks_per_child > 0
    assert conf.worker_max_memory_per_child > 0


def test_shutdown_gives_running_tasks_the_time_of_the_settings(conf):
    assert conf.worker_soft_shutdown_timeout == get_settings().soft_shutdown_s


def test_queues_are_those_that_are_declared(conf):
    assert {queue.name for queue in conf.task_queues} == set(QueueName)
    assert conf.task_default_queue in set(QueueName)


def test_a_worker_without_options_consumes_each_queue(conf):
    assert set(app.amqp.queues.consume_from) == set(QueueName)


@pytest.mark.parametrize("name", TaskName)
def test_task_is_registered_routed_and_limited(conf, tasks, name):
    task, spec = tasks[name], TASKS[name]
    assert conf.task_routes[name] == {"queue": spec.queue}
    assert (task.soft_time_limit, task.time_limit) == (spec.soft_limit_s, spec.hard_limit_s)
    assert 0 < spec.soft_limit_s < spec.hard_limit_s


@pytest.mark.parametrize("name", TaskName)
def test_task_has_the_one_base_class_and_no_retry_of_celerys_own(tasks, name):
    task = tasks[name]
    assert any(base.__name__ == "Work" for base in type(task).__mro__)
    assert not getattr(task, "autoretry_for", ())
    assert task.ignore_result
    assert task.acks_late


def test_no_other_task_is_registered(tasks):
    assert {name for name in tasks if not name.startswith("celery.")} == set(TaskName)


def test_each_schedule_rings_a_registered_task_and_expires_within_its_slot(conf, tasks):
    for name, entry in conf.beat_schedule.items():
        assert entry["task"] in tasks, name
        assert entry["options"]["expires"] <= entry["schedule"], name


def test_each_pass_of_the_issue_is_scheduled(conf):
    every = {name: entry["schedule"] for name, entry in conf.beat_schedule.items()}
    wanted = {"roll-up": 60, "predict": 300, "optimize": 900, "train": 86_400, "sweep": 2, "probe-sites": 30}
    assert wanted.items() <= every.items()
    assert {f"tick-{queue}": 20 for queue in QueueName}.items() <= every.items()
    assert set(SCHEDULES) < set(every)


def test_a_tick_is_rung_on_the_very_queue_that_it_speaks_for(conf):
    for queue in QueueName:
        entry = conf.beat_schedule[f"tick-{queue}"]
        assert (entry["options"]["queue"], entry["args"]) == (queue, (queue,))


def test_beat_keeps_no_file(conf):
    assert conf.beat_scheduler == "celery.beat:Scheduler"


def test_a_worker_whose_tasks_cannot_be_loaded_does_not_start():
    code = """
import sys, workers.celery
from celery import signals
sys.modules["workers.sites"] = None
signals.celeryd_init.send(sender="w")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "workers.sites" in done.stderr
