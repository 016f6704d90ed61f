"""host: handler does not say that it returns None"""

import azure.functions as func

app = func.FunctionApp()


@app.queue_trigger("message", "jobs", connection="STORAGE")
@app.queue_output("$return", "more", connection="STORAGE")
def handler(message: func.QueueMessage) -> str:
    return '["one message", "that becomes two"]'
