"""worker: NameError: name 'Clock' is not defined"""

from __future__ import annotations

from typing import TYPE_CHECKING

import azure.functions as func

if TYPE_CHECKING:
    from somewhere import Clock

app = func.FunctionApp()


@app.timer_trigger("timer", "0 * * * * *")
def handler(timer: func.TimerRequest) -> Clock: ...
