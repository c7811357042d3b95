"""Runs a Celery worker and gives it work, against the broker of AMQP_URL."""

import os
import signal
import subprocess
import sys
import tempfile
import uuid

os.environ["INTEROP_QUEUE"] = f"celery.{uuid.uuid4()}"

import celery  # noqa: E402  (tasks.py reads the name of the queue when it is imported)
from celery import chain, group  # noqa: E402
from tasks import add, app, fails, succeeds_at_the_third_try  # noqa: E402

TIMEOUT_SECONDS = 40


def start_worker(output):
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--concurrency", "2"]
    command += ["--hostname", f"interop-{uuid.uuid4()}@localhost", "--loglevel", "INFO"]
    folder = os.path.dirname(os.path.abspath(__file__))
    return subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)


def tasks_return_results():
    assert add.delay(2, 3).get(timeout=TIMEOUT_SECONDS) == 5


def a_group_of_tasks_is_done_by_several_processes():
    results = group(add.s(number, number) for number in range(50))()
    assert results.get(timeout=TIMEOUT_SECONDS) == [2 * number for number in range(50)]


def a_chain_passes_results_on():
    assert chain(add.s(1, 2), add.s(10), add.s(100))().get(timeout=TIMEOUT_SECONDS) == 113


def a_task_is_tried_again():
    assert succeeds_at_the_third_try.delay().get(timeout=TIMEOUT_SECONDS) == 2


def a_task_with_a_countdown_is_done_later():
    assert add.apply_async((1, 1), countdown=1).get(timeout=TIMEOUT_SECONDS) == 2


def errors_come_back_as_exceptions():
    try:
        fails.delay().get(timeout=TIMEOUT_SECONDS)
    except ValueError as error:
        assert str(error) == "on purpose"
    else:
        raise AssertionError("the task did not fail")


def workers_answer_a_broadcast():
    answers = app.control.ping(timeout=5)
    assert any({"ok": "pong"} in answer.values() for answer in answers), answers


def run_checks(worker):
    checks = [
        tasks_return_results,
        a_group_of_tasks_is_done_by_several_processes,
        a_chain_passes_results_on,
        a_task_is_tried_again,
        a_task_with_a_countdown_is_done_later,
        errors_come_back_as_exceptions,
        workers_answer_a_broadcast,
    ]
    for check in checks:
        check()
        print(f"   {check.__name__.replace('_', ' ')}", flush=True)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0, "the worker did not stop in an orderly way"


def main():
    with tempfile.TemporaryFile() as output:
        worker = start_worker(output)
        try:
            run_checks(worker)
        except BaseException:
            output.seek(0)
            print("the worker wrote:", output.read().decode(), sep="\n")
            raise
        finally:
            worker.kill()
            with app.connection() as connection:
                connection.default_channel.queue_delete(os.environ["INTEROP_QUEUE"])
    print(f"ok celery {celery.__version__}")


if __name__ == "__main__":
    main()
