"""host: can have no poison queue"""

import azure.functions as func

app = func.FunctionApp()


@app.queue_trigger(
    "message", "long-long-long-long-long-long-long-long-long-long-long-name", connection="STORAGE"
)
def handler(message: func.QueueMessage) -> None: ...
