"""host: the app setting TICK is not set"""

import azure.functions as func

app = func.FunctionApp()


@app.timer_trigger("timer", "%TICK%")
def handler(timer: func.TimerRequest) -> None: ...
