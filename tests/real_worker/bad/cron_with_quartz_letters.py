"""host: 'L' is no NCRONTAB day"""

import azure.functions as func

app = func.FunctionApp()


@app.timer_trigger("timer", "0 0 0 L * *")
def handler(timer: func.TimerRequest) -> None: ...
