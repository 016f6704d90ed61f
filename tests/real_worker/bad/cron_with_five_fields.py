"""host: has 5 fields"""

import azure.functions as func

app = func.FunctionApp()


@app.timer_trigger("timer", "*/5 * * * *")
def handler(timer: func.TimerRequest) -> None: ...
