"""Timers that write down when they ran, as lines of the file RECORD."""

import json
import os
import time
from pathlib import Path

import azure.functions as func

app = func.FunctionApp()


def record(name: str, **facts: object) -> None:
    with Path(os.environ["RECORD"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"name": name, "at": time.time(), **facts}) + "\n")


@app.timer_trigger("timer", "* * * * * *")
def every_second(timer: func.TimerRequest) -> None:
    record("every_second", past_due=timer.past_due, following=timer.schedule_status["Next"])


@app.timer_trigger("timer", "%SLOW_SCHEDULE%")
def slow(timer: func.TimerRequest) -> None:
    record("slow starts")
    time.sleep(1.3)
    record("slow ends")


@app.timer_trigger("timer", "0 0 0 1 1 *", run_on_startup=True)
def at_start(timer: func.TimerRequest) -> None:
    record("at_start")


@app.timer_trigger("timer", "* * * * * *")
def fails(timer: func.TimerRequest) -> None:
    record("fails")
    raise RuntimeError("a bug")


@app.timer_trigger("timer", "0 0 0 1 1 *")
def by_hand(timer: func.TimerRequest) -> None:
    record("by_hand")
