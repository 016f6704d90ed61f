"""host: handler does not say that it returns None"""

import azure.functions as func

app = func.FunctionApp()


@app.queue_trigger("message", "jobs", connection="STORAGE")
def handler(message: func.QueueMessage) -> str:
    return "the worker fails at this"
