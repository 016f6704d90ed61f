"""host: 'sync-poison' can have no poison queue"""

import azure.functions as func

app = func.FunctionApp()


@app.queue_trigger("message", "sync-poison", connection="STORAGE")
def handler(message: func.QueueMessage) -> None: ...
