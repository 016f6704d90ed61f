"""host: 'Sync_Jobs' is no queue name"""

import azure.functions as func

app = func.FunctionApp()


@app.queue_trigger("message", "Sync_Jobs", connection="STORAGE")
def handler(message: func.QueueMessage) -> None: ...
