"""host: The connection ELSEWHERE needs an app setting"""

import azure.functions as func

app = func.FunctionApp()


@app.queue_trigger("message", "jobs", connection="ELSEWHERE")
def handler(message: func.QueueMessage) -> None: ...
