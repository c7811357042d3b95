"""The tasks of the Celery check. Results come back through the rpc backend, so through AMQP as well."""

import os

from celery import Celery

app = Celery("interop", broker=os.environ["AMQP_URL"], backend="rpc://")
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_connection_timeout=10,
    result_expires=60,
    task_acks_late=True,
    task_default_queue=os.environ["INTEROP_QUEUE"],
    worker_prefetch_multiplier=1,
)


@app.task
def add(x, y):
    return x + y


@app.task(bind=True, max_retries=3)
def succeeds_at_the_third_try(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task
def fails():
    raise ValueError("on purpose")
