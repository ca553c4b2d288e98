"""Celery's configuration: docs/guarantees.md has the reasons, tests/unit/test_celeryconfig.py a test a setting.

The job row in Postgres is the truth, so there is no result backend, no retry by Celery and no ETA: messages only ring.
"""

from kombu import Exchange, Queue

from app.queue import KEY_PREFIX, PRIORITY_STEPS, SCHEDULES, TASKS, QueueName, TaskName
from app.settings import get_settings

_settings = get_settings()

broker_url = _settings.broker_url
broker_connection_timeout = _settings.ring_timeout_s
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
broker_transport_options = {
    "visibility_timeout": 120,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "socket_timeout": 5,
    "socket_connect_timeout": _settings.ring_timeout_s,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "global_keyprefix": KEY_PREFIX,
    "priority_steps": list(PRIORITY_STEPS),
    "queue_order_strategy": "priority",
}

accept_content = ["json"]
task_serializer = "json"
enable_utc = True
timezone = "UTC"

task_queues = [Queue(name, Exchange(name), routing_key=name) for name in QueueName]
task_default_queue = QueueName.CONTROL
task_create_missing_queues = False
task_routes = {name: {"queue": spec.queue} for name, spec in TASKS.items()}

task_ignore_result = True
result_backend = None
task_acks_late = True
task_acks_on_failure = True
task_acks_on_timeout = True
task_reject_on_worker_lost = False
task_retry_on_worker_lost = False
task_publish_retry = False
task_send_sent_event = True

worker_send_task_events = True
worker_prefetch_multiplier = 1
worker_disable_prefetch = True
worker_concurrency = _settings.worker_slots
worker_max_tasks_per_child = 1000
worker_max_memory_per_child = 1_500_000  # KiB
worker_soft_shutdown_timeout = _settings.soft_shutdown_s
worker_consumer = "workers.consumer:Consumer"
worker_cancel_long_running_tasks_on_connection_loss = False
worker_hijack_root_logger = False
worker_proc_alive_timeout = 30

# Beat only rings: a slot is unique in Postgres, so several beats do no harm. Each message expires with its slot.
beat_scheduler = "celery.beat:Scheduler"  # keeps no file: what was fired stands in schedule_slot
beat_schedule = {
    **{
        name: {
            "task": TaskName.FIRE,
            "schedule": getattr(_settings, schedule.every),
            "args": (name,),
            "options": {"expires": getattr(_settings, schedule.every)},
        }
        for name, schedule in SCHEDULES.items()
    },
    "sweep": {
        "task": TaskName.SWEEP,
        "schedule": _settings.sweep_every_s,
        "options": {"expires": _settings.sweep_every_s, "priority": 0},
    },
    **{
        f"tick-{queue}": {
            "task": TaskName.TICK,
            "schedule": _settings.tick_every_s,
            "args": (queue,),
            "options": {"queue": queue, "expires": _settings.tick_every_s, "priority": 0},
        }
        for queue in QueueName
    },
}
