"""host: 'the_message' is no binding name"""

import azure.functions as func

app = func.FunctionApp()


@app.queue_trigger("the_message", "jobs", connection="STORAGE")
def handler(the_message: func.QueueMessage) -> None: ...
