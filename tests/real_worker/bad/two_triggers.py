"""worker: A trigger was already registered to this function"""

import azure.functions as func

app = func.FunctionApp()


@app.timer_trigger("timer", "0 * * * * *")
@app.queue_trigger("message", "jobs", connection="STORAGE")
def handler(timer: func.TimerRequest, message: func.QueueMessage) -> None: ...
