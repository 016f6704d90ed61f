"""host: a retry policy has no effect on queueTrigger"""

import azure.functions as func

app = func.FunctionApp()


@app.queue_trigger("message", "jobs", connection="STORAGE")
@app.retry(strategy="fixed_delay", max_retry_count="3", delay_interval="00:00:05")
def handler(message: func.QueueMessage) -> None: ...
