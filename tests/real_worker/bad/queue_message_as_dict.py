"""worker: Python type annotation dict"""

import azure.functions as func

app = func.FunctionApp()


@app.queue_trigger("message", "jobs", connection="STORAGE")
def handler(message: dict) -> None: ...
