"""One timer: every minute, what is due goes to the queues."""

import secrets

import azure.functions as func

from shared import bootstrap, logs, scheduling

bp = func.Blueprint()


@bp.function_name("tick")
@bp.timer_trigger(arg_name="timer", schedule="0 * * * * *", run_on_startup=False)
def tick(timer: func.TimerRequest) -> None:
    """Fan out polls and outbox sweeps."""
    with logs.bind(correlation_id=secrets.token_hex(8), job="tick"), logs.telling("tick.failed"):
        logs.log(
            "tick.done", count=scheduling.tick(bootstrap.app()), state="late" if timer.past_due else "on time"
        )
